// Every published architecture: from the bytes of a .pth file to a pack on the disk to a picture.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <string>

#include "core/infer/engine.h"
#include "models/io/model_pack.h"
#include "models/io/pth_reader.h"
#include "tests/unit/pth_writer.h"
#include "tests/unit/random_packs.h"

namespace nsic {
namespace {

struct Row {
  std::string architecture;
  TensorMap tensors;
  std::string wrapper;
  std::string prefix;
  ModelTask task;
  std::map<std::string, int64_t> parameters;
  int scale;
  TileSpec tiling;
};

std::vector<Row> Rows() {
  const TileSpec ns_iqe = BlendedTiles(256, 32, 4, BlendWindow::kFeather);
  std::vector<Row> rows;
  rows.push_back({"ns-iqe", RandomNsIqe(64, 16, 1), "", "", ModelTask::kEnhance, {{"features", 64}, {"blocks", 16}}, 1, ns_iqe});
  rows.push_back({"ns-iqe",
                  RandomNsIqe(16, 2, 2),
                  "generator_state_dict",
                  "module.",
                  ModelTask::kEnhance,
                  {{"features", 16}, {"blocks", 2}},
                  1,
                  ns_iqe});
  rows.push_back({"ns-iqa", RandomNsIqa(3), "model_state_dict", "", ModelTask::kScore, {}, 1, TileSpec()});
  rows.push_back({"ns-c", RandomNsC(5, 4), "", "", ModelTask::kClassify, {}, 1, TileSpec()});
  rows.push_back({"srvgg-compact",
                  RandomSrvggCompact(64, 18, 4, 5),
                  "params",
                  "",
                  ModelTask::kEnhance,
                  {{"features", 64}, {"layers", 18}},
                  4,
                  HaloTiles(256, 18, 1)});
  rows.push_back({"srvgg-compact",
                  RandomSrvggCompact(24, 10, 1, 6),
                  "params_ema",
                  "",
                  ModelTask::kEnhance,
                  {{"features", 24}, {"layers", 10}},
                  1,
                  HaloTiles(256, 10, 1)});
  rows.push_back(
      {"light", RandomLight(48, 8, 7), "", "", ModelTask::kEnhance, {{"features", 48}, {"layers", 8}}, 1, HaloTiles(512, 22, 2)});
  return rows;
}

TEST(ImportCheckpointTest, EveryArchitectureBecomesAPackThatRuns) {
  const std::string folder = testing::TempDir() + "/import_checkpoint_test";
  std::filesystem::remove_all(folder);
  EngineOptions options;
  options.device = "cpu";
  const PlanarImage picture = RandomPicture({40, 36}, 1);
  for (const Row& row : Rows()) {
    SCOPED_TRACE(row.architecture + " in '" + row.wrapper + "'");
    Result<TensorMap> tensors = ParsePth(WritePth(row.tensors, row.wrapper, row.prefix), "test.pth");
    ASSERT_TRUE(tensors.ok()) << tensors.status();
    const Result<ModelPack> imported = ImportCheckpoint(*std::move(tensors), "test-model");
    ASSERT_TRUE(imported.ok()) << imported.status();
    EXPECT_EQ(imported->card.name, "test-model");
    EXPECT_EQ(imported->card.architecture, row.architecture);
    EXPECT_EQ(imported->card.task, row.task);
    EXPECT_EQ(imported->card.parameters, row.parameters);
    EXPECT_EQ(imported->card.scale, row.scale);
    EXPECT_EQ(imported->card.tiling.tile, row.tiling.tile);
    EXPECT_EQ(imported->card.tiling.halo, row.tiling.halo);
    EXPECT_EQ(imported->card.tiling.overlap, row.tiling.overlap);
    EXPECT_EQ(imported->card.tiling.multiple, row.tiling.multiple);
    EXPECT_EQ(imported->card.tiling.blend, row.tiling.blend);

    ASSERT_TRUE(WriteModelPack(folder, *imported).ok());
    const Result<ModelPack> pack = ReadModelPack(folder);
    ASSERT_TRUE(pack.ok()) << pack.status();
    if (row.task == ModelTask::kScore) {
      const Result<std::unique_ptr<Scorer>> scorer = LoadScorer(*pack, options);
      ASSERT_TRUE(scorer.ok()) << scorer.status();
      EXPECT_TRUE((*scorer)->Score(picture).ok());
    } else if (row.task == ModelTask::kClassify) {
      const Result<std::unique_ptr<Classifier>> classifier = LoadClassifier(*pack, options);
      ASSERT_TRUE(classifier.ok()) << classifier.status();
      const auto classes = (*classifier)->Classify(picture, std::nullopt);
      ASSERT_TRUE(classes.ok()) << classes.status();
      EXPECT_EQ(classes->size(), 5u);
    } else {
      const Result<std::unique_ptr<Enhancer>> enhancer = LoadEnhancer(*pack, options);
      ASSERT_TRUE(enhancer.ok()) << enhancer.status();
      int64_t written = 0;
      const ReadPixels read = [&](const Rect& rect, float* planar) {
        EXPECT_EQ(rect, (Rect{0, 0, 40, 36}));
        std::copy(picture.samples.begin(), picture.samples.end(), planar);
        return OkStatus();
      };
      const WritePixels write = [&](const Rect& rect, const float*) {
        written += rect.area();
        return OkStatus();
      };
      const auto stats = (*enhancer)->Enhance(picture.size(), {0, 0, 40, 36}, read, write, CancelToken());
      ASSERT_TRUE(stats.ok()) << stats.status();
      EXPECT_EQ(written, picture.size().area() * row.scale * row.scale);
    }
  }
}

TEST(ImportCheckpointTest, AnUnknownArchitectureIsRefusedWithItsKeys) {
  RandomWeights weights(1);
  weights.Conv("model.0", 8, 3, 3);
  weights.Conv("model.1.sub.0.RDB1.conv1.0", 8, 3, 3);
  const Status status = ImportCheckpoint(weights.Finish(), "esrgan").status();
  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
  for (const char* part : {"srvgg-compact", "ns-iqe", "of 4 are", "model.0.bias", "model.1.sub.0.RDB1.conv1.0.weight"}) {
    EXPECT_NE(status.message().find(part), std::string::npos) << part << ": " << status;
  }
}

TEST(ImportCheckpointTest, ShapesThatFitNoArchitectureAreRefusedAtLoad) {
  TensorMap tensors = RandomNsIqe(16, 2, 1);
  tensors["rrdb_blocks.1.dense3.0.weight"] = tensors["conv_first.weight"];
  const Result<ModelPack> pack = ImportCheckpoint(std::move(tensors), "strange");
  ASSERT_TRUE(pack.ok()) << pack.status();
  EngineOptions options;
  options.device = "cpu";
  const Status status = LoadEnhancer(*pack, options).status();
  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
  EXPECT_NE(status.message().find("model strange: tensor rrdb_blocks.1.dense3.0.weight has shape [16, 3, 3, 3]"), std::string::npos)
      << status;
}

}  // namespace
}  // namespace nsic
