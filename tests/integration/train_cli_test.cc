// The program nsic-train, from a folder of pictures to a measured pack.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <string>
#include <system_error>
#include <thread>
#include <vector>
#include <vips/vips8>

#include "core/base/digest.h"
#include "core/base/files.h"
#include "models/io/model_pack.h"

namespace nsic {
namespace {

using testing::AllOf;
using testing::HasSubstr;

struct Outcome {
  int code = -1;    // -1: ended by a signal
  std::string out;  // standard output and standard error
};

// A running nsic-train.
class Process {
 public:
  explicit Process(std::vector<std::string> arguments) {
    int ends[2];
    EXPECT_EQ(pipe(ends), 0);
    pid_ = fork();
    if (pid_ == 0) {
      dup2(ends[1], STDOUT_FILENO);
      dup2(ends[1], STDERR_FILENO);
      close(ends[0]);
      close(ends[1]);
      arguments.insert(arguments.begin(), std::string(NSIC_BIN) + "/nsic-train");
      std::vector<char*> raw;
      for (std::string& argument : arguments) raw.push_back(argument.data());
      raw.push_back(nullptr);
      execv(raw[0], raw.data());
      _exit(127);
    }
    close(ends[1]);
    output_ = UniqueFd(ends[0]);
  }

  void Terminate() const { kill(pid_, SIGTERM); }
  void Kill() const { kill(pid_, SIGKILL); }

  Outcome Wait() {
    Outcome outcome;
    char buffer[4096];
    for (ssize_t size; (size = read(output_.get(), buffer, sizeof buffer)) > 0;) outcome.out.append(buffer, static_cast<size_t>(size));
    int status = 0;
    waitpid(pid_, &status, 0);
    if (WIFEXITED(status)) outcome.code = WEXITSTATUS(status);
    return outcome;
  }

 private:
  pid_t pid_;
  UniqueFd output_;
};

Outcome Train(std::vector<std::string> arguments) { return Process(std::move(arguments)).Wait(); }

class TrainProgram : public testing::Test {
 protected:
  static void SetUpTestSuite() { ASSERT_EQ(VIPS_INIT("train_cli_test"), 0); }
  static void TearDownTestSuite() { vips_shutdown(); }

  TrainProgram() : folder_(std::filesystem::temp_directory_path() / ("nsic-train-" + RandomHex(8))) {
    for (int i = 0; i < 2; ++i) WritePicture("pictures", i, 81, 70 + i);
    EXPECT_TRUE(WriteFileAtomically(folder_ / "pictures" / "broken.png", "no picture").ok());
  }
  ~TrainProgram() override { std::filesystem::remove_all(folder_); }

  void WritePicture(const std::string& folder, int i, int width, int height) const {
    std::filesystem::create_directories(folder_ / folder);
    std::vector<uint8_t> rgb;
    for (int y = 0; y < height; ++y) {
      for (int x = 0; x < width; ++x) {
        for (int c = 0; c < 3; ++c) {
          rgb.push_back(
              static_cast<uint8_t>(120 + 60 * std::sin(0.2 * (x + 7 * i)) * std::cos(0.15 * y) + (x / 9 + y / 12) % 2 * 40 + 10 * c));
        }
      }
    }
    const vips::VImage image(vips_image_new_from_memory_copy(rgb.data(), rgb.size(), width, height, 3, VIPS_FORMAT_UCHAR));
    image.copy(vips::VImage::option()->set("interpretation", VIPS_INTERPRETATION_sRGB))
        .pngsave((folder_ / folder / ("p" + std::to_string(i) + ".png")).c_str());
  }

  std::vector<std::string> Fit(const std::string& steps) const {
    const std::string f = folder_;
    return {"fit",
            "--data",
            f + "/pictures",
            "--val",
            f + "/pictures",
            "--state",
            f + "/state",
            "--out",
            f + "/pack",
            "--name",
            "tiny",
            "--source",
            "test",
            "--features",
            "4",
            "--layers",
            "0",
            "--batch",
            "2",
            "--patch",
            "32",
            "--threads",
            "1",
            "--learning-rate",
            "0.01",
            "--steps",
            steps};
  }

  // On the folders "photographs" and "drawings", to the pack `name`-pack.
  std::vector<std::string> FitJudge(const std::string& task, const std::string& name, const std::vector<std::string>& more) const {
    const std::string f = folder_;
    std::vector<std::string> arguments = {"fit-judge", "--task", task, "--name", "tiny", "--source", "test", "--batch", "2"};
    for (const std::string prefix : {"--", "--val-"}) {
      arguments.insert(arguments.end(), {prefix + "photographs", f + "/photographs", prefix + "drawings", f + "/drawings"});
    }
    arguments.insert(arguments.end(), {"--state", f + "/" + name, "--out", f + "/" + name + "-pack"});
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
  }

  const std::filesystem::path folder_;
};

TEST_F(TrainProgram, FitsAFolderAndEvaluatesThePack) {
  const Outcome fit = Train(Fit("3"));
  ASSERT_EQ(fit.code, 0) << fit.out;
  EXPECT_THAT(fit.out, AllOf(HasSubstr("validation after step 3"), HasSubstr("skipped"), HasSubstr("broken.png")));

  const std::string pack = folder_ / "pack";
  const std::string before = PackIdentity(ReadModelPack(pack)->card);
  const Outcome eval = Train({"eval", "--pack", pack, "--data", folder_ / "pictures", "--quality", "10,90", "--update-card"});
  ASSERT_EQ(eval.code, 0) << eval.out;
  EXPECT_THAT(eval.out, AllOf(HasSubstr("PSNR RGB"), HasSubstr("PSNR-B"), HasSubstr("SSIM"), HasSubstr("\nJPEG 10      |"),
                              HasSubstr("\nJPEG 90      |"), HasSubstr("2 pictures"), HasSubstr("left out")));
  const Result<ModelPack> updated = ReadModelPack(pack);
  ASSERT_TRUE(updated.ok()) << updated.status();
  EXPECT_THAT(updated->card.card_json, AllOf(HasSubstr("evaluation"), HasSubstr("training")));
  EXPECT_EQ(PackIdentity(updated->card), before);

  const std::string pictures = folder_ / "pictures", drawn = folder_ / "drawn.png";
  const Outcome draw = Train({"side-by-side", "--picture", pictures + "/p0.png", "--piece", "8,10,40,30", "--quality", "10", "--packs",
                              pack, pack, "--out", drawn});
  ASSERT_EQ(draw.code, 0) << draw.out;
  const vips::VImage image = vips::VImage::new_from_file(drawn.c_str());
  EXPECT_EQ(image.width(), 4 * 80 + 3 * 6);  // spoilt, twice restored, original; twice their size, with gaps
  EXPECT_EQ(image.bands(), 3);
  const std::vector<double> corner = image.getpoint(image.width() - 1, image.height() - 1);
  EXPECT_EQ(corner, vips::VImage::new_from_file((pictures + "/p0.png").c_str()).getpoint(8 + 39, 10 + 29));

  std::filesystem::create_directory(folder_ / "others");
  std::filesystem::copy_file(folder_ / "pictures/p0.png", folder_ / "others/p0.png");
  const Outcome others = Train({"eval", "--pack", pack, "--data", folder_ / "others", "--clean", "--update-card"});
  ASSERT_EQ(others.code, 0) << others.out;
  EXPECT_THAT(ReadModelPack(pack)->card.card_json, AllOf(HasSubstr("/pictures\""), HasSubstr("/others\"")));

  const Outcome suite =
      Train({"eval", "--suite", "--packs", folder_, "--photographs", pictures, "--drawings", pictures, "--pictures", "2", "--update-card"});
  ASSERT_EQ(suite.code, 0) << suite.out;
  EXPECT_THAT(suite.out, AllOf(HasSubstr("== tiny: light, "), HasSubstr(" parameters, "), HasSubstr("k multiply-adds a pixel"),
                               HasSubstr("\nJPEG 10, 30  |"), HasSubstr("\nmosaic 4 "), HasSubstr("\nnothing "), HasSubstr("MP/s")));
  EXPECT_THAT(ReadModelPack(pack)->card.card_json, AllOf(HasSubstr("mosaic 4"), HasSubstr("/others\""), HasSubstr("training")));
}

TEST_F(TrainProgram, GoesOnMeasuringWhereItWasKilled) {
  const Outcome fit = Train(Fit("1"));
  ASSERT_EQ(fit.code, 0) << fit.out;
  for (int i = 0; i < 40; ++i) WritePicture("others", i, 200, 190);
  const std::string f = folder_;
  const std::vector<std::string> arguments = {"eval",      "--pack",  f + "/pack", "--data",       f + "/others", "--quality",
                                              "10,90",     "--twice", "10",        "--mosaic",     "2,4,8",       "--clean",
                                              "--threads", "1",       "--state",   f + "/measured"};
  // What stands in the file of the state, with its last line whole.
  const auto kept = [this] {
    std::error_code error;
    for (const auto& entry : std::filesystem::directory_iterator(folder_ / "measured", error)) {
      const std::string lines = *ReadFile(entry.path());
      return lines.substr(0, lines.rfind('\n') + 1);  // npos + 1 is 0
    }
    return std::string();
  };
  Process process(arguments);
  while (kept().empty()) std::this_thread::sleep_for(std::chrono::milliseconds(2));  // the test's time limit is the limit
  process.Kill();
  EXPECT_EQ(process.Wait().code, -1);
  const std::string first = kept();

  const Outcome resumed = Train(arguments);
  ASSERT_EQ(resumed.code, 0) << resumed.out;
  EXPECT_THAT(resumed.out, AllOf(HasSubstr("measured before"), HasSubstr("40 pictures")));
  EXPECT_EQ(kept().substr(0, first.size()), first);  // with the seconds that they took: they were not measured again
  const std::vector<std::string> whole(arguments.begin(), arguments.end() - 2);
  const Outcome at_once = Train(whole);
  const auto rows = [](const std::string& out) {  // without what was measured before and the speed
    const size_t start = out.find("JPEG 10 ");
    return out.substr(start, out.rfind("40 pictures") - start);
  };
  EXPECT_EQ(rows(resumed.out), rows(at_once.out));
}

TEST_F(TrainProgram, TrainsFromAPackedCorpus) {
  const std::string f = folder_;
  const Outcome corpus = Train({"corpus", "--out", f + "/all.corpus", "--source", "drawn by the test", "--licence", "CC0-1.0", "--source",
                                "drawn again", "--licence", "MIT", f + "/pictures", f + "/pictures"});
  ASSERT_EQ(corpus.code, 0) << corpus.out;
  std::vector<std::string> arguments = Fit("1");
  std::replace(arguments.begin(), arguments.end(), f + "/pictures", f + "/all.corpus");
  arguments.insert(arguments.end(), {"--recipe", "ritsuka"});
  const auto source = std::find(arguments.begin(), arguments.end(), "--source");
  arguments.erase(source, source + 2);
  const Outcome fit = Train(arguments);
  ASSERT_EQ(fit.code, 0) << fit.out;
  EXPECT_THAT(fit.out, HasSubstr("mosaic4 "));

  const Outcome exported = Train({"export", "--state", f + "/state", "--out", f + "/exported"});
  ASSERT_EQ(exported.code, 0) << exported.out;
  const Result<ModelPack> pack = ReadModelPack(f + "/exported");
  ASSERT_TRUE(pack.ok()) << pack.status();
  EXPECT_THAT(pack->card.card_json,
              AllOf(HasSubstr("drawn by the test"), HasSubstr("CC0-1.0"), HasSubstr("drawn again"), HasSubstr("MIT")));
}

TEST_F(TrainProgram, StopsOnSigtermAndGoesOn) {
  Process process(Fit("1000000"));
  // The pictures are packed after the signal handlers stand.
  const auto packed = [this] {
    std::error_code error;
    for (const auto& entry : std::filesystem::directory_iterator(folder_ / "state", error)) {
      if (entry.path().extension() == ".corpus") return true;
    }
    return false;
  };
  while (!packed()) std::this_thread::sleep_for(std::chrono::milliseconds(20));  // the test's time limit is the limit
  process.Terminate();
  const Outcome stopped = process.Wait();
  EXPECT_EQ(stopped.code, 1) << stopped.out;
  EXPECT_THAT(stopped.out, HasSubstr("run the same command to go on"));
  const Outcome resumed = Train(Fit("1"));  // as many as are done, or one: it validates, packs and ends
  EXPECT_EQ(resumed.code, 0) << resumed.out;
  EXPECT_THAT(resumed.out, HasSubstr("resumed after step"));
}

TEST_F(TrainProgram, FitsAndMeasuresTheModelsThatJudge) {
  const std::string f = folder_;
  WritePicture("photographs", 0, 160, 150);
  WritePicture("drawings", 1, 150, 144);
  for (const std::string task : {"score", "classify"}) {
    const Outcome fit = Train(FitJudge(task, task, {"--features", "4", "--threads", "1", "--steps", "2"}));
    ASSERT_EQ(fit.code, 0) << fit.out;
    EXPECT_THAT(fit.out, AllOf(HasSubstr("validation after step 2"), HasSubstr(task == "score" ? "pair_order" : "accuracy")));
  }
  const Outcome original = Train(FitJudge("score", "original", {"--architecture", "ns-iqa", "--threads", "2", "--steps", "1"}));
  ASSERT_EQ(original.code, 0) << original.out;
  EXPECT_EQ(ReadModelPack(f + "/original-pack")->card.architecture, "ns-iqa");

  const std::vector<std::string> measure = {
      "eval-judges",    "--scorer",         f + "/score-pack", f + "/original-pack", "--classifier", f + "/classify-pack",
      "--photographs",  f + "/photographs", "--drawings",      f + "/drawings",      "--pictures",   "1",
      "--update-cards", "--state",          f + "/measured"};
  const Outcome eval = Train(measure);
  ASSERT_EQ(eval.code, 0) << eval.out;
  EXPECT_THAT(eval.out, AllOf(HasSubstr("1 photographs, 1 drawings"), HasSubstr("tiny             tiny"), HasSubstr("HEVC"),
                              HasSubstr("WebP"), HasSubstr("in order"), HasSubstr("photograph-heavy"), HasSubstr("right: ")));
  EXPECT_EQ(Train(measure).out, eval.out);  // with the speeds: nothing was measured again
  const Result<ModelPack> pack = ReadModelPack(f + "/classify-pack");
  ASSERT_TRUE(pack.ok()) << pack.status();
  EXPECT_THAT(pack->card.card_json, AllOf(HasSubstr("confusion"), HasSubstr("training")));
  EXPECT_EQ(pack->card.recommends.at("drawing-heavy"), "kyouka-lite");
}

TEST_F(TrainProgram, FitsAScorerOnWhatCodecsMakeOfPictures) {
  const std::string f = folder_;
  for (int i = 0; i < 3; ++i) WritePicture("large", i, 161, 150);
  const Outcome packed = Train({"corpus", "--out", f + "/large.corpus", "--source", "the test", "--licence", "CC0-1.0", f + "/large"});
  ASSERT_EQ(packed.code, 0) << packed.out;
  const Outcome spoilt = Train({"spoil", "--data", f + "/large.corpus", "--out", f + "/spoilt.corpus", "--versions", "2"});
  ASSERT_EQ(spoilt.code, 0) << spoilt.out;
  EXPECT_THAT(spoilt.out, HasSubstr("3 of 3 pictures"));
  // Three pictures of 160 x 150 and two versions of each by three codecs.
  const uintmax_t samples = 160 * 150 * 3 * (3 + 3 * 2 * 3);
  EXPECT_NEAR(static_cast<double>(std::filesystem::file_size(f + "/spoilt.corpus")), static_cast<double>(samples), 20000);
  const Outcome fitted = Train({"fit-judge",
                                "--task",
                                "score",
                                "--photographs",
                                f + "/spoilt.corpus",
                                "--drawings",
                                f + "/spoilt.corpus",
                                "--val-photographs",
                                f + "/spoilt.corpus",
                                "--val-drawings",
                                f + "/spoilt.corpus",
                                "--state",
                                f + "/state",
                                "--out",
                                f + "/pack",
                                "--name",
                                "judge",
                                "--features",
                                "4",
                                "--batch",
                                "4",
                                "--steps",
                                "3"});
  ASSERT_EQ(fitted.code, 0) << fitted.out;
  ASSERT_EQ(Train({"corpus", "--out", f + "/small.corpus", "--source", "the test", "--licence", "CC0-1.0", f + "/pictures"}).code, 0);
  const Outcome small = Train({"spoil", "--data", f + "/small.corpus", "--out", f + "/none.corpus"});
  EXPECT_EQ(small.code, 1) << small.out;
  EXPECT_THAT(small.out, AllOf(HasSubstr("p0.png is smaller than 144x144"), HasSubstr("no picture that is large enough")));
  EXPECT_FALSE(std::filesystem::exists(f + "/none.corpus"));
}

TEST_F(TrainProgram, SaysWhatIsWrong) {
  const std::string f = folder_;
  std::filesystem::create_directories(folder_ / "empty");
  struct Row {
    const char* name;
    std::vector<std::string> arguments;
    int code;
    const char* message;
  };
  const std::vector<Row> rows = {
      {"no command", {}, 2, "subcommand"},
      {"quality 0", {"eval", "--pack", "x", "--data", "y", "--quality", "0"}, 2, "--quality"},
      {"nothing to spoil with", {"eval", "--pack", "x", "--data", "y"}, 2, "--mosaic"},
      {"a suite of nothing", {"eval", "--suite", "--packs", "x"}, 2, "--photographs"},
      {"a piece that is not there",
       {"side-by-side", "--picture", f + "/pictures/p0.png", "--piece", "60,0,40,30", "--mosaic", "4", "--packs", "x", "--out",
        f + "/o.png"},
       1,
       "81x70"},
      {"spoilt in two ways",
       {"side-by-side", "--picture", "x", "--piece", "0,0,1,1", "--mosaic", "4", "--quality", "9", "--packs", "x", "--out", "x"},
       2,
       "Exactly 1 option"},
      {"no packs", {"eval", "--suite", "--packs", f + "/none", "--photographs", f, "--drawings", f}, 1, "/none"},
      {"no such pack", {"eval", "--pack", f + "/none", "--data", f + "/pictures", "--quality", "10"}, 1, "model.json"},
      {"no pictures", {"corpus", "--out", f + "/c", "--source", "a", "--licence", "b", f + "/empty"}, 1, "no picture"},
      {"no licence", {"corpus", "--out", f + "/c", "--source", "a", f + "/pictures"}, 2, "--licence"},
      {"a licence for one of two",
       {"corpus", "--out", f + "/c", "--source", "a", "--source", "b", "--licence", "c", f + "/pictures", f + "/empty"},
       2,
       "once for each folder"},
      {"a judge of nothing", {"eval-judges", "--photographs", f + "/pictures", "--drawings", f + "/pictures"}, 1, "give a scorer"},
      {"no such task", {"fit-judge", "--task", "paint"}, 2, "--task"},
      {"the original as a classifier",
       {"fit-judge", "--task",
        "classify",  "--architecture",
        "ns-iqa",    "--photographs",
        "x",         "--drawings",
        "x",         "--val-photographs",
        "x",         "--val-drawings",
        "x",         "--state",
        f + "/s",    "--out",
        f + "/p",    "--name",
        "a",         "--steps",
        "1"},
       1,
       "is a scorer"},
      {"no such run", {"export", "--state", f + "/none", "--out", f + "/p"}, 1, "checkpoint"},
      {"a text file as a corpus",
       {"fit", "--data", f + "/pictures/broken.png", "--val", "x", "--state", f + "/s", "--out", f + "/p", "--name", "a", "--source", "b",
        "--steps", "1"},
       1,
       "no packed corpus"},
  };
  for (const Row& row : rows) {
    const Outcome outcome = Train(row.arguments);
    EXPECT_EQ(outcome.code, row.code) << row.name << ": " << outcome.out;
    EXPECT_THAT(outcome.out, HasSubstr(row.message)) << row.name;
  }
}

}  // namespace
}  // namespace nsic
