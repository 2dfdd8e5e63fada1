// Scanning inputs, mapping outputs, the record of a submit.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include "client/job_index.h"
#include "client/job_record.h"
#include "client/map_outputs.h"
#include "client/read_model_file.h"
#include "client/scan_inputs.h"
#include "core/base/digest.h"
#include "core/base/files.h"

namespace nsic {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

// A temporary folder.
class Inputs : public testing::Test {
 protected:
  Inputs() {
    std::string pattern = (fs::temp_directory_path() / "nsic-client-XXXXXX").string();
    if (::mkdtemp(pattern.data()) == nullptr) std::abort();
    folder_ = fs::canonical(pattern).string();
  }
  ~Inputs() override { fs::remove_all(folder_); }

  std::string Path(const std::string& relative) const { return folder_ + "/" + relative; }
  std::string Write(const std::string& relative, const std::string& bytes = "x") {
    const std::string path = Path(relative);
    EXPECT_TRUE(MakeFolders(fs::path(path).parent_path().string()).ok());
    EXPECT_TRUE(WriteFileAtomically(path, bytes).ok());
    return path;
  }
  // The relative names that a scan of the paths finds.
  std::vector<std::string> Found(const std::vector<std::string>& paths, Scan* whole = nullptr) {
    Result<Scan> scan = ScanInputs(paths);
    EXPECT_TRUE(scan.ok()) << scan.status();
    std::vector<std::string> names;
    if (!scan.ok()) return names;
    for (const FoundFile& file : scan->files) names.push_back(file.relative);
    if (whole != nullptr) *whole = *std::move(scan);
    return names;
  }

  std::string folder_;
};

TEST_F(Inputs, ScanWalksInOrder) {
  for (const char* name : {"a/z.jpg", "a/b/c.png", "a/-dash.jpg", "a/two words.txt", "a/new\nline.jpg", "a/寫真.jpg", "a/x-\xff.jpg"})
    Write(name);
  EXPECT_THAT(Found({Path("a")}), ElementsAre("-dash.jpg", "b/c.png", "new\nline.jpg", "two words.txt", "x-\xff.jpg", "z.jpg", "寫真.jpg"));
  EXPECT_THAT(Found({Path("a/b/../b/c.png"), Path("a/b/c.png")}), ElementsAre("c.png")) << "named twice";
  EXPECT_THAT(Found({Path("a/b/"), Path("a/b/c.png")}), ElementsAre("c.png")) << "a file of a folder that is given too";
}

TEST_F(Inputs, ScanFollowsLinksOnce) {
  Write("a/one.jpg");
  Write("a/sub/two.jpg");
  Write("outside/three.jpg");
  fs::create_symlink("..", Path("a/sub/up"));
  fs::create_symlink(Path("a/sub"), Path("a/again"));
  fs::create_symlink(Path("outside"), Path("a/out1"));
  fs::create_symlink(Path("outside"), Path("a/out2"));
  fs::create_symlink("one.jpg", Path("a/link.jpg"));
  Scan scan;
  EXPECT_THAT(Found({Path("a")}, &scan), ElementsAre("link.jpg", "one.jpg", "out1/three.jpg", "sub/two.jpg"));
  EXPECT_THAT(scan.left_out, IsEmpty());
}

TEST_F(Inputs, ScanSaysWhatItLeavesOut) {
  Write("a/.hidden.jpg");
  Write("a/.git/x.jpg");
  fs::create_symlink("loop.jpg", Path("a/loop.jpg"));
  fs::create_symlink("nowhere.jpg", Path("a/broken.jpg"));
  fs::create_symlink("nowhere", Path("a/broken"));
  ASSERT_EQ(::mkfifo(Path("a/pipe.jpg").c_str(), 0600), 0);
  Scan scan;
  EXPECT_THAT(Found({Path("a")}, &scan), IsEmpty());
  const struct {
    const char* name;
    bool failed;
    const char* words;
  } rows[] = {{"a/.git", false, "hidden"},          {"a/.hidden.jpg", false, "hidden"}, {"a/broken", false, "symbolic link"},
              {"a/broken.jpg", true, "broken.jpg"}, {"a/loop.jpg", true, "loop.jpg"},   {"a/pipe.jpg", false, "not a regular file"}};
  ASSERT_EQ(scan.left_out.size(), std::size(rows));
  for (size_t i = 0; i < std::size(rows); ++i) {
    EXPECT_EQ(scan.left_out[i].path, Path(rows[i].name));
    EXPECT_EQ(scan.left_out[i].failed, rows[i].failed) << rows[i].name;
    EXPECT_THAT(scan.left_out[i].reason, HasSubstr(rows[i].words)) << rows[i].name;
  }
}

TEST_F(Inputs, ScanRefusesWhatIsNotThere) {
  const Result<Scan> scan = ScanInputs({Path("nothing.jpg")});
  EXPECT_EQ(scan.status().code(), StatusCode::kInvalidArgument);
  EXPECT_THAT(scan.status().message(), AllOf(HasSubstr("nothing.jpg"), HasSubstr("No such file")));
  EXPECT_EQ(ScanInputs({""}).status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(ScanInputs({"/dev/null"}).status().code(), StatusCode::kInvalidArgument);
}

TEST_F(Inputs, ScanKnowsOutputsOfEarlierSubmits) {
  Write("a/one.jpg");
  const std::string made = Write("a/one-enhanced.jpg", "made");
  Result<std::unique_ptr<JobRecord>> record = JobRecord::Open(Path("a/nsic-report"), "k");
  ASSERT_TRUE(record.ok()) << record.status();
  ASSERT_TRUE((*record)->BeginJob(RecordedJob()).ok());
  WrittenOutput written;
  written.output = made;
  ASSERT_TRUE((*record)->Append(written).ok());
  Scan scan;
  EXPECT_THAT(Found({Path("a")}, &scan), ElementsAre("one.jpg"));
  ASSERT_EQ(scan.left_out.size(), 1u);
  EXPECT_EQ(scan.left_out[0].path, made);
  EXPECT_THAT(Found({made}), ElementsAre("one-enhanced.jpg")) << "named on the command line it counts";
}

TEST(PictureName, GoesByTheExtension) {
  for (const char* name : {"a.jpg", "a.JPEG", "x/y.tif", "b.webp", ".png"}) EXPECT_TRUE(IsPictureName(name)) << name;
  for (const char* name : {"jpg", "a.mp4", "a.jpg.txt", "a.", "a.gif"}) EXPECT_FALSE(IsPictureName(name)) << name;
}

TEST(VideoName, GoesByTheExtension) {
  for (const char* name : {"a.mp4", "a.MKV", "x/y.webm", "b.mov", "b.avi", ".m2ts"}) EXPECT_TRUE(IsVideoName(name)) << name;
  for (const char* name : {"mp4", "a.jpg", "a.mp4.txt", "a.", "module.ts", "module.mts", "a.mka"}) EXPECT_FALSE(IsVideoName(name)) << name;
  for (const char* name : {"a.mka", "a.M4A"}) EXPECT_TRUE(IsAudioName(name)) << name;
  EXPECT_FALSE(IsAudioName("a.mkv"));
}

TEST_F(Inputs, ScanPassesOverPreviewsAndMissesVideos) {
  Write("a/nsic-preview/b.mp4/frame-0000001.png");
  Write("a/b.mp4");
  fs::create_symlink("nowhere.mp4", Path("a/broken.mp4"));
  Scan scan;
  EXPECT_THAT(Found({Path("a")}, &scan), ElementsAre("b.mp4"));
  ASSERT_EQ(scan.left_out.size(), 1u);
  EXPECT_TRUE(scan.left_out[0].failed) << "its name promised a video";
}

TEST_F(Inputs, OutputsOfVideosAreNamedByTheirContainers) {
  Write("videos/a.mp4");
  const InputRoot videos{Path("videos"), true};
  const InputRoot file{Path("videos/a.mp4"), false};
  const struct {
    const char* name;
    InputRoot root;
    const char* relative;
    const char* container;
    std::string expected;
  } rows[] = {{"kept", videos, "sub/a.mp4", "mp4", Path("videos-enhanced/sub/a.mp4")},
              {"mov is mp4", videos, "a.MOV", "mp4", Path("videos-enhanced/a.MOV")},
              {"m4v is mp4", videos, "a.m4v", "mp4", Path("videos-enhanced/a.m4v")},
              {"another container", videos, "a.avi", "mkv", Path("videos-enhanced/a.mkv")},
              {"mp4 to mkv", videos, "a.mp4", "mkv", Path("videos-enhanced/a.mkv")},
              {"webm to mp4", videos, "a.b.webm", "mp4", Path("videos-enhanced/a.b.mp4")},
              {"no extension", videos, "clip", "mkv", Path("videos-enhanced/clip.mkv")},
              {"beside", file, "a.mp4", "mkv", Path("videos/a-enhanced.mkv")}};
  for (const auto& row : rows) {
    const Result<OutputPlaces> places = PlaceOutputs({row.root}, "");
    ASSERT_TRUE(places.ok()) << row.name << ": " << places.status();
    EXPECT_EQ(VideoOutputPath(*places, row.root, {0, row.relative, ""}, row.container), row.expected) << row.name;
  }
  EXPECT_EQ(PreviewFolder(*PlaceOutputs({videos}, Path("o")), {0, "sub/a.mp4", ""}), Path("o/nsic-preview/sub/a.mp4"));
}

TEST_F(Inputs, OutputsMirrorTheTree) {
  Write("photos/sub/a.jpg");
  Write("other/b.bmp");
  const InputRoot photos{Path("photos"), true};
  const InputRoot other{Path("other"), true};
  const InputRoot file{Path("photos/sub/a.jpg"), false};
  const struct {
    const char* name;
    std::vector<InputRoot> roots;
    std::string out;
    FoundFile found;
    PictureFormat source, output;
    std::string expected;
    std::string report;
  } rows[] = {
      {"folder",
       {photos},
       "",
       {0, "sub/a.jpg", ""},
       PictureFormat::kJpeg,
       PictureFormat::kJpeg,
       Path("photos-enhanced/sub/a.jpg"),
       Path("photos-enhanced/nsic-report")},
      {"file",
       {file},
       "",
       {0, "a.jpg", ""},
       PictureFormat::kJpeg,
       PictureFormat::kJpeg,
       Path("photos/sub/a-enhanced.jpg"),
       Path("photos/sub/nsic-report")},
      {"folder and --out",
       {photos},
       Path("o"),
       {0, "sub/a.jpg", ""},
       PictureFormat::kJpeg,
       PictureFormat::kJpeg,
       Path("o/sub/a.jpg"),
       Path("o/nsic-report")},
      {"file and --out",
       {file},
       Path("o/"),
       {0, "a.jpg", ""},
       PictureFormat::kJpeg,
       PictureFormat::kJpeg,
       Path("o/a.jpg"),
       Path("o/nsic-report")},
      {"two folders and --out",
       {photos, other},
       Path("o"),
       {1, "b.bmp", ""},
       PictureFormat::kBmp,
       PictureFormat::kBmp,
       Path("o/other/b.bmp"),
       Path("o/nsic-report")},
      {"two folders",
       {photos, other},
       "",
       {1, "b.bmp", ""},
       PictureFormat::kBmp,
       PictureFormat::kBmp,
       Path("other-enhanced/b.bmp"),
       Path("photos-enhanced/nsic-report")},
      {"other format",
       {photos},
       "",
       {0, "a.jpg", ""},
       PictureFormat::kJpeg,
       PictureFormat::kPng,
       Path("photos-enhanced/a.png"),
       Path("photos-enhanced/nsic-report")},
      {"same format, long extension",
       {photos},
       "",
       {0, "a.JPEG", ""},
       PictureFormat::kPng,
       PictureFormat::kJpeg,
       Path("photos-enhanced/a.JPEG"),
       Path("photos-enhanced/nsic-report")},
      {"no extension, kept",
       {photos},
       "",
       {0, "scan", ""},
       PictureFormat::kJpeg,
       PictureFormat::kJpeg,
       Path("photos-enhanced/scan"),
       Path("photos-enhanced/nsic-report")},
      {"no extension, other format",
       {photos},
       "",
       {0, "scan", ""},
       PictureFormat::kJpeg,
       PictureFormat::kTiff,
       Path("photos-enhanced/scan.") + std::string(PictureFormatExtension(PictureFormat::kTiff)),
       Path("photos-enhanced/nsic-report")},
      {"wrong extension is kept",
       {photos},
       "",
       {0, "a.jpg", ""},
       PictureFormat::kPng,
       PictureFormat::kPng,
       Path("photos-enhanced/a.jpg"),
       Path("photos-enhanced/nsic-report")},
  };
  for (const auto& row : rows) {
    const Result<OutputPlaces> places = PlaceOutputs(row.roots, row.out);
    ASSERT_TRUE(places.ok()) << row.name << ": " << places.status();
    EXPECT_EQ(OutputPath(*places, row.roots[row.found.root], row.found, row.source, row.output), row.expected) << row.name;
    EXPECT_EQ(places->report_folder, row.report) << row.name;
  }
}

TEST_F(Inputs, OutputsStayOutOfTheInputs) {
  Write("photos/a.jpg");
  Write("taken");
  fs::create_symlink(Path("photos"), Path("link"));
  const InputRoot photos{Path("photos"), true};
  const struct {
    const char* name;
    std::vector<InputRoot> roots;
    std::string out;
    const char* words;
  } rows[] = {{"inside", {photos}, Path("photos/out"), "inside the input folder"},
              {"the same", {photos}, Path("photos"), "inside the input folder"},
              {"inside by a link", {photos}, Path("link/out"), "inside the input folder"},
              {"inside the other input", {InputRoot{Path("photos/sub"), true}, photos}, "", "inside the input folder"},
              {"the root", {InputRoot{"/", true}}, "", "--out DIR"},
              {"a file", {photos}, Path("taken"), "is a file"}};
  for (const auto& row : rows) {
    const Result<OutputPlaces> places = PlaceOutputs(row.roots, row.out);
    ASSERT_FALSE(places.ok()) << row.name;
    EXPECT_THAT(places.status().message(), HasSubstr(row.words)) << row.name;
  }
  EXPECT_TRUE(PlaceOutputs({photos}, Path("photos2")).ok()) << "a name that begins like the input's";
}

TEST_F(Inputs, CheckOutputsProtectsFiles) {
  const std::string original = Write("a.jpg");
  const std::string stranger = Write("o/b.jpg");
  const auto nothing = [](const std::string&) { return false; };
  const auto everything = [](const std::string&) { return true; };

  const Status both = CheckOutputs({{Path("same.jpg"), Path("o/same.png")}, {Path("same.png"), Path("o/same.png")}}, nothing);
  EXPECT_EQ(both.code(), StatusCode::kInvalidArgument);
  EXPECT_THAT(both.message(), AllOf(HasSubstr("same.jpg"), HasSubstr("same.png"), HasSubstr("both")));

  const Status overwrite = CheckOutputs({{original, original}}, everything);
  EXPECT_EQ(overwrite.code(), StatusCode::kInvalidArgument);
  EXPECT_THAT(overwrite.message(), HasSubstr("original"));
  fs::create_symlink(folder_, Path("here"));
  EXPECT_EQ(CheckOutputs({{original, Path("here/a.jpg")}}, everything).code(), StatusCode::kInvalidArgument) << "by a link";

  const Status foreign = CheckOutputs({{original, stranger}}, nothing);
  EXPECT_EQ(foreign.code(), StatusCode::kFailedPrecondition);
  EXPECT_THAT(foreign.message(), AllOf(HasSubstr("b.jpg"), HasSubstr("--out")));
  EXPECT_TRUE(CheckOutputs({{original, stranger}}, everything).ok());
}

TEST(ManifestPath, IsUniqueOverRoots) {
  const std::vector<InputRoot> roots = {{"/x/photos", true}, {"/y/photos", true}, {"/z/a.jpg", false}};
  EXPECT_EQ(ManifestPath({roots[0]}, {0, "s/a.jpg", ""}), "s/a.jpg");
  EXPECT_EQ(ManifestPath(roots, {0, "s/a.jpg", ""}), "1/photos/s/a.jpg");
  EXPECT_EQ(ManifestPath(roots, {1, "s/a.jpg", ""}), "2/photos/s/a.jpg");
  EXPECT_EQ(ManifestPath(roots, {2, "a.jpg", ""}), "3/a.jpg");
}

RecordedJob SampleJob(const std::string& folder) {
  RecordedJob job;
  job.job_id = "0123456789abcdef0123456789abcdef";
  job.coordinator = "local";
  job.title = "photos \xff";
  job.parameters = "p1";
  job.model = "kairitsu-lite";
  job.network_scale = 2;
  job.started_ms = 1'700'000'000'000;
  PlannedFile file;
  file.input = "/in/new\nline \xfe.jpg";
  file.path = "new\nline \xfe.jpg";
  file.sha256 = Sha256Hex("source");
  file.bytes = 6;
  file.size = {30, 20};
  file.output = folder + "/new\nline \xfe.jpg";
  job.files.push_back(file);
  ReportFile settled;
  settled.input = "/in/notes.txt";
  settled.state = FileState::kSkipped;
  settled.error = "neither a picture nor a video";
  job.settled.push_back(settled);
  return job;
}

WrittenOutput SampleOutput(const std::string& output, const std::string& bytes) {
  WrittenOutput written;
  written.output = output;
  written.input_sha256 = Sha256Hex("source");
  written.parameters = "p1";
  written.sha256 = Sha256Hex(bytes);
  written.bytes = static_cast<int64_t>(bytes.size());
  written.size = {60, 40};
  written.model = "kairitsu-lite";
  written.seconds = 1.5;
  written.worker = "desk";
  return written;
}

ReportVideo SampleVideo(const std::string& folder) {
  ReportVideo video;
  video.frames = 170;
  video.frames_per_second = 23.976;
  video.duration = 7.09;
  video.input_codec = "mpeg2video";
  video.output_codec = "h264";
  video.carried = {"audio 1 (aac, eng)"};
  video.left_out = {"data 2 (gpmd)"};
  video.frames_repeated = 12;
  video.frames_concealed = 2;
  video.concealed_at = {1.5, 2.25};
  video.notes = {"a note"};
  video.before_frame = folder + "/nsic-report/frames/1-before.png";
  video.after_frame = folder + "/nsic-report/frames/1-after.png";
  return video;
}

class Record : public Inputs {
 protected:
  std::unique_ptr<JobRecord> Open(const std::string& key = "k") {
    Result<std::unique_ptr<JobRecord>> record = JobRecord::Open(Path("o/nsic-report"), key);
    EXPECT_TRUE(record.ok()) << record.status();
    return record.ok() ? *std::move(record) : nullptr;
  }
};

TEST_F(Record, RemembersAJobWithAnyNames) {
  const RecordedJob job = SampleJob(Path("o"));
  ASSERT_TRUE(Open()->BeginJob(job).ok());
  const auto record = Open();
  ASSERT_TRUE(record->job_is_open());
  const RecordedJob& read = *record->job();
  EXPECT_EQ(read.job_id, job.job_id);
  EXPECT_EQ(read.coordinator, job.coordinator);
  EXPECT_EQ(read.title, job.title);
  EXPECT_EQ(read.parameters, job.parameters);
  EXPECT_EQ(read.model, job.model);
  EXPECT_EQ(read.network_scale, 2);
  EXPECT_EQ(read.started_ms, job.started_ms);
  ASSERT_EQ(read.files.size(), 1u);
  EXPECT_EQ(read.files[0].input, job.files[0].input);
  EXPECT_EQ(read.files[0].path, job.files[0].path);
  EXPECT_EQ(read.files[0].output, job.files[0].output);
  EXPECT_EQ(read.files[0].size, job.files[0].size);
  EXPECT_EQ(read.files[0].bytes, 6);
  ASSERT_EQ(read.settled.size(), 1u);
  EXPECT_EQ(read.settled[0].state, FileState::kSkipped);
  EXPECT_EQ(read.settled[0].error, job.settled[0].error);

  ASSERT_TRUE(record->CloseJob().ok());
  EXPECT_FALSE(Open()->job_is_open());
  EXPECT_EQ(Open()->job()->job_id, job.job_id) << "for a later fetch";
}

TEST_F(Record, RemembersAllThatAVideoNeeds) {
  RecordedJob job = SampleJob(Path("o"));
  PlannedFile file = job.files[0];
  file.input = "/in/clip \xfe.mp4";
  PlannedVideo& video = file.video.emplace();
  video.message.set_width(853);
  video.message.set_codec("h264");
  video.message.mutable_time_base()->set_num(1);
  video.message.mutable_time_base()->set_den(90'000);
  video.message.mutable_range()->set_first(30);
  video.message.mutable_range()->set_count(INT32_MAX);
  video.message.mutable_index()->set_sha256(Sha256Hex("index"));
  video.message.mutable_index()->set_size(int64_t{1} << 40);
  video.message.mutable_hdr()->add_primaries(13'250);
  video.message.set_field_order(v1::FIELD_ORDER_TOP_FIRST);
  video.message.mutable_encode()->set_encoder("libx265");
  video.message.mutable_encode()->set_crf(20.1);
  video.dropped_streams = {2, 5};
  video.parameters = "pv";
  job.files.push_back(file);
  job.settled[0].video = SampleVideo(Path("o"));
  const std::string output = Write("o/clip.mp4", "made");
  {
    const auto record = Open();
    ASSERT_TRUE(record->BeginJob(job).ok());
    WrittenOutput written = SampleOutput(output, "made");
    written.video = SampleVideo(Path("o"));
    ASSERT_TRUE(record->Append(written).ok());
  }
  const auto record = Open();
  ASSERT_NE(record, nullptr);
  const RecordedJob& read = *record->job();
  ASSERT_EQ(read.files.size(), 2u);
  EXPECT_FALSE(read.files[0].video);
  EXPECT_EQ(read.ParametersOf(read.files[0]), "p1");
  ASSERT_TRUE(read.files[1].video);
  EXPECT_EQ(read.files[1].input, file.input);
  EXPECT_EQ(read.files[1].video->message.SerializeAsString(), video.message.SerializeAsString());
  EXPECT_EQ(read.files[1].video->dropped_streams, video.dropped_streams);
  EXPECT_EQ(read.ParametersOf(read.files[1]), "pv");
  const std::vector<WrittenOutput> found = record->Find(output, Sha256Hex("source"), "p1");
  ASSERT_EQ(found.size(), 1u);
  for (const std::optional<ReportVideo>& facts : {found[0].video, read.settled[0].video}) {
    ASSERT_TRUE(facts);
    const ReportVideo sample = SampleVideo(Path("o"));
    EXPECT_EQ(facts->frames, 170);
    EXPECT_EQ(facts->frames_per_second, 23.976);
    EXPECT_EQ(facts->duration, 7.09);
    EXPECT_EQ(facts->input_codec, "mpeg2video");
    EXPECT_EQ(facts->output_codec, "h264");
    EXPECT_EQ(facts->carried, sample.carried);
    EXPECT_EQ(facts->left_out, sample.left_out);
    EXPECT_EQ(facts->frames_repeated, 12);
    EXPECT_EQ(facts->frames_concealed, 2);
    EXPECT_EQ(facts->concealed_at, sample.concealed_at);
    EXPECT_EQ(facts->notes, sample.notes);
    EXPECT_EQ(facts->before_frame, sample.before_frame);
    EXPECT_EQ(facts->after_frame, sample.after_frame);
  }
}

TEST_F(Record, RemembersOutputsOverJobsAndSubmits) {
  const std::string output = Write("o/a.jpg", "made");
  {
    const auto record = Open();
    ASSERT_TRUE(record->BeginJob(SampleJob(Path("o"))).ok());
    ASSERT_TRUE(record->Append(SampleOutput(output, "made")).ok());
    ASSERT_TRUE(record->Append(SampleOutput(Path("o/gone.jpg"), "gone")).ok());
  }
  for (const char* key : {"k", "another submit into this folder"}) {
    const auto record = Open(key);
    EXPECT_TRUE(record->Knows(output)) << key;
    EXPECT_FALSE(record->Knows(Path("o/b.jpg"))) << key;
    ASSERT_EQ(record->Find(output, Sha256Hex("source"), "p1").size(), 1u) << key;
    EXPECT_EQ(record->Find(output, Sha256Hex("source"), "p1")[0].worker, "desk") << key;
    EXPECT_THAT(record->Find(output, Sha256Hex("source"), "p2"), IsEmpty()) << key;
    EXPECT_THAT(record->Find(output, Sha256Hex("other"), "p1"), IsEmpty()) << key;
  }
  ASSERT_TRUE(Open()->BeginJob(SampleJob(Path("o"))).ok());
  EXPECT_TRUE(Open()->Knows(output)) << "another job keeps it";
  EXPECT_FALSE(Open()->Knows(Path("o/gone.jpg"))) << "but not what has gone";
}

TEST_F(Record, RemembersWhatWasFoundInAFile) {
  const std::string output = Write("o/a.mkv", "made");
  WrittenOutput written = SampleOutput(output, "made");
  written.judgement.scores = ReportScores{40.5, 80.25, {{0, 40, 80}, {48, 41, 80.5}}};
  written.judgement.recommendation = ReportRecommendation{"drawing-light", 0.75, "kyouka-lite"};
  written.judgement.error = "an error";
  RecordedJob job = SampleJob(Path("o"));
  job.auto_model = true;
  job.no_recommender = true;
  {
    const auto record = Open();
    ASSERT_TRUE(record->BeginJob(job).ok());
    ASSERT_TRUE(record->Append(written).ok());
  }
  const auto record = Open();
  EXPECT_TRUE(record->job()->auto_model);
  EXPECT_TRUE(record->job()->no_recommender);
  const std::vector<WrittenOutput> found = record->Find(output, Sha256Hex("source"), "p1");
  ASSERT_EQ(found.size(), 1u);
  const ReportJudgement& judgement = found[0].judgement;
  ASSERT_TRUE(judgement.scores && judgement.recommendation);
  EXPECT_EQ(judgement.scores->after, 80.25);
  ASSERT_EQ(judgement.scores->frames.size(), 2u);
  EXPECT_EQ(judgement.scores->frames[1].frame, 48);
  EXPECT_EQ(judgement.scores->frames[1].after, 80.5);
  EXPECT_EQ(judgement.recommendation->label, "drawing-light");
  EXPECT_EQ(judgement.recommendation->probability, 0.75);
  EXPECT_EQ(judgement.recommendation->model, "kyouka-lite");
  EXPECT_EQ(judgement.error, "an error");
}

TEST_F(Record, MovesWithItsFolder) {
  Write("o/a.jpg", "made");
  const auto record = Open();
  ASSERT_TRUE(record->BeginJob(SampleJob(Path("o"))).ok());
  ASSERT_TRUE(record->Append(SampleOutput(Path("o/a.jpg"), "made")).ok());
  fs::rename(Path("o"), Path("moved"));
  EXPECT_THAT(RecordedOutputs(Path("moved/nsic-report")), ElementsAre(Path("moved/a.jpg")));
}

TEST_F(Record, PassesOverALineThatWasCut) {
  {
    const auto record = Open();
    ASSERT_TRUE(record->BeginJob(SampleJob(Path("o"))).ok());
    ASSERT_TRUE(record->Append(SampleOutput(Path("o/a.jpg"), "a")).ok());
    ASSERT_TRUE(record->Append(SampleOutput(Path("o/b.jpg"), "b")).ok());
  }
  const std::string path = Path("o/nsic-report/record-k.jsonl");
  fs::resize_file(path, fs::file_size(path) - 10);
  {
    const auto record = Open();
    ASSERT_NE(record, nullptr);
    EXPECT_TRUE(record->Knows(Path("o/a.jpg")));
    EXPECT_FALSE(record->Knows(Path("o/b.jpg")));
    ASSERT_TRUE(record->Append(SampleOutput(Path("o/c.jpg"), "c")).ok());
  }
  EXPECT_TRUE(Open()->Knows(Path("o/c.jpg"))) << "what was appended after it counts";
}

TEST_F(Record, RefusesADamagedFileByName) {
  Write("o/nsic-report/record-k.jsonl", "{\"version\":1}\nnot json\n");
  const Result<std::unique_ptr<JobRecord>> damaged = JobRecord::Open(Path("o/nsic-report"), "k");
  EXPECT_EQ(damaged.status().code(), StatusCode::kDataLoss);
  EXPECT_THAT(damaged.status().message(), HasSubstr("record-k.jsonl:2"));
  Write("o/nsic-report/record-k.jsonl", "{\"version\":2}\n");
  EXPECT_EQ(JobRecord::Open(Path("o/nsic-report"), "k").status().code(), StatusCode::kFailedPrecondition);
}

TEST_F(Inputs, JobIndexFindsPlaces) {
  const std::string id(32, 'a');
  EXPECT_EQ(FindJobPlace(folder_, id).status().code(), StatusCode::kNotFound);
  ASSERT_TRUE(SaveJobPlace(folder_, id, {"host:7420", "/tok\xff", "/o/nsic-report", "k"}).ok());
  const Result<JobPlace> place = FindJobPlace(folder_, id);
  ASSERT_TRUE(place.ok()) << place.status();
  EXPECT_EQ(place->coordinator, "host:7420");
  EXPECT_EQ(place->token_file, "/tok\xff");
  EXPECT_EQ(place->report_folder, "/o/nsic-report");
  EXPECT_EQ(place->record_key, "k");
  EXPECT_TRUE(IsJobId(id));
  for (const char* text : {"", "../../etc/passwd", "0123", "G123456789abcdef0123456789abcdef"}) EXPECT_FALSE(IsJobId(text)) << text;
}

TEST(ModelNameFromFile, MakesAName) {
  const struct {
    const char* file;
    const char* name;
  } rows[] = {{"RealESRGAN x4 (v3).pth", "realesrgan-x4-v3"}, {"/a/net_g.safetensors", "net_g"}, {"寫真.pth", "model"}, {"x--y.pt", "x-y"}};
  for (const auto& row : rows) EXPECT_EQ(ModelNameFromFile(row.file), row.name) << row.file;
}

}  // namespace
}  // namespace nsic
