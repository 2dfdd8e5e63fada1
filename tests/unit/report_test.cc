#include "core/report/report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <vector>

#include "core/base/digest.h"
#include "core/base/files.h"

namespace nsic {
namespace {

using nlohmann::json;
using testing::HasSubstr;
using testing::Not;

class ReportTest : public testing::Test {
 protected:
  ReportTest() : folder_(std::filesystem::temp_directory_path() / ("nsic-report-" + RandomHex(8))) {}
  ~ReportTest() override { std::filesystem::remove_all(folder_); }

  std::string Write(const Report& report) {
    const Status status = WriteReport(report, Folder());
    EXPECT_TRUE(status.ok()) << status;
    return *ReadFile(Folder() + "/index.html");
  }
  std::string Folder() const { return folder_ / "out" / "nsic-report"; }
  std::string Source(const std::string& name) const { return folder_ / "in" / name; }
  std::string Output(const std::string& name) const { return folder_ / "out" / name; }

  ReportFile Done(const std::string& name) const {
    ReportFile file;
    file.input = Source(name);
    file.output = Output(name);
    file.model = "kairitsu-lite";
    file.input_size = {640, 480};
    file.output_size = {1280, 960};
    file.input_bytes = 1000;
    file.output_bytes = 5000;
    file.seconds = 1.25;
    file.worker = "desk";
    file.precision = "bf16";
    file.before_jpeg = "before";
    file.after_jpeg = "after";
    return file;
  }

  // The JSON inside a script element of the page.
  static json Script(const std::string& page, const std::string& id) {
    const std::string open = "<script type=\"application/json\" id=\"" + id + "\">";
    const size_t at = page.find(open);
    EXPECT_NE(at, std::string::npos) << id;
    const size_t from = at + open.size();
    return json::parse(page.substr(from, page.find("</script>", from) - from));
  }

  std::filesystem::path folder_;
};

Report Make(std::vector<ReportFile> files) {
  Report report;
  report.job_id = "job-1";
  report.state = "succeeded";
  report.title = "photos";
  report.version = "0.1.0";
  report.started_ms = 1'700'000'000'000;
  report.ended_ms = 1'700'000'090'000;
  report.files = std::move(files);
  return report;
}

TEST_F(ReportTest, SubmitJsonHasExactlyTheFieldsThatWerePromised) {
  ReportFile failed;
  failed.input = "/in/b.png";
  failed.state = FileState::kFailed;
  failed.error = "b.png is damaged";
  const json object = json::parse(ReportToJson(Make({Done("a.png"), failed}), "/out/nsic-report/index.html"));
  EXPECT_EQ(object, json({{"job_id", "job-1"},
                          {"state", "succeeded"},
                          {"report", "/out/nsic-report/index.html"},
                          {"files",
                           {{{"input", Source("a.png")},
                             {"output", Output("a.png")},
                             {"state", "done"},
                             {"error", ""},
                             {"model", "kairitsu-lite"},
                             {"width", 1280},
                             {"height", 960},
                             {"seconds", 1.25},
                             {"worker", "desk"},
                             {"precision", "bf16"}},
                            {{"input", "/in/b.png"},
                             {"output", ""},
                             {"state", "failed"},
                             {"error", "b.png is damaged"},
                             {"model", ""},
                             {"width", 0},
                             {"height", 0},
                             {"seconds", 0.0},
                             {"worker", ""},
                             {"precision", ""}}}}}));
  EXPECT_THAT(ReportToJson(Make({}), ""), HasSubstr("\"files\":[]"));
}

TEST_F(ReportTest, JudgementsAreTold) {
  ReportFile restored = Done("a.png");
  restored.judgement.scores = ReportScores{40.25, 80.5, {}};
  restored.judgement.recommendation = ReportRecommendation{"photograph-heavy", 0.9625, "kairitsu-lite"};
  ReportFile clean = Done("b.png");
  clean.model = "";
  clean.judgement.scores = ReportScores{90, 90, {}};
  clean.judgement.recommendation = ReportRecommendation{"photograph-clean", 0.5, ""};
  ReportFile video = Done("c.mkv");
  video.video.emplace().frames = 100;
  video.judgement.scores = ReportScores{50, 60, {{0, 40, 60}, {48, 60, 60}}};
  ReportFile failed = Done("d.png");
  failed.judgement.error = "the scorer did not arrive";
  Report report = Make({restored, clean, video, failed});
  report.no_recommender = true;

  const json object = json::parse(ReportToJson(report, ""));
  EXPECT_EQ(object["scores"]["files"], 3);
  EXPECT_NEAR(object["scores"]["before"].get<double>(), (40.25 + 90 + 50) / 3, 1e-9);
  EXPECT_NEAR(object["scores"]["after"].get<double>(), (80.5 + 90 + 60) / 3, 1e-9);
  EXPECT_EQ(object["files"][0]["score_after"], 80.5);
  EXPECT_EQ(object["files"][0]["recommendation"], "kairitsu-lite");
  EXPECT_EQ(object["files"][0]["label"], "photograph-heavy");
  EXPECT_EQ(object["files"][1]["recommendation"], "none");
  EXPECT_EQ(object["files"][3]["judging_error"], "the scorer did not arrive");
  EXPECT_EQ(object["files"][3].count("score_before"), 0u);

  const std::string page = Write(report);
  const json data = Script(page, "data");
  EXPECT_EQ(data["no_recommender"], true);
  EXPECT_EQ(data["no_scorer"], false);
  EXPECT_EQ(data["files"][0]["judgement"]["probability"], 0.9625);
  const json series = {{0, 40.0, 60.0}, {48, 60.0, 60.0}};
  EXPECT_EQ(data["files"][2]["judgement"]["frames"], series);
  for (const char* words : {"nothing to repair", "無需修復", "No scorer is installed", "未安裝評分模型"})
    EXPECT_THAT(page, HasSubstr(words));
  const json stored = json::parse(*ReadFile(Folder() + "/report.json"));
  EXPECT_EQ(stored["files"][2]["video"]["frame_scores"], series);
  EXPECT_EQ(stored["scores"]["files"], 3);
  const std::string csv = *ReadFile(Folder() + "/report.csv");
  EXPECT_THAT(csv, HasSubstr(",score_before,score_after,recommendation,label,probability\r\n"));
  EXPECT_THAT(csv, HasSubstr(",40.25,80.50,kairitsu-lite,photograph-heavy,0.9625\r\n"));
  EXPECT_THAT(csv, HasSubstr(",90.00,90.00,none,photograph-clean,0.5000\r\n"));
}

TEST_F(ReportTest, VideosHaveTheirFacts) {
  ReportFile file = Done("a.mkv");
  ReportVideo& video = file.video.emplace();
  video.frames = 240;
  video.frames_per_second = 24;
  video.duration = 10;
  video.input_codec = "mpeg2video";
  video.output_codec = "h264";
  video.carried = {"audio 1 (aac, eng)", "subtitle 2 (ass) <b>"};
  video.left_out = {"data 3 (gpmd)"};
  video.frames_repeated = 120;
  video.frames_concealed = 2;
  video.concealed_at = {1.5, 2.25};
  video.notes = {"stream 4 holds nothing"};
  video.before_frame = Folder() + "/frames/1-before.png";
  video.after_frame = Folder() + "/frames/1-after.png";
  const Report report = Make({file, Done("b.png")});
  const json object = json::parse(ReportToJson(report, ""));
  EXPECT_EQ(object["files"][0]["frames"], 240);
  EXPECT_EQ(object["files"][0].size(), 11u);
  EXPECT_EQ(object["files"][1].count("frames"), 0u) << "pictures are told as ever";

  const std::string page = Write(report);
  const json shown = Script(page, "data")["files"][0]["video"];
  EXPECT_EQ(shown["frames"], 240);
  EXPECT_EQ(shown["carried"][1], "subtitle 2 (ass) <b>");
  EXPECT_EQ(shown["before_link"], "frames/1-before.png");
  EXPECT_EQ(shown["after_link"], "frames/1-after.png");
  EXPECT_EQ(Script(page, "data")["files"][1].count("video"), 0u);
  EXPECT_THAT(page, HasSubstr("media-src 'self' file:"));
  EXPECT_THAT(page, HasSubstr("could not be decoded"));
  EXPECT_THAT(page, HasSubstr("無法解碼"));

  const json stored = json::parse(*ReadFile(Folder() + "/report.json"))["files"][0];
  EXPECT_EQ(stored["frames"], 240);
  EXPECT_EQ(stored["video"], json({{"frames_per_second", 24.0},
                                   {"duration", 10.0},
                                   {"input_codec", "mpeg2video"},
                                   {"output_codec", "h264"},
                                   {"carried", {"audio 1 (aac, eng)", "subtitle 2 (ass) <b>"}},
                                   {"left_out", {"data 3 (gpmd)"}},
                                   {"frames_repeated", 120},
                                   {"frames_concealed", 2},
                                   {"concealed_at", {1.5, 2.25}},
                                   {"notes", {"stream 4 holds nothing"}}}));
  EXPECT_THAT(*ReadFile(Folder() + "/report.csv"), HasSubstr(",desk,bf16,240,120,2,,,,,\r\n"));
}

TEST_F(ReportTest, NamesTheStates) {
  EXPECT_EQ(FileStateName(FileState::kDone), "done");
  EXPECT_EQ(FileStateName(FileState::kFailed), "failed");
  EXPECT_EQ(FileStateName(FileState::kSkipped), "skipped");
  EXPECT_EQ(FileStateName(FileState::kCancelled), "cancelled");
}

TEST_F(ReportTest, BytesThatAreNotUtf8BecomeReplacementCharacters) {
  Report report = Make({Done("caf\xE9.png")});
  report.title = "\xFF title";
  EXPECT_THAT(json::parse(ReportToJson(report, ""))["files"][0]["input"].get<std::string>(), HasSubstr("caf\xEF\xBF\xBD.png"));
  const std::string page = Write(report);
  EXPECT_THAT(page, HasSubstr("<title>\xEF\xBF\xBD title</title>"));
  EXPECT_THAT(Script(page, "data")["files"][0]["input"].get<std::string>(), HasSubstr("caf\xEF\xBF\xBD.png"));
  EXPECT_THAT(*ReadFile(Folder() + "/report.csv"), HasSubstr("caf\xE9.png")) << "CSV keeps the bytes";
}

TEST_F(ReportTest, LinksAreRelativeAndPercentEncodedByteForByte) {
  const struct {
    const char* name;
    const char* link;
  } kRows[] = {
      {"plain-1_2.~.png", "../plain-1_2.~.png"},
      {"sub/with space.png", "../sub/with%20space.png"},
      {"100%.png", "../100%25.png"},
      {"a?b#c.png", "../a%3Fb%23c.png"},
      {"new\nline.png", "../new%0Aline.png"},
      {"-dash.png", "../-dash.png"},
      {"\"quote'<x>.png", "../%22quote%27%3Cx%3E.png"},
      {"javascript:x.png", "../javascript%3Ax.png"},
      {"\xE6\xAB\xBB.png", "../%E6%AB%BB.png"},
      {"caf\xE9.png", "../caf%E9.png"},
      {"./twice/../over.png", "../over.png"},
  };
  std::vector<ReportFile> files;
  for (const auto& row : kRows) files.push_back(Done(row.name));
  const json data = Script(Write(Make(files)), "data");
  for (size_t i = 0; i < files.size(); ++i) {
    EXPECT_EQ(data["files"][i]["output_link"], kRows[i].link);
    EXPECT_EQ(data["files"][i]["input_link"], "../../in" + std::string(kRows[i].link).substr(2)) << kRows[i].name;
  }
}

TEST_F(ReportTest, NothingInANameOrAnErrorBecomesMarkup) {
  const std::string hostile = "</script><script>alert(1)</script><!-- <img src=x onerror=alert(1)> @DATA@ @TITLE@";
  Report report = Make({Done("a.png")});
  report.title = hostile;
  report.job_id = report.state = report.version = hostile;
  ReportFile& file = report.files[0];
  file.input = "/in/" + hostile;
  file.error = file.model = file.worker = hostile;
  const std::string page = Write(report);
  EXPECT_THAT(page, Not(HasSubstr("<script>alert")));
  EXPECT_THAT(page, Not(HasSubstr("<img src=x")));
  EXPECT_THAT(page, HasSubstr("<title>&lt;/script&gt;&lt;script&gt;alert(1)"));
  const json data = Script(page, "data");
  EXPECT_EQ(data["files"][0]["error"], hostile);
  EXPECT_EQ(data["files"][0]["input"], "/in/" + hostile);
  EXPECT_EQ(data["job_id"], hostile);
}

TEST_F(ReportTest, ThePageAsksForNothingFromOutside) {
  const std::string page = Write(Make({Done("a.png")}));
  EXPECT_THAT(page, HasSubstr("default-src 'none'"));
  for (const char* outside : {"http:", "https:", "//cdn", "<link", "@import", "src=\"", "fetch(", "XMLHttpRequest"}) {
    EXPECT_THAT(page, Not(HasSubstr(outside)));
  }
  EXPECT_THAT(page, HasSubstr("繁體中文"));
  for (const char* placeholder : {"@TITLE@", "@DATA@", "@THUMBNAILS@"}) EXPECT_THAT(page, Not(HasSubstr(placeholder)));
}

TEST_F(ReportTest, ThumbnailsAreBase64InGroups) {
  const struct {
    const char* bytes;
    const char* base64;
  } kRows[] = {{"", ""},
               {"f", "Zg=="},
               {"fo", "Zm8="},
               {"foo", "Zm9v"},
               {"foob", "Zm9vYg=="},
               {"fooba", "Zm9vYmE="},
               {"foobar", "Zm9vYmFy"},
               {"\xFF\xFE\xFD", "//79"}};
  std::vector<ReportFile> files;
  for (const auto& row : kRows) {
    files.push_back(Done("a.png"));
    files.back().before_jpeg = row.bytes;
  }
  files.resize(201, Done("b.png"));
  const std::string page = Write(Make(files));
  const json first = Script(page, "thumbnails-0");
  for (size_t i = 0; i < std::size(kRows); ++i) EXPECT_EQ(first[i][0], kRows[i].base64);
  EXPECT_EQ(first[0][1], "YWZ0ZXI=");
  EXPECT_EQ(first.size(), 100u);
  EXPECT_EQ(Script(page, "thumbnails-2").size(), 1u);
  EXPECT_EQ(Script(page, "data")["thumbnails_left_out"], false);
}

TEST_F(ReportTest, TenThousandFilesStayOnePageOfBearableSize) {
  std::vector<ReportFile> files(10000, Done("a.png"));
  for (ReportFile& file : files) file.before_jpeg = file.after_jpeg = std::string(8000, 'x');
  const std::string page = Write(Make(files));
  EXPECT_LT(page.size(), size_t{80} << 20);
  EXPECT_EQ(Script(page, "data")["thumbnails_left_out"], true);
  EXPECT_EQ(Script(page, "data")["files"].size(), 10000u);
  EXPECT_EQ(Script(page, "thumbnails-0")[0].size(), 2u);
  EXPECT_TRUE(Script(page, "thumbnails-99")[99].is_null());
}

TEST_F(ReportTest, CsvQuotesAsRfc4180Says) {
  ReportFile file = Done("comma, \"quote\".png");
  file.input = "a,b.png";
  file.output = "say \"hi\".png";
  file.error = "first\nsecond";
  file.worker = "desk, shelf";
  Write(Make({file}));
  EXPECT_EQ(*ReadFile(Folder() + "/report.csv"),
            "input,output,state,error,model,input_width,input_height,width,height,input_bytes,output_bytes,seconds,worker,precision,frames,"
            "frames_repeated,frames_concealed,score_before,score_after,recommendation,label,probability\r\n"
            "\"a,b.png\",\"say \"\"hi\"\".png\",done,\"first\nsecond\",kairitsu-lite,640,480,1280,960,1000,5000,1.250,\"desk, "
            "shelf\",bf16,,,,,,,,\r\n");
}

TEST_F(ReportTest, ReportJsonHoldsTheWholeJob) {
  Write(Make({Done("a.png")}));
  const json object = json::parse(*ReadFile(Folder() + "/report.json"));
  EXPECT_EQ(object["job_id"], "job-1");
  EXPECT_EQ(object["started_ms"], 1'700'000'000'000);
  EXPECT_EQ(object["files"][0]["input_bytes"], 1000);
  EXPECT_EQ(object["files"][0]["width"], 1280);
  EXPECT_EQ(object["files"][0]["input_width"], 640);
}

TEST_F(ReportTest, AFolderThatCannotBeMadeIsNamed) {
  ASSERT_TRUE(MakeFolders(folder_).ok());
  ASSERT_TRUE(WriteFileAtomically(folder_ / "out", "a file in the way").ok());
  const Status status = WriteReport(Make({}), Folder());
  EXPECT_FALSE(status.ok());
  EXPECT_THAT(status.message(), HasSubstr((folder_ / "out").string()));
}

}  // namespace
}  // namespace nsic
