// The client's way with a video, against a real coordinator in this process and a worker that encodes what it decodes.
#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "client/farm_connection.h"
#include "client/job_record.h"
#include "client/plan_video.h"
#include "client/run_job.h"
#include "client/submit.h"
#include "coordinator/coordinator.h"
#include "core/base/digest.h"
#include "core/base/files.h"
#include "core/media/convert_frame.h"
#include "core/media/read_video.h"
#include "core/media/write_segment.h"
#include "core/rpc/video_messages.h"
#include "models/io/model_pack.h"
#include "nsic/v1/work.grpc.pb.h"

namespace nsic {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::HasSubstr;

class MediaEnvironment : public testing::Environment {
  MediaLibrary library_{2};
};
const testing::Environment* const kEnvironment = testing::AddGlobalTestEnvironment(new MediaEnvironment);

constexpr int kConcealed = 60;  // the frame that the worker says could not be decoded

// Leases segments and encodes their frames unchanged.
class Worker {
 public:
  // Does `limit` tasks.
  Worker(const std::string& address, std::string folder, int limit)
      : channel_(OpenChannel(address, "")),
        work_(v1::Work::NewStub(channel_)),
        blobs_(channel_),
        folder_(std::move(folder)),
        limit_(limit) {
    EXPECT_TRUE(MakeFolders(folder_).ok());
    thread_ = std::thread([this] { Run(); });
  }
  ~Worker() {
    stop_.Cancel();
    thread_.join();
  }
  void FailFrame(int frame) { failing_ = frame; }  // before the job is submitted
  int done() const { return done_; }

 private:
  void Run() {
    const RetryPolicy policy{0};
    v1::RegisterRequest registration;
    registration.set_name("desk");
    registration.set_protocol(kProtocolVersion);
    registration.set_version("0.1.0");
    registration.set_device("cpu");
    registration.set_cores(1);
    registration.set_memory_bytes(1 << 30);
    v1::RegisterResponse session;
    const Status registered = CallWithRetry(channel_.get(), policy, stop_,
                                            [&](grpc::ClientContext* context) { return work_->Register(context, registration, &session); });
    EXPECT_TRUE(registered.ok()) << registered;
    while (!stop_.cancelled() && done_ < limit_) {
      v1::LeaseRequest request;
      request.set_session(session.session());
      request.set_request_id(RandomHex(16));
      request.set_max_tasks(1);
      request.set_wait_ms(200);
      v1::LeaseResponse leases;
      const Status leased = CallWithRetry(channel_.get(), policy, stop_,
                                          [&](grpc::ClientContext* context) { return work_->Lease(context, request, &leases); });
      if (!leased.ok()) return;
      for (const v1::LeasedTask& task : leases.tasks()) {
        const Status answered = Answer(session.session(), task);
        EXPECT_TRUE(answered.ok() || stop_.cancelled()) << answered;
      }
    }
  }

  Status Answer(const std::string& session, const v1::LeasedTask& task) {
    v1::ItemsResponse items;
    const v1::FrameRange& frames = task.segment().frames();
    if (failing_ >= frames.first() && failing_ < frames.first() + frames.count()) {
      v1::FailRequest request;
      request.set_session(session);
      v1::FailedItem* item = request.add_items();
      item->set_token(task.token());
      item->set_failure_class(v1::FAILURE_CLASS_BAD_INPUT);
      item->set_message("a packet at 1.234 s is damaged");
      return CallWithRetry(channel_.get(), RetryPolicy{0}, stop_,
                           [&](grpc::ClientContext* context) { return work_->Fail(context, request, &items); });
    }
    const std::string path = folder_ + "/segment";
    NSIC_RETURN_IF_ERROR(Encode(task, path));
    NSIC_ASSIGN_OR_RETURN(const std::string sha256, Sha256OfFile(path));
    const auto bytes = static_cast<int64_t>(fs::file_size(path));
    NSIC_RETURN_IF_ERROR(blobs_.UploadFile(path, sha256, bytes, stop_));
    v1::CompleteRequest request;
    request.set_session(session);
    v1::CompletedItem* item = request.add_items();
    item->set_token(task.token());
    v1::TaskResult* result = item->mutable_result();
    result->mutable_output()->set_sha256(sha256);
    result->mutable_output()->set_size(bytes);
    result->set_width(task.source().video().encode().width());
    result->set_height(task.source().video().encode().height());
    result->set_model_id(task.options().model_id());
    result->set_precision("fp32");
    result->set_device("cpu");
    result->set_seconds(0.5);
    result->set_frames(frames.count());
    result->set_frames_repeated(1);
    if (kConcealed >= frames.first() && kConcealed < frames.first() + frames.count()) result->add_frames_concealed(kConcealed);
    ++done_;
    return CallWithRetry(channel_.get(), RetryPolicy{0}, stop_,
                         [&](grpc::ClientContext* context) { return work_->Complete(context, request, &items); });
  }

  Status Encode(const v1::LeasedTask& task, const std::string& path) {
    const std::string source = folder_ + "/" + task.source().content().sha256();
    NSIC_RETURN_IF_ERROR(blobs_.DownloadFile(task.source().content().sha256(), task.source().content().size(), source, stop_));
    NSIC_ASSIGN_OR_RETURN(const VideoMessage video, FromMessage(task.source().video()));
    NSIC_ASSIGN_OR_RETURN(const Segment segment, FromMessage(task.segment()));
    NSIC_ASSIGN_OR_RETURN(std::unique_ptr<ByteSource> bytes, OpenFileSource(source));
    NSIC_ASSIGN_OR_RETURN(const std::unique_ptr<VideoReader> reader, VideoReader::Open(std::move(bytes), video.info, ReadVideoOptions()));
    NSIC_ASSIGN_OR_RETURN(const std::unique_ptr<FrameConverter> converter, FrameConverter::Make(video.info, video.plan, FrameOptions()));
    NSIC_ASSIGN_OR_RETURN(const std::unique_ptr<SegmentWriter> writer, SegmentWriter::Open(path, video.info, video.plan));
    NSIC_RETURN_IF_ERROR(reader->Seek(segment, stop_));
    std::vector<float> planar(static_cast<size_t>(video.info.size.area()) * 3);
    while (true) {
      NSIC_ASSIGN_OR_RETURN(const std::optional<VideoFrame> frame, reader->Next(stop_));
      if (!frame) return writer->Finish();
      NSIC_RETURN_IF_ERROR(converter->ToRgb(*frame, planar.data()));
      NSIC_ASSIGN_OR_RETURN(const VideoFrame finished, converter->Finish(*frame, planar.data(), planar.data()));
      NSIC_RETURN_IF_ERROR(writer->Write(finished));
    }
  }

  const std::shared_ptr<grpc::Channel> channel_;
  const std::unique_ptr<v1::Work::Stub> work_;
  BlobTransfer blobs_;
  const std::string folder_;
  const int limit_;
  std::atomic<int> failing_{-1};
  std::atomic<int> done_{0};
  CancelToken stop_;
  std::thread thread_;
};

class ClientVideoJob : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (fs::temp_directory_path() / "nsic-video-job-XXXXXX").string();
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
    ModelPack pack;
    pack.card.name = "identity";
    pack.card.architecture = "identity";
    pack.card.tiling.tile = 256;
    pack.card.licence = "Apache-2.0";
    ASSERT_TRUE(WriteModelPack(Path("models/identity"), pack).ok());
    Coordinator::Options options;
    options.listen = "127.0.0.1:0";
    options.state_folder = Path("state");
    options.models_folder = Path("models");
    options.farm.version = "0.1.0";
    options.clock = &clock_;
    Result<std::unique_ptr<Coordinator>> started = Coordinator::Start(options);
    ASSERT_TRUE(started.ok()) << started.status();
    coordinator_ = *std::move(started);
    farm_ = std::make_unique<FarmConnection>(coordinator_->address(), "", coordinator_->address());
    ASSERT_TRUE(MakeFolders(Path("in")).ok());
    // Twenty seconds: at least two segments, whatever the planner prefers.
    const std::string command = "ffmpeg -v error -nostdin -y -f lavfi -i testsrc2=size=64x48:rate=10 -f lavfi -i sine=duration=20" +
                                std::string(" -frames:v 200 -c:v libx264 -g 50 -c:a aac -metadata:s:a:0 language=eng ") + Source();
    ASSERT_EQ(std::system(command.c_str()), 0) << command;
  }
  void TearDown() override {
    worker_.reset();
    farm_.reset();
    coordinator_.reset();
    fs::remove_all(folder_);
  }

  std::string Path(const std::string& relative) const { return folder_ + "/" + relative; }
  std::string Source() const { return Path("in/clip.mp4"); }
  std::string Output() const { return Path("out/clip.mp4"); }
  void StartWorker(int limit = 1'000'000) { worker_ = std::make_unique<Worker>(coordinator_->address(), Path("worker"), limit); }

  // A job of the clip, submitted and recorded.
  RecordedJob Submit(const std::optional<FrameNumbers>& frames = std::nullopt) {
    RecordedJob job;
    SubmitClip(frames, &job);
    return job;
  }
  void SubmitClip(const std::optional<FrameNumbers>& frames, RecordedJob* job) {
    const Result<v1::Model> model = farm_->GetModel("identity", cancel_);
    ASSERT_TRUE(model.ok()) << model.status();
    run_.restore = *ToRestoreOptions(SubmitOptions());
    run_.restore.set_model_id(model->id());
    run_.restore.set_model_name("identity");
    const Result<VideoProbe> probe = ProbeVideo(Source());
    ASSERT_TRUE(probe.ok()) << probe.status();
    VideoOptions options;
    options.encode.codec = "ffv1";
    options.encode.container = "mkv";
    const Result<VideoPlan> plan = PlanVideo(Source(), *probe, options, 1);
    ASSERT_TRUE(plan.ok()) << plan.status();
    const Result<VideoIndex> index = IndexVideo(Source(), plan->info, false, cancel_, [](double) {});
    ASSERT_TRUE(index.ok()) << index.status();
    PlannedFile file;
    file.input = Source();
    file.path = "clip.mp4";
    file.sha256 = *Sha256OfFile(Source());
    file.bytes = static_cast<int64_t>(fs::file_size(Source()));
    file.size = plan->info.size;
    file.output = Output();
    PlannedVideo& video = file.video.emplace();
    ToMessage(plan->info, plan->encode, &video.message);
    *video.message.mutable_range() = *ChooseRange(Source(), *index, frames);
    video.parameters = ParametersHash(run_.restore, video.message, {}, frames);
    const std::string blob = IndexBlob(*index);
    video.message.mutable_index()->set_sha256(Sha256Hex(blob));
    video.message.mutable_index()->set_size(static_cast<int64_t>(blob.size()));
    ASSERT_TRUE(farm_->blobs().UploadBytes(blob, Sha256Hex(blob), cancel_).ok());

    v1::JobManifest manifest;
    v1::SourceFile* source = manifest.add_files();
    source->set_path(file.path);
    source->mutable_content()->set_sha256(file.sha256);
    source->mutable_content()->set_size(file.bytes);
    *source->mutable_video() = video.message;
    const std::string bytes = manifest.SerializeAsString();
    ASSERT_TRUE(farm_->blobs().UploadBytes(bytes, Sha256Hex(bytes), cancel_).ok());
    job->job_id = RandomHex(16);
    job->coordinator = coordinator_->address();
    job->title = "test";
    job->model = "identity";
    job->files.push_back(std::move(file));
    v1::SubmitRequest request;
    request.set_job_id(job->job_id);
    *request.mutable_spec()->mutable_options() = run_.restore;
    request.mutable_spec()->set_name("test");
    request.mutable_spec()->mutable_manifest()->set_sha256(Sha256Hex(bytes));
    request.mutable_spec()->mutable_manifest()->set_size(static_cast<int64_t>(bytes.size()));
    const Result<v1::Job> submitted = farm_->Submit(request, cancel_);
    ASSERT_TRUE(submitted.ok()) << submitted.status();
    segments_ = static_cast<int>(submitted->tasks_waiting());
    ASSERT_GE(segments_, frames ? 1 : 2);

    Result<std::unique_ptr<JobRecord>> record = JobRecord::Open(Path("out/nsic-report"), "k");
    ASSERT_TRUE(record.ok()) << record.status();
    record_ = *std::move(record);
    ASSERT_TRUE(record_->BeginJob(*job).ok());
  }

  Result<JobEnd> Run(const RecordedJob& job, const CancelToken& cancel) {
    RunContext context;
    context.farm = farm_.get();
    context.record = record_.get();
    context.progress = &progress_;
    context.clock = &clock_;
    return RunJob(context, job, run_, cancel);
  }

  // The temporary files of the submit.
  std::vector<std::string> Temporary() {
    std::vector<std::string> names;
    std::error_code error;
    for (fs::recursive_directory_iterator entry(Path("out/nsic-report/tmp-k"), error), end; !error && entry != end;
         entry.increment(error)) {
      if (entry->is_regular_file()) names.push_back(entry->path().filename().string());
    }
    return names;
  }

  void ExpectFrames(size_t count) {
    const Result<VideoProbe> probe = ProbeVideo(Output());
    ASSERT_TRUE(probe.ok()) << probe.status();
    EXPECT_EQ(probe->info.codec, "ffv1");
    EXPECT_EQ(probe->streams.size(), 2u);
    const Result<VideoIndex> index = IndexVideo(Output(), probe->info, false, cancel_, [](double) {});
    ASSERT_TRUE(index.ok()) << index.status();
    EXPECT_EQ(index->pts.size(), count);
  }

  std::string folder_;
  SystemClock clock_;
  CancelToken cancel_;
  std::unique_ptr<Coordinator> coordinator_;
  std::unique_ptr<FarmConnection> farm_;
  std::unique_ptr<Worker> worker_;
  std::unique_ptr<std::FILE, int (*)(std::FILE*)> notices_{std::tmpfile(), &std::fclose};
  Progress progress_{notices_.get(), false, &clock_};
  std::unique_ptr<JobRecord> record_;
  JobOptions run_;
  int segments_ = 0;
};

TEST_F(ClientVideoJob, FetchesSegmentsAndJoinsThem) {
  StartWorker();
  const RecordedJob job = Submit();
  ASSERT_FALSE(HasFailure());
  Result<JobEnd> end = Run(job, cancel_);
  ASSERT_TRUE(end.ok()) << end.status();
  EXPECT_EQ(end->state, v1::JOB_STATE_SUCCEEDED);
  const ReportFile& file = end->files.at(0);
  ASSERT_EQ(file.state, FileState::kDone) << file.error;
  ASSERT_TRUE(file.video);
  EXPECT_EQ(file.video->frames, 200);
  EXPECT_EQ(file.video->input_codec, "h264");
  EXPECT_EQ(file.video->output_codec, "ffv1");
  EXPECT_NEAR(file.video->frames_per_second, 10, 1e-6);
  EXPECT_NEAR(file.video->duration, 20, 1e-6);
  EXPECT_THAT(file.video->carried, testing::ElementsAre("audio 1 (aac, eng)"));
  EXPECT_EQ(file.video->frames_repeated, segments_);
  EXPECT_EQ(file.video->frames_concealed, 1);
  EXPECT_THAT(file.video->concealed_at, testing::ElementsAre(testing::DoubleNear(6, 1e-6)));
  for (const std::string& path : {file.video->before_frame, file.video->after_frame}) {
    const Result<PictureInfo> picture = ProbePicture(path);
    ASSERT_TRUE(picture.ok()) << picture.status();
    EXPECT_EQ(picture->size, (Size{64, 48}));
  }
  EXPECT_EQ(*ReadFile(file.video->before_frame), *ReadFile(file.video->after_frame)) << "nothing was changed, so the pictures are equal";
  ExpectFrames(200);
  EXPECT_FALSE(fs::exists(Path("out/nsic-report/tmp-k")));
  const auto outcomes = farm_->ListOutputs(job.job_id, 0, cancel_);
  ASSERT_TRUE(outcomes.ok());
  for (const v1::TaskOutcome& outcome : *outcomes) EXPECT_TRUE(outcome.fetched()) << outcome.task_id();

  // Once more: the output is known, and its segments are not asked for.
  const auto time = fs::last_write_time(Output());
  end = Run(job, cancel_);
  ASSERT_TRUE(end.ok()) << end.status();
  EXPECT_EQ(end->files[0].state, FileState::kDone) << end->files[0].error;
  EXPECT_EQ(end->files[0].video->frames, 200);
  EXPECT_EQ(fs::last_write_time(Output()), time);

  // Without the output the segments are fetched again.
  fs::remove(Output());
  end = Run(job, cancel_);
  ASSERT_TRUE(end.ok()) << end.status();
  EXPECT_EQ(end->files[0].state, FileState::kDone) << end->files[0].error;
  ExpectFrames(200);
  EXPECT_EQ(worker_->done(), segments_) << "nothing was computed again";
}

TEST_F(ClientVideoJob, GoesOnWithTheSegmentsThatAKilledClientHad) {
  StartWorker(1);
  const RecordedJob job = Submit();
  ASSERT_FALSE(HasFailure());
  CancelToken killed;
  std::thread runner([&] { EXPECT_EQ(Run(job, killed).status().code(), StatusCode::kCancelled); });
  const auto fetched = [&] {
    const auto outcomes = farm_->ListOutputs(job.job_id, 0, cancel_);
    return outcomes.ok() && outcomes->size() == 1 && outcomes->front().fetched();
  };
  while (!fetched()) std::this_thread::yield();
  killed.Cancel();
  runner.join();
  const std::vector<std::string> kept = Temporary();
  ASSERT_EQ(kept.size(), 1u);

  // The record of the next client holds all that it needs; a segment that was spoiled meanwhile is fetched anew.
  record_ = *JobRecord::Open(Path("out/nsic-report"), "k");
  ASSERT_TRUE(record_->job_is_open());
  for (const auto& entry : fs::recursive_directory_iterator(Path("out/nsic-report/tmp-k"))) {
    if (!entry.is_regular_file()) continue;
    ASSERT_TRUE(WriteFileAtomically(entry.path().string(), "spoiled").ok());
  }
  worker_.reset();
  StartWorker();
  const Result<JobEnd> end = Run(*record_->job(), cancel_);
  ASSERT_TRUE(end.ok()) << end.status();
  EXPECT_EQ(end->files[0].state, FileState::kDone) << end->files[0].error;
  ExpectFrames(200);
  EXPECT_EQ(worker_->done(), segments_ - 1);
}

TEST_F(ClientVideoJob, RestoresAnExcerpt) {
  StartWorker();
  const RecordedJob job = Submit(FrameNumbers{31, 60});
  ASSERT_FALSE(HasFailure());
  const Result<JobEnd> end = Run(job, cancel_);
  ASSERT_TRUE(end.ok()) << end.status();
  ASSERT_EQ(end->files[0].state, FileState::kDone) << end->files[0].error;
  EXPECT_EQ(end->files[0].video->frames, 30);
  EXPECT_NEAR(end->files[0].video->duration, 3, 1e-6);
  ExpectFrames(30);
}

TEST_F(ClientVideoJob, ASourceThatChangedBeforeTheJoinIsNamed) {
  StartWorker(1);
  const RecordedJob job = Submit();
  ASSERT_FALSE(HasFailure());
  Result<JobEnd> end(InternalError("not run"));
  std::thread runner([&] { end = Run(job, cancel_); });
  while (worker_->done() < 1) std::this_thread::yield();
  ASSERT_TRUE(WriteFileAtomically(Source(), *ReadFile(Source()) + "more").ok());
  worker_.reset();
  StartWorker();
  runner.join();
  ASSERT_TRUE(end.ok()) << end.status();
  EXPECT_EQ(end->files[0].state, FileState::kFailed);
  EXPECT_THAT(end->files[0].error, AllOf(HasSubstr("clip.mp4"), HasSubstr("changed")));
  EXPECT_FALSE(fs::exists(Output()));
}

TEST_F(ClientVideoJob, WithoutItsSourceAVideoCannotBePutTogether) {
  StartWorker();
  RecordedJob job = Submit();
  ASSERT_FALSE(HasFailure());
  ASSERT_TRUE(farm_->blobs().UploadFile(Source(), job.files[0].sha256, job.files[0].bytes, cancel_).ok());
  job.files[0].input.clear();  // as for a client that did not submit it
  run_.upload = false;
  const Result<JobEnd> end = Run(job, cancel_);
  ASSERT_TRUE(end.ok()) << end.status();
  EXPECT_EQ(end->files[0].state, FileState::kFailed);
  EXPECT_THAT(end->files[0].error, HasSubstr("where it was submitted"));
  EXPECT_EQ(end->unfetched, 1);
  const auto outcomes = farm_->ListOutputs(job.job_id, 0, cancel_);
  ASSERT_TRUE(outcomes.ok());
  for (const v1::TaskOutcome& outcome : *outcomes) {
    EXPECT_FALSE(outcome.fetched()) << "the client that can use them is still to come";
  }
}

TEST_F(ClientVideoJob, ReportsWhatAWorkerSaysOfABadVideo) {
  StartWorker();
  worker_->FailFrame(kConcealed);
  const RecordedJob job = Submit();
  ASSERT_FALSE(HasFailure());
  const Result<JobEnd> end = Run(job, cancel_);
  ASSERT_TRUE(end.ok()) << end.status();
  EXPECT_EQ(end->state, v1::JOB_STATE_FAILED);
  EXPECT_EQ(end->files[0].state, FileState::kFailed);
  EXPECT_THAT(end->files[0].error, HasSubstr("1.234 s"));
  EXPECT_FALSE(fs::exists(Output()));
  EXPECT_FALSE(fs::exists(Path("out/nsic-report/tmp-k"))) << "segments of a video that will not come";
}

}  // namespace
}  // namespace nsic
