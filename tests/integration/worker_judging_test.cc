// A whole worker that scores what it restores, and leaves the choice of the model to a recommender. Both judge by rules that a test can
// follow: see tests/fakes/worker_fixture.h.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "core/base/digest.h"
#include "core/media/index_video.h"
#include "core/media/picture.h"
#include "core/media/plan_encode.h"
#include "core/rpc/video_messages.h"
#include "tests/fakes/worker_fixture.h"
#include "worker/judge_pictures.h"
#include "worker/judge_video.h"

namespace nsic {
namespace {

// Red outweighs blue, or not, everywhere.
enum class Hue { kRed, kBlue };

class JudgingTest : public WorkerTest {
 protected:
  std::string Coloured(Hue hue, int width, int height, const std::string& suffix = ".png") {
    VImage grey = Noise(width, height, 1, VIPS_FORMAT_UCHAR) / 2;
    const std::vector<VImage> bands =
        hue == Hue::kRed ? std::vector<VImage>{grey + 90, grey + 40, grey} : std::vector<VImage>{grey, grey + 40, grey + 90};
    const std::string path = Path("coloured" + suffix);
    VImage::bandjoin(bands)
        .cast(VIPS_FORMAT_UCHAR)
        .copy(VImage::option()->set("interpretation", VIPS_INTERPRETATION_sRGB))
        .write_to_file(path.c_str());
    return Slurp(path);
  }

  v1::PackRef Store(const ModelPack& pack) {
    const std::string bundle = BundleModelPack(pack);
    v1::PackRef ref;
    ref.set_blob(coordinator_.blobs.Store(bundle));
    ref.set_blob_size(static_cast<int64_t>(bundle.size()));
    ref.set_name(pack.card.name);
    ref.set_model_id(PackIdentity(UnbundleModelPack(bundle, "bundle")->card));
    return ref;
  }
  v1::PackRef Scorer() {
    ModelPack pack = IdentityPack();
    pack.card.name = "ns-iqa";
    pack.card.task = ModelTask::kScore;
    return Store(pack);
  }
  v1::PackRef Recommender() {
    ModelPack pack = IdentityPack();
    pack.card.name = "ns-c";
    pack.card.task = ModelTask::kClassify;
    pack.card.labels = {"red", "blue"};
    return Store(pack);
  }
  // Pictures of the label "red" are restored by a model; others need none.
  v1::PackRef Candidate() {
    ModelPack pack = IdentityPack();
    pack.card.name = "for-red";
    pack.card.tiling.tile = 128;
    return Store(pack);
  }
  void LetChoose(v1::LeasedTask* task) {
    v1::RestoreOptions& options = *task->mutable_options();
    *options.mutable_recommender() = Recommender();
    options.set_auto_model(true);
    options.set_model_id(options.recommender().model_id());
    options.set_model_name("auto");
    task->set_model_blob(options.recommender().blob());
    task->set_model_blob_size(options.recommender().blob_size());
    v1::Candidate* const candidate = options.add_candidates();
    candidate->set_label("red");
    *candidate->mutable_pack() = Candidate();
  }
  v1::TaskResult ResultOf(const std::string& token) {
    std::lock_guard<std::mutex> lock(coordinator_.work.mutex);
    return coordinator_.work.completed[token];
  }
  // What the fake scorer makes of a file.
  static double MeanOf(const Decoded& picture, const Rect& part) {
    double sum = 0;
    for (int y = part.y; y < part.bottom(); ++y) {
      for (int x = part.x; x < part.right(); ++x) {
        for (int band = 0; band < 3; ++band) sum += picture.at(x, y, band);
      }
    }
    return 100 * sum / (3.0 * static_cast<double>(part.area())) / (picture.depth == 16 ? 65535 : 255);
  }
};

// Of the parts that are looked at.
double SampledMean(const Decoded& picture, const std::function<double(const Decoded&, const Rect&)>& mean) {
  double sum = 0, area = 0;
  for (const Rect& part : SamplesToScore({picture.width, picture.height})) {
    sum += mean(picture, part) * static_cast<double>(part.area());
    area += static_cast<double>(part.area());
  }
  return sum / area;
}

TEST_F(JudgingTest, WholePicturesAreScoredAsTheyComeAndAsTheyAreDelivered) {
  const struct {
    const char* name;
    int width, height;
    double scale;
    const char* format;
  } kRows[] = {
      {"small", 64, 48, 0, "keep"}, {"in parts", 1500, 1100, 0, "keep"}, {"scaled", 200, 100, 0.5, "jpg"}, {"one pixel", 1, 1, 0, "keep"}};
  std::map<std::string, std::string> sources;
  for (const auto& row : kRows) {
    sources[row.name] = Png(row.width, row.height);
    v1::LeasedTask task = IdentityTask(&coordinator_, row.name, sources[row.name], row.width, row.height);
    *task.mutable_options()->mutable_scorer() = Scorer();
    task.mutable_options()->set_scale(row.scale);
    task.mutable_options()->set_format(row.format);
    coordinator_.Add(task);
  }
  StartWorker();
  for (const auto& row : kRows) {
    ExpectDone(row.name);
    const v1::TaskResult result = ResultOf(row.name);
    ASSERT_TRUE(result.has_scores()) << row.name;
    EXPECT_EQ(result.judging_error(), "") << row.name;
    EXPECT_FALSE(result.has_recommendation()) << row.name;
    Spill(Path("source"), sources[row.name]);
    Spill(Path("output"), coordinator_.Output(row.name));
    EXPECT_NEAR(result.scores().before(), SampledMean(DecodeFile(Path("source")), MeanOf), 1e-3) << row.name;
    EXPECT_NEAR(result.scores().after(), SampledMean(DecodeFile(Path("output")), MeanOf), 1e-3) << row.name;
  }
  EXPECT_EQ(script_.scored, 6 + 8) << "the large one from four parts, before and after";
}

TEST_F(JudgingTest, ATileTaskScoresItsPart) {
  const std::string png = Png(300, 200);
  v1::LeasedTask task = IdentityTask(&coordinator_, "tile", png, 300, 200);
  *task.mutable_options()->mutable_scorer() = Scorer();
  task.mutable_region()->set_x(96);
  task.mutable_region()->set_y(48);
  task.mutable_region()->set_width(144);
  task.mutable_region()->set_height(100);
  coordinator_.Add(task);
  StartWorker();
  ExpectDone("tile");
  Spill(Path("source.png"), png);
  const double mean = MeanOf(DecodeFile(Path("source.png")), {96, 48, 144, 100});
  EXPECT_NEAR(ResultOf("tile").scores().before(), mean, 1e-3);
  EXPECT_NEAR(ResultOf("tile").scores().after(), mean, 1e-3);
}

TEST_F(JudgingTest, WhatCannotBeScoredIsRestoredAllTheSame) {
  v1::LeasedTask missing = Task("no scorer");
  *missing.mutable_options()->mutable_scorer() = Scorer();
  missing.mutable_options()->mutable_scorer()->set_model_id(std::string(64, '0'));
  coordinator_.Add(missing);
  StartWorker();
  ExpectDone("no scorer");
  EXPECT_FALSE(ResultOf("no scorer").has_scores());
  EXPECT_NE(ResultOf("no scorer").judging_error().find("instead of 0000"), std::string::npos) << ResultOf("no scorer").judging_error();

  // A scorer that fails: the enhancer, which obeys the same switch, has passed its turn by then.
  v1::LeasedTask broken = Task("broken");
  LetChoose(&broken);
  *broken.mutable_options()->mutable_scorer() = Scorer();
  const std::string blue = Coloured(Hue::kBlue, 100, 80);
  broken.mutable_source()->mutable_content()->set_sha256(coordinator_.blobs.Store(blue));
  broken.mutable_source()->mutable_content()->set_size(static_cast<int64_t>(blue.size()));
  script_.not_a_number = true;
  coordinator_.Add(broken);
  ExpectDone("broken");
  EXPECT_NE(ResultOf("broken").judging_error().find("NaN"), std::string::npos) << ResultOf("broken").judging_error();
}

TEST_F(JudgingTest, TheRecommenderChoosesAModelOrNone) {
  const struct {
    const char* name;
    Hue hue;
    const char* suffix;
    const char* format;
    double probability;
  } kRows[] = {{"red png", Hue::kRed, ".png", "png", 0.8},
               {"red jpeg", Hue::kRed, ".jpg", "jpeg", 0.9},  // its tables are looked at
               {"blue png", Hue::kBlue, ".png", "png", 0.8},
               {"blue jpeg", Hue::kBlue, ".jpg", "jpeg", 0.9}};
  std::map<std::string, std::string> sources;
  const std::string candidate = Candidate().model_id();
  for (const auto& row : kRows) {
    sources[row.name] = Coloured(row.hue, 700, 300, row.suffix);
    v1::LeasedTask task = IdentityTask(&coordinator_, row.name, sources[row.name], 700, 300, row.format);
    LetChoose(&task);
    task.mutable_options()->set_format("png");
    coordinator_.Add(task);
  }
  StartWorker();
  for (const auto& row : kRows) {
    ExpectDone(row.name);
    ExpectOutput(row.name, sources[row.name]);
    const v1::TaskResult result = ResultOf(row.name);
    const bool red = row.hue == Hue::kRed;
    EXPECT_EQ(result.recommendation().label(), red ? "red" : "blue") << row.name;
    EXPECT_NEAR(result.recommendation().probability(), row.probability, 1e-9) << row.name;
    EXPECT_EQ(result.recommendation().model(), red ? "for-red" : "") << row.name;
    EXPECT_EQ(result.model_id(), red ? candidate : "") << row.name;
    EXPECT_EQ(result.precision(), red ? "fp32" : "") << row.name;
  }
  StopWorker();
  // What passes untouched says nothing about the speed of what does not.
  for (const v1::LeaseRequest& lease : coordinator_.work.leases) EXPECT_LE(lease.speeds_size(), 1);
}

TEST_F(JudgingTest, AllTasksOfAFileSeeTheSame) {
  const std::string jpeg = Coloured(Hue::kRed, 900, 600, ".jpg");
  const auto add = [&](const std::string& token, const Rect& region) {
    v1::LeasedTask task = IdentityTask(&coordinator_, token, jpeg, 900, 600, "jpeg");
    LetChoose(&task);
    if (!region.empty()) {
      task.mutable_region()->set_x(region.x);
      task.mutable_region()->set_y(region.y);
      task.mutable_region()->set_width(region.width);
      task.mutable_region()->set_height(region.height);
    }
    coordinator_.Add(task);
  };
  const std::vector<Rect> kRegions = {{0, 0, 450, 600}, {450, 0, 450, 300}, {450, 300, 450, 300}};
  for (size_t i = 0; i < kRegions.size(); ++i) add("tile " + std::to_string(i), kRegions[i]);
  StartWorker();
  for (size_t i = 0; i < kRegions.size(); ++i) ExpectDone("tile " + std::to_string(i));
  const int looked = script_.classified;
  EXPECT_EQ(looked, static_cast<int>(CropsToClassify({900, 600}).size())) << "one of them looks for all";
  add("whole", {});
  ExpectDone("whole");
  EXPECT_EQ(script_.classified, looked);
  StopWorker();
  StartWorker();  // and a worker that begins with the whole sees what the tiles saw
  add("anew", {});
  ExpectDone("anew");
  EXPECT_EQ(ResultOf("anew").recommendation().SerializeAsString(), ResultOf("tile 2").recommendation().SerializeAsString());
}

TEST_F(JudgingTest, AJobWithAModelOfItsOwnIsToldWhatWouldSuit) {
  const std::string png = Coloured(Hue::kBlue, 300, 200);
  const auto task = [&](const std::string& token) {
    v1::LeasedTask made = IdentityTask(&coordinator_, token, png, 300, 200);
    *made.mutable_options()->mutable_recommender() = Recommender();
    v1::Candidate* const candidate = made.mutable_options()->add_candidates();
    candidate->set_label("blue");
    candidate->mutable_pack()->set_name("not-here");
    return made;
  };
  coordinator_.Add(task("whole"));
  v1::LeasedTask first = task("first");
  first.mutable_region()->set_width(100);
  first.mutable_region()->set_height(200);
  coordinator_.Add(first);
  v1::LeasedTask second = first;
  second.set_token("second");
  second.mutable_region()->set_x(100);
  coordinator_.Add(second);
  StartWorker();
  for (const char* token : {"whole", "first", "second"}) ExpectDone(token);
  EXPECT_EQ(ResultOf("whole").recommendation().label(), "blue");
  EXPECT_EQ(ResultOf("whole").recommendation().model(), "not-here");
  EXPECT_EQ(ResultOf("whole").model_id(), task("any").options().model_id()) << "what the job says runs";
  EXPECT_TRUE(ResultOf("first").has_recommendation());
  EXPECT_FALSE(ResultOf("second").has_recommendation()) << "one task tells it for the file";
}

TEST_F(JudgingTest, AnAssessmentRestoresNothing) {
  const std::string jpeg = Coloured(Hue::kRed, 300, 200, ".jpg");
  v1::LeasedTask task = IdentityTask(&coordinator_, "assess", jpeg, 300, 200, "jpeg");
  v1::RestoreOptions& options = *task.mutable_options();
  *options.mutable_scorer() = Scorer();
  *options.mutable_recommender() = Recommender();
  options.set_assess(true);
  options.set_model_id(options.scorer().model_id());
  coordinator_.Add(task);
  v1::LeasedTask broken = task;
  broken.set_token("broken");
  broken.mutable_source()->mutable_content()->set_sha256(coordinator_.blobs.Store(jpeg.substr(0, jpeg.size() / 2)));
  broken.mutable_source()->mutable_content()->set_size(static_cast<int64_t>(jpeg.size() / 2));
  coordinator_.Add(broken);
  StartWorker();
  ExpectDone("assess");
  const v1::TaskResult result = ResultOf("assess");
  EXPECT_EQ(script_.computing, 0);
  EXPECT_EQ(result.model_id(), options.scorer().model_id());
  EXPECT_EQ(result.recommendation().label(), "red");
  v1::Assessment assessment;
  ASSERT_TRUE(assessment.ParseFromString(coordinator_.Output("assess")));
  Spill(Path("source.jpg"), jpeg);
  EXPECT_NEAR(assessment.score(), MeanOf(DecodeFile(Path("source.jpg")), {0, 0, 300, 200}), 1e-3);
  EXPECT_EQ(assessment.score(), result.scores().before());
  ASSERT_EQ(assessment.classes_size(), 2);
  EXPECT_EQ(assessment.classes(0).label(), "red");
  EXPECT_NEAR(assessment.classes(0).probability(), 0.9, 1e-9);
  ASSERT_TRUE(WaitUntil([&] { return coordinator_.Failed("broken"); }));
  EXPECT_EQ(coordinator_.work.failed["broken"].failure_class(), v1::FAILURE_CLASS_BAD_INPUT);
}

// Videos

class JudgingVideoTest : public JudgingTest {
 protected:
  // 60 frames at 25 a second of one colour plus a moving pattern, all different unless `held`.
  void MakeFilm(const std::string& colour, bool held = false) {
    const std::string input = held ? "color=c=" + colour + ":size=96x64:rate=25:duration=2.4"
                                   : "color=c=" + colour + ":size=96x64:rate=25:duration=2.4,noise=alls=20:allf=t:all_seed=7";
    const std::string command =
        "ffmpeg -v error -nostdin -y -f lavfi -i '" + input + "' -c:v libx264 -g 12 -pix_fmt yuv420p '" + Path("film.mkv") + "'";
    ASSERT_EQ(std::system(command.c_str()), 0) << command;
    const Result<VideoProbe> probe = ProbeVideo(Path("film.mkv"));
    ASSERT_TRUE(probe.ok()) << probe.status();
    const Result<VideoIndex> index = IndexVideo(Path("film.mkv"), probe->info, true, CancelToken(), [](double) {});
    ASSERT_TRUE(index.ok()) << index.status();
    index_ = *index;
    info_ = probe->info;
    EncodeOptions options;
    options.codec = "ffv1";
    const Result<EncodePlan> plan = PlanEncode(*probe, options, 1);
    ASSERT_TRUE(plan.ok()) << plan.status();
    plan_ = *plan;
  }
  v1::LeasedTask Segment(const std::string& token, int first, int count) {
    v1::LeasedTask task = IdentityTask(&coordinator_, token, Slurp(Path("film.mkv")), 1, 1);
    v1::VideoInfo& video = *task.mutable_source()->mutable_video();
    ToMessage(info_, plan_, &video);
    video.mutable_range()->set_count(static_cast<int>(index_.pts.size()));
    v1::VideoIndex message;
    ToMessage(index_, &message);
    const std::string bytes = message.SerializeAsString();
    video.mutable_index()->set_sha256(coordinator_.blobs.Store(bytes));
    video.mutable_index()->set_size(static_cast<int64_t>(bytes.size()));
    nsic::Segment segment;
    segment.first = first;
    segment.pts.assign(index_.pts.begin() + first, index_.pts.begin() + first + count);
    segment.starts.push_back({index_.pts[0], index_.key_frames[0].position});
    ToMessage(segment, task.mutable_segment());
    return task;
  }

  VideoInfo info_;
  VideoIndex index_;
  EncodePlan plan_;
};

TEST_F(JudgingVideoTest, EveryNthFrameIsScored) {
  MakeFilm("0x804020");
  const struct {
    const char* name;
    int first, count, every;  // every: -1: not said
    std::vector<int> frames;
  } kRows[] = {{"seventh", 0, 30, 7, {0, 7, 14, 21, 28}},
               {"of the next segment", 30, 30, 7, {35, 42, 49, 56}},
               {"usual", 0, 60, -1, {0, 50}},  // two seconds are 50 frames
               {"none", 0, 10, 0, {}},
               {"between", 1, 20, 50, {}}};
  for (const auto& row : kRows) {
    v1::LeasedTask task = Segment(row.name, row.first, row.count);
    *task.mutable_options()->mutable_scorer() = Scorer();
    if (row.every >= 0) task.mutable_options()->set_score_every(row.every);
    coordinator_.Add(task);
  }
  StartWorker();
  for (const auto& row : kRows) {
    ExpectDone(row.name);
    const v1::TaskResult result = ResultOf(row.name);
    EXPECT_EQ(result.judging_error(), "") << row.name;
    EXPECT_EQ(result.has_scores(), !row.frames.empty()) << row.name;
    std::vector<int> frames;
    for (const v1::FrameScore& frame : result.scores().frames()) {
      frames.push_back(frame.frame());
      EXPECT_NEAR(frame.before(), frame.after(), 0.3) << row.name << ": the identity";
      EXPECT_NEAR(frame.before(), 100.0 * (0x80 + 0x40 + 0x20) / 3 / 255, 5) << row.name;
    }
    EXPECT_EQ(frames, row.frames) << row.name;
  }
}

TEST_F(JudgingVideoTest, AFrameThatRepeatsIsScored) {
  MakeFilm("0x804020", /*held=*/true);
  v1::LeasedTask task = Segment("held", 0, 60);
  *task.mutable_options()->mutable_scorer() = Scorer();
  task.mutable_options()->set_score_every(10);
  coordinator_.Add(task);
  StartWorker();
  ExpectDone("held");
  EXPECT_EQ(ResultOf("held").scores().frames_size(), 6);
  EXPECT_GT(ResultOf("held").frames_repeated(), 30);
  EXPECT_EQ(ResultOf("held").frames(), 60);
}

TEST_F(JudgingVideoTest, AVideosModelIsChosenFromAllOfIt) {
  for (const char* colour : {"0x804020", "0x204080"}) {
    const bool red = std::string(colour) == "0x804020";
    MakeFilm(colour);
    for (const auto& [first, count] : {std::pair(0, 30), std::pair(30, 30)}) {
      v1::LeasedTask task = Segment(std::string(colour) + std::to_string(first), first, count);
      LetChoose(&task);
      coordinator_.Add(task);
    }
    if (loop_ == nullptr) StartWorker();
    const int before = script_.classified;
    for (const char* first : {"0", "30"}) {
      const std::string token = colour + std::string(first);
      ExpectDone(token);
      const v1::TaskResult result = ResultOf(token);
      EXPECT_EQ(result.recommendation().label(), red ? "red" : "blue") << token;
      EXPECT_EQ(result.model_id(), red ? Candidate().model_id() : "") << token;
      EXPECT_EQ(result.frames(), 30) << token;
    }
    EXPECT_LE(script_.classified - before, static_cast<int>(FramesToClassify(index_).size())) << "once for both segments";
  }
}

TEST(JudgePartsTest, BlocksCoverThePictureAndCropsLieInside) {
  for (const Size size : {Size{1, 1}, Size{1024, 1024}, Size{1025, 3}, Size{5000, 3001}, Size{255, 257}, Size{100'000, 20}}) {
    int64_t area = 0;
    for (const Rect& block : BlocksToScore(size)) {
      area += block.area();
      EXPECT_LE(std::max(block.width, block.height), 1024);
      EXPECT_GE(2 * std::min(block.width, block.height), std::min({size.width, size.height, 1024})) << "no slivers";
      EXPECT_TRUE((Rect{0, 0, size.width, size.height}.Contains(block)));
    }
    EXPECT_EQ(area, size.area()) << size.width << "x" << size.height;
    for (const Rect& crop : CropsToClassify(size)) {
      EXPECT_TRUE((Rect{0, 0, size.width, size.height}.Contains(crop)));
      EXPECT_EQ(crop.x % 8 + crop.y % 8, 0);
    }
    EXPECT_LE(CropsToClassify(size).size(), 16u);
    int64_t sampled = 0;
    for (const Rect& sample : SamplesToScore(size)) {
      sampled += sample.area();
      EXPECT_TRUE((Rect{0, 0, size.width, size.height}.Contains(sample)));
    }
    EXPECT_EQ(sampled, size.area() <= 512 * 512 ? size.area() : sampled);
    EXPECT_GT(sampled, 0);
    EXPECT_LE(sampled, 512 * 512);
  }
}

TEST(JudgePartsTest, SamplesAreInDifferentRowsAndColumns) {
  std::set<int> columns, rows;
  for (const Rect& crop : SampleCrops({2000, 1500})) {
    columns.insert(crop.x);
    rows.insert(crop.y);
  }
  EXPECT_EQ(columns.size(), 4u);
  EXPECT_EQ(rows.size(), 4u);
  EXPECT_EQ(SampleCrops({600, 300}).size(), 4u) << "of six";
  EXPECT_EQ(SampleCrops({300, 200}).size(), 2u) << "all";
}

TEST(JudgePartsTest, FramesAreSpreadOverTheVideoAndNearKeyFrames) {
  VideoIndex index;
  for (int i = 0; i < 1000; ++i) index.pts.push_back(i);
  index.key_frames = {{0, -1}, {400, -1}};
  EXPECT_EQ(FramesToClassify(index), (std::vector<int>{24, 424}));
  index.key_frames.clear();
  for (int i = 0; i < 1000; i += 10) index.key_frames.push_back({i, -1});
  EXPECT_EQ(FramesToClassify(index), (std::vector<int>{62, 187, 312, 437, 562, 687, 812, 937}));
  index.pts.resize(1);
  EXPECT_EQ(FramesToClassify(index), std::vector<int>{0});
}

TEST(JudgePartsTest, TheMeanOfClassesIsInOrder) {
  const Classes mean = MeanOfClasses({{{"a", 0.9}, {"b", 0.1}}, {{"b", 0.7}, {"c", 0.3}}, {{"b", 0.6}, {"a", 0.4}}});
  ASSERT_EQ(mean.size(), 3u);
  EXPECT_EQ(mean[0].first, "b");
  EXPECT_NEAR(mean[0].second, 1.4 / 3, 1e-9);
  EXPECT_EQ(mean[1].first, "a");
  EXPECT_NEAR(mean[1].second, 1.3 / 3, 1e-9);
  const Classes geometric = GeometricMeanOfClasses({{{"a", 0.9}, {"b", 0.1}}, {{"b", 0.5}, {"a", 0.5}}});
  EXPECT_EQ(geometric[0].first, "a");
  EXPECT_NEAR(geometric[0].second, 0.75, 1e-9) << "sqrt(0.45) beside sqrt(0.05)";
}

}  // namespace
}  // namespace nsic

int main(int argc, char** argv) {
  const nsic::MediaLibrary media(2);
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
