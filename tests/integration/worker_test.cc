// The whole worker in this process, against a fake coordinator on loopback.
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "core/base/digest.h"
#include "core/infer/engine.h"
#include "core/media/picture.h"
#include "tests/fakes/worker_fixture.h"
#include "worker/work_loop.h"

namespace nsic {
namespace {

TEST_F(WorkerTest, TheIdentityGivesPicturesBackBitByBit) {
  const struct {
    const char* name;
    int width, height, bands;
    VipsBandFormat format;
  } kRows[] = {
      {"rgb8", 321, 123, 3, VIPS_FORMAT_UCHAR},  {"rgba8", 70, 90, 4, VIPS_FORMAT_UCHAR},   {"grey8", 65, 64, 1, VIPS_FORMAT_UCHAR},
      {"rgb16", 130, 67, 3, VIPS_FORMAT_USHORT}, {"rgba16", 33, 40, 4, VIPS_FORMAT_USHORT}, {"one pixel", 1, 1, 3, VIPS_FORMAT_UCHAR},
      {"3x2", 3, 2, 3, VIPS_FORMAT_UCHAR},
  };
  std::map<std::string, std::string> sources;
  for (const auto& row : kRows) {
    sources[row.name] = Png(row.width, row.height, row.bands, row.format);
    v1::LeasedTask task = IdentityTask(&coordinator_, row.name, sources[row.name], row.width, row.height);
    task.mutable_source()->mutable_picture()->set_depth(row.format == VIPS_FORMAT_USHORT ? 16 : 8);
    task.mutable_source()->mutable_picture()->set_alpha(row.bands == 4);
    task.mutable_source()->mutable_picture()->set_grey(row.bands == 1);
    coordinator_.Add(task);
  }
  StartWorker();
  for (const auto& row : kRows) {
    ExpectDone(row.name);
    ExpectOutput(row.name, sources[row.name]);
    const v1::TaskResult& result = coordinator_.work.completed[row.name];
    EXPECT_EQ(result.width(), row.width) << row.name;
    EXPECT_EQ(result.height(), row.height) << row.name;
    EXPECT_EQ(result.precision(), "fp32") << row.name;
    EXPECT_EQ(result.device(), "cpu") << row.name;
    EXPECT_GT(result.seconds(), 0) << row.name;
  }
  EXPECT_EQ(coordinator_.work.registrations.size(), 1u);
  EXPECT_EQ(coordinator_.work.registrations[0].media_roots(0), "home");
  EXPECT_EQ(coordinator_.work.registrations[0].protocol(), kProtocolVersion);
}

TEST_F(WorkerTest, ATileTaskGivesItsRegionAtWorkingDepth) {
  const std::string png = Png(300, 200);
  v1::LeasedTask task = IdentityTask(&coordinator_, "tile", png, 300, 200);
  task.mutable_region()->set_x(96);
  task.mutable_region()->set_y(48);
  task.mutable_region()->set_width(144);
  task.mutable_region()->set_height(100);
  coordinator_.Add(task);
  StartWorker();
  ExpectDone("tile");
  Spill(Path("source.png"), png);
  Spill(Path("output"), coordinator_.Output("tile"));
  const Decoded piece = DecodeFile(Path("output"));
  const Decoded source = DecodeFile(Path("source.png"));
  ASSERT_EQ(piece.width, 144);
  ASSERT_EQ(piece.height, 100);
  ASSERT_EQ(piece.depth, 16);
  for (int y = 0; y < 100; ++y) {
    for (int x = 0; x < 144; ++x) {
      for (int band = 0; band < 3; ++band) ASSERT_EQ(piece.at(x, y, band), 257 * source.at(96 + x, 48 + y, band)) << x << "," << y;
    }
  }
}

TEST_F(WorkerTest, OptionsOfTheJobAreApplied) {
  v1::LeasedTask task = Task("scaled");
  task.mutable_options()->set_scale(0.5);
  task.mutable_options()->set_format("jpg");
  coordinator_.Add(task);
  StartWorker();
  ExpectDone("scaled");
  EXPECT_EQ(coordinator_.work.completed["scaled"].width(), 50);
  EXPECT_EQ(coordinator_.work.completed["scaled"].height(), 40);
  EXPECT_EQ(coordinator_.Output("scaled").substr(0, 2), "\xff\xd8");
}

TEST_F(WorkerTest, EachFailureHasItsClassAndMessageAndStopsNothing) {
  const std::string png = Png(100, 80);
  const std::string jpeg = Encoded(100, 80, ".jpg");
  struct Row {
    std::string name;
    v1::LeasedTask task;
    v1::FailureClass failure_class;
    std::string message;  // a part of it
  };
  std::vector<Row> rows;
  const auto add = [&](const std::string& name, const v1::LeasedTask& task, v1::FailureClass failure_class, const std::string& message) {
    rows.push_back({name, task, failure_class, message});
  };
  const auto in_root = [&](const std::string& name, const std::string& bytes) { Spill(Path("root/" + name), bytes); };

  add("text", IdentityTask(&coordinator_, "text", "this is no picture", 100, 80), v1::FAILURE_CLASS_BAD_INPUT, "album/text");
  add("empty", IdentityTask(&coordinator_, "empty", "", 100, 80), v1::FAILURE_CLASS_BAD_INPUT, "album/empty");
  add("half png", IdentityTask(&coordinator_, "half png", png.substr(0, png.size() / 2), 100, 80), v1::FAILURE_CLASS_BAD_INPUT,
      "album/half png");
  add("half jpeg", IdentityTask(&coordinator_, "half jpeg", jpeg.substr(0, jpeg.size() / 2), 100, 80, "jpeg"), v1::FAILURE_CLASS_BAD_INPUT,
      "album/half jpeg");
  add("other size", IdentityTask(&coordinator_, "other size", png, 101, 80), v1::FAILURE_CLASS_BAD_INPUT, "100x80");
  {
    v1::LeasedTask task = IdentityTask(&coordinator_, "region", png, 100, 80);
    task.mutable_region()->set_x(90);
    task.mutable_region()->set_width(20);
    task.mutable_region()->set_height(10);
    add("region", task, v1::FAILURE_CLASS_BAD_INPUT, "submit it again");
  }
  add("too large", IdentityTask(&coordinator_, "too large", png, 20'000, 20'000), v1::FAILURE_CLASS_WORKER_FAULT, "needs ");
  {
    v1::LeasedTask task = IdentityTask(&coordinator_, "no blob", "gone", 100, 80);
    coordinator_.blobs.stored.erase(Sha256Hex("gone"));
    add("no blob", task, v1::FAILURE_CLASS_TRANSIENT, "");
  }
  {
    v1::LeasedTask task = Task("no hash");
    task.mutable_source()->mutable_content()->set_sha256("../../etc/passwd");
    add("no hash", task, v1::FAILURE_CLASS_WORKER_FAULT, "does not name a blob");
  }
  {
    v1::LeasedTask task = Task("wrong model");
    task.mutable_options()->set_model_id(std::string(64, '0'));
    add("wrong model", task, v1::FAILURE_CLASS_WORKER_FAULT, "instead of 0000");
  }
  {
    v1::LeasedTask task = Task("bad bundle");
    const std::string bundle = BundleModelPack(IdentityPack()) + "x";
    task.set_model_blob(coordinator_.blobs.Store(bundle));
    task.set_model_blob_size(static_cast<int64_t>(bundle.size()));
    task.mutable_options()->set_model_id(std::string(64, '1'));
    add("bad bundle", task, v1::FAILURE_CLASS_WORKER_FAULT, "bundle");
  }
  {
    v1::LeasedTask task = Task("lying bundle");
    const std::string hash = Sha256Hex("another");
    coordinator_.blobs.stored[hash] = BundleModelPack(IdentityPack());
    task.set_model_blob(hash);
    task.mutable_options()->set_model_id(std::string(64, '2'));
    add("lying bundle", task, v1::FAILURE_CLASS_TRANSIENT, hash);
  }
  {
    v1::LeasedTask task = IdentityTask(&coordinator_, "transparent", Png(100, 80, 4), 100, 80);
    task.mutable_options()->set_format("jpg");
    add("transparent", task, v1::FAILURE_CLASS_BAD_INPUT, "transparent parts");
  }
  add("missing", InPlaceTask("missing", "missing.png", png), v1::FAILURE_CLASS_BAD_INPUT, "root/missing.png");
  in_root("changed.png", png + "x");
  add("changed", InPlaceTask("changed", "changed.png", png), v1::FAILURE_CLASS_BAD_INPUT, "has changed");
  std::string flipped = png;
  flipped[flipped.size() / 2] ^= 1;
  in_root("flipped.png", flipped);
  add("flipped", InPlaceTask("flipped", "flipped.png", png), v1::FAILURE_CLASS_BAD_INPUT, "has changed");
  Spill(Path("outside.png"), png);
  std::filesystem::create_symlink(Path("outside.png"), Path("root/link.png"));
  add("link out", InPlaceTask("link out", "link.png", png), v1::FAILURE_CLASS_BAD_INPUT, "outside the media root");
  add("dots", InPlaceTask("dots", "sub/../../outside.png", png), v1::FAILURE_CLASS_BAD_INPUT, "outside the media root");
  add("absolute", InPlaceTask("absolute", Path("root/changed.png"), png), v1::FAILURE_CLASS_BAD_INPUT, "relative to a media root");
  add("nul", InPlaceTask("nul", std::string("a\0b", 3), png), v1::FAILURE_CLASS_BAD_INPUT, "relative to a media root");
  add("folder", InPlaceTask("folder", "sub", png), v1::FAILURE_CLASS_BAD_INPUT, "not a regular file");
  ASSERT_EQ(::mkfifo(Path("root/pipe").c_str(), 0600), 0);
  add("pipe", InPlaceTask("pipe", "pipe", png), v1::FAILURE_CLASS_BAD_INPUT, "not a regular file");
  std::filesystem::create_symlink("loop", Path("root/loop"));
  add("loop", InPlaceTask("loop", "loop", png), v1::FAILURE_CLASS_BAD_INPUT, "loop");
  {
    v1::LeasedTask task = InPlaceTask("no root", "a.png", png);
    task.mutable_source()->mutable_in_place()->set_root_id("elsewhere");
    add("no root", task, v1::FAILURE_CLASS_WORKER_FAULT, "elsewhere");
  }
  in_root("\xff\xfe name.png", "not UTF-8, no picture");
  add("bytes", InPlaceTask("bytes", "\xff\xfe name.png", "not UTF-8, no picture"), v1::FAILURE_CLASS_BAD_INPUT,
      "\xef\xbf\xbd\xef\xbf\xbd name.png");

  for (const Row& row : rows) coordinator_.Add(row.task);
  coordinator_.Add(Task("good"));
  StartWorker();
  ExpectDone("good");
  for (const Row& row : rows) {
    EXPECT_TRUE(WaitUntil([&] { return coordinator_.Failed(row.name) || coordinator_.Completed(row.name); })) << row.name;
    std::lock_guard<std::mutex> lock(coordinator_.work.mutex);
    const v1::FailedItem& item = coordinator_.work.failed[row.name];
    EXPECT_EQ(item.failure_class(), row.failure_class) << row.name << ": " << item.message();
    EXPECT_NE(item.message().find(row.message), std::string::npos) << row.name << ": " << item.message();
    EXPECT_EQ(item.message().find("cache/blobs"), std::string::npos) << row.name << ": " << item.message();
  }
}

TEST_F(WorkerTest, FilesAreReadInPlaceThroughLinksInsideTheRoot) {
  const std::string png = Png(100, 80);
  Spill(Path("root/sub/a.png"), png);
  std::filesystem::create_symlink(Path("root/sub/a.png"), Path("root/b.png"));
  coordinator_.Add(InPlaceTask("file", "sub/a.png", png));
  coordinator_.Add(InPlaceTask("link", "b.png", png));
  {
    std::lock_guard<std::mutex> lock(coordinator_.blobs.mutex);
    coordinator_.blobs.stored.erase(Sha256Hex(png));
  }
  StartWorker();
  ExpectDone("file");
  ExpectDone("link");
  ExpectOutput("link", png);
}

TEST_F(WorkerTest, EngineErrorsAreThisWorkersFault) {
  coordinator_.Add(Task("first"));
  StartWorker();
  ExpectDone("first");
  script_.not_a_number = true;
  coordinator_.Add(Task("nan"));
  EXPECT_TRUE(WaitUntil([&] { return coordinator_.Failed("nan"); }));
  script_.not_a_number = false;
  script_.out_of_memory = true;
  coordinator_.Add(Task("memory"));
  EXPECT_TRUE(WaitUntil([&] { return coordinator_.Failed("memory"); }));
  script_.out_of_memory = false;
  EXPECT_EQ(coordinator_.work.failed["nan"].failure_class(), v1::FAILURE_CLASS_WORKER_FAULT);
  EXPECT_EQ(coordinator_.work.failed["memory"].failure_class(), v1::FAILURE_CLASS_WORKER_FAULT);
  coordinator_.Add(Task("last"));
  ExpectDone("last");
}

TEST_F(WorkerTest, ReportsItsSpeedOnceItHasMeasuredIt) {
  coordinator_.Add(Task("one"));
  StartWorker();
  ExpectDone("one");
  const std::string model = Task("x").options().model_id();
  EXPECT_TRUE(WaitUntil([&] {
    std::lock_guard<std::mutex> lock(coordinator_.work.mutex);
    const v1::LeaseRequest& last = coordinator_.work.leases.back();
    return last.speeds_size() == 1 && last.speeds(0).model_id() == model && last.speeds(0).megapixels_per_second() > 0 &&
           last.speeds(0).precision() == "fp32";
  }));
  EXPECT_EQ(coordinator_.work.leases.front().speeds_size(), 0);
}

TEST_F(WorkerTest, RenewsAllThatItHoldsAndStopsWhatIsNotWanted) {
  StartWorker();
  coordinator_.Add(Task("warm up"));
  ExpectDone("warm up");
  script_.blocked = true;
  {
    std::lock_guard<std::mutex> lock(coordinator_.work.mutex);
    for (const char* token : {"a", "b", "c", "d", "e", "f"}) coordinator_.work.tasks.push_back(Task(token));
  }
  EXPECT_TRUE(WaitUntil([&] {
    std::lock_guard<std::mutex> lock(coordinator_.work.mutex);
    return coordinator_.work.renewed.count("a") > 0 && coordinator_.work.renewed.count("f") > 0;
  }));
  EXPECT_TRUE(WaitUntil([&] { return script_.computing > 1; }));
  {
    std::lock_guard<std::mutex> lock(coordinator_.work.mutex);
    coordinator_.work.stop = {"a", "e"};
  }
  EXPECT_TRUE(WaitUntil([&] { return script_.cancelled == 1; }));  // a was computing
  script_.blocked = false;
  for (const char* token : {"b", "c", "d", "f"}) ExpectDone(token);
  StopWorker();
  EXPECT_FALSE(coordinator_.Completed("a") || coordinator_.Failed("a") || coordinator_.Released("a"));
  EXPECT_FALSE(coordinator_.Failed("e") || coordinator_.Released("e"));
}

TEST_F(WorkerTest, FinishesItsTaskWhileTheCoordinatorIsAway) {
  StartWorker();
  coordinator_.Add(Task("warm up"));
  ExpectDone("warm up");
  script_.blocked = true;
  coordinator_.Add(Task("a"));
  EXPECT_TRUE(WaitUntil([&] { return script_.computing > 1; }));
  coordinator_.Stop();
  script_.blocked = false;
  std::this_thread::sleep_for(milliseconds(100));  // so that it tries to deliver to nobody; the test passes whether it has or not
  coordinator_.Restart();
  ExpectDone("a");
  coordinator_.Add(Task("b"));
  ExpectDone("b");
  EXPECT_EQ(coordinator_.work.registrations.size(), 1u) << "sessions outlive a restart of the coordinator";
}

TEST_F(WorkerTest, RegistersAgainWhenItsSessionIsForgottenAndStillDelivers) {
  StartWorker();
  coordinator_.Add(Task("warm up"));
  ExpectDone("warm up");
  script_.blocked = true;
  coordinator_.Add(Task("a"));
  EXPECT_TRUE(WaitUntil([&] { return script_.computing > 1; }));
  {
    std::lock_guard<std::mutex> lock(coordinator_.work.mutex);
    coordinator_.work.session = "another";
  }
  EXPECT_TRUE(WaitUntil([&] {
    std::lock_guard<std::mutex> lock(coordinator_.work.mutex);
    return coordinator_.work.registrations.size() == 2;
  }));
  script_.blocked = false;
  ExpectDone("a");
  coordinator_.Add(Task("b"));
  ExpectDone("b");
}

TEST_F(WorkerTest, WaitsForACoordinatorThatIsNotThereYet) {
  coordinator_.Stop();
  StartWorker();
  std::this_thread::sleep_for(milliseconds(50));
  coordinator_.Restart();
  coordinator_.Add(Task("a"));
  ExpectDone("a");
}

TEST_F(WorkerTest, LeavesWhenItIsRefused) {
  coordinator_.work.refusal = grpc::Status(grpc::FAILED_PRECONDITION, "worker w1 has version 0.1.0, the coordinator 9.9.9");
  StartWorker();
  Join();
  EXPECT_EQ(end_.code(), StatusCode::kFailedPrecondition);
  EXPECT_NE(end_.message().find("9.9.9"), std::string::npos) << end_;
  EXPECT_NE(end_.message().find(coordinator_.address()), std::string::npos) << end_;
}

TEST_F(WorkerTest, LeavesToATwinThatRegistersAgainAndAgain) {
  StartWorker();
  EXPECT_TRUE(WaitUntil([&] {
    std::lock_guard<std::mutex> lock(coordinator_.work.mutex);
    coordinator_.work.session = "the twin's";
    return ended_.load();
  }));
  Join();
  EXPECT_EQ(end_.code(), StatusCode::kFailedPrecondition);
  EXPECT_NE(end_.message().find("--name"), std::string::npos) << end_;
}

TEST_F(WorkerTest, DrainFinishesWhatComputesAndGivesBackTheRest) {
  StartWorker();
  coordinator_.Add(Task("warm up"));
  ExpectDone("warm up");
  script_.blocked = true;
  {
    std::lock_guard<std::mutex> lock(coordinator_.work.mutex);
    for (const char* token : {"a", "b", "c", "d", "e"}) coordinator_.work.tasks.push_back(Task(token));
  }
  EXPECT_TRUE(WaitUntil([&] { return script_.computing > 1; }));
  loop_->Drain();
  for (const char* token : {"b", "c", "d", "e"}) EXPECT_TRUE(WaitUntil([&] { return coordinator_.Released(token); })) << token;
  EXPECT_FALSE(coordinator_.Completed("a"));
  script_.blocked = false;
  Join();
  EXPECT_TRUE(end_.ok()) << end_;
  EXPECT_TRUE(coordinator_.Completed("a"));
  EXPECT_EQ(coordinator_.work.failed.size(), 0u);
  EXPECT_TRUE(std::filesystem::is_empty(options_.cache + "/outbox"));
}

TEST_F(WorkerTest, DrainGivesBackALeaseWhoseReplyItNeverGot) {
  coordinator_.work.lose_replies = true;
  coordinator_.Add(Task("a"));
  coordinator_.Add(Task("b"));
  StartWorker();
  EXPECT_TRUE(WaitUntil([&] {
    std::lock_guard<std::mutex> lock(coordinator_.work.mutex);
    return !coordinator_.work.grants.empty();
  }));
  loop_->Drain();
  Join();
  EXPECT_TRUE(coordinator_.Released("a"));
  EXPECT_TRUE(coordinator_.Released("b"));
}

TEST_F(WorkerTest, DrainDoesNotWaitForEverForACoordinatorThatIsAway) {
  StartWorker();
  coordinator_.Add(Task("warm up"));
  ExpectDone("warm up");
  script_.blocked = true;
  coordinator_.Add(Task("a"));
  EXPECT_TRUE(WaitUntil([&] { return script_.computing > 1; }));
  coordinator_.Stop();
  loop_->Drain();
  Join();
  EXPECT_TRUE(end_.ok()) << end_;
  EXPECT_FALSE(coordinator_.Completed("a"));
}

TEST_F(WorkerTest, TakesNothingWhileTheCoordinatorDrainsIt) {
  coordinator_.work.drain = true;
  coordinator_.Add(Task("a"));
  StartWorker();
  EXPECT_TRUE(WaitUntil([&] {
    std::lock_guard<std::mutex> lock(coordinator_.work.mutex);
    return coordinator_.work.renewals > 3;
  }));
  EXPECT_FALSE(coordinator_.Completed("a"));
  {
    std::lock_guard<std::mutex> lock(coordinator_.work.mutex);
    coordinator_.work.drain = false;
  }
  ExpectDone("a");
}

TEST_F(WorkerTest, WaitsForRoomAtTheCoordinator) {
  StartWorker();
  coordinator_.Add(Task("warm up"));
  ExpectDone("warm up");
  {
    std::lock_guard<std::mutex> lock(coordinator_.blobs.mutex);
    coordinator_.blobs.full = true;
    // The warm-up's output is the same blob: without this nothing would be sent.
    coordinator_.blobs.stored.erase(coordinator_.work.completed["warm up"].output().sha256());
  }
  coordinator_.Add(Task("a"));
  EXPECT_TRUE(WaitUntil([&] {
    std::lock_guard<std::mutex> lock(coordinator_.blobs.mutex);
    return coordinator_.blobs.uploads >= 3;
  }));
  EXPECT_FALSE(coordinator_.Completed("a") || coordinator_.Failed("a"));
  {
    std::lock_guard<std::mutex> lock(coordinator_.blobs.mutex);
    coordinator_.blobs.full = false;
  }
  ExpectDone("a");
}

TEST_F(WorkerTest, WhatTheCoordinatorAnswersToAResultCounts) {
  const struct {
    const char* name;
    std::vector<int> answers;
    bool completed, failed;
  } kRows[] = {
      {"blob has gone", {grpc::FAILED_PRECONDITION}, true, false},
      {"cancelled", {grpc::CANCELLED}, false, false},
      {"unknown", {grpc::NOT_FOUND}, false, false},
      {"superseded", {grpc::ABORTED}, false, false},
      {"blob never stays", {grpc::FAILED_PRECONDITION, grpc::FAILED_PRECONDITION, grpc::FAILED_PRECONDITION}, false, true},
  };
  StartWorker();
  for (const auto& row : kRows) {
    {
      std::lock_guard<std::mutex> lock(coordinator_.work.mutex);
      coordinator_.work.complete_answers.assign(row.answers.begin(), row.answers.end());
    }
    coordinator_.Add(Task(row.name));
    coordinator_.Add(Task(std::string(row.name) + ", next"));
    ExpectDone(std::string(row.name) + ", next");
    EXPECT_EQ(coordinator_.Completed(row.name), row.completed) << row.name;
    EXPECT_EQ(coordinator_.Failed(row.name), row.failed) << row.name;
  }
}

TEST_F(WorkerTest, MeasuresItselfWhenItHasNothingLeftToDo) {
  v1::LeasedTask task = Task("first");
  v1::Measure measure;
  measure.set_bench_id("bench");
  measure.set_model_id(task.options().model_id());
  measure.set_model_blob(task.model_blob());
  measure.set_model_blob_size(task.model_blob_size());
  script_.blocked = true;
  coordinator_.Add(task);
  StartWorker();
  ASSERT_TRUE(WaitUntil([&] { return script_.computing > 0; }));
  const auto ask = [&](const v1::Measure& wanted) {
    std::lock_guard<std::mutex> lock(coordinator_.work.mutex);
    coordinator_.work.measure = wanted;
    coordinator_.work.reports.clear();
  };
  const auto reported = [&] {
    std::lock_guard<std::mutex> lock(coordinator_.work.mutex);
    return !coordinator_.work.reports.empty();
  };
  ask(measure);
  script_.blocked = false;
  ASSERT_TRUE(WaitUntil(reported));
  EXPECT_TRUE(coordinator_.Completed("first")) << "what it held came first";
  v1::ReportRequest report = coordinator_.work.reports[0];
  EXPECT_EQ(report.bench_id(), "bench");
  EXPECT_EQ(report.error(), "");
  const v1::Measurement& measurement = report.measurement();
  ASSERT_EQ(measurement.frames_size(), 3);
  for (const v1::FrameSpeed& speed : measurement.frames()) EXPECT_GT(speed.frames_per_second(), 0) << speed.height();
  EXPECT_EQ(measurement.frames(1).height(), 1080);
  EXPECT_EQ(measurement.precision(), "fp32");
  EXPECT_EQ(measurement.gflops(), 0) << "the identity computes nothing";
  EXPECT_GT(measurement.peak_gflops(), 0.1);
  EXPECT_GT(measurement.peak_memory_bytes(), 25'000'000) << "a frame alone is as large";

  script_.not_a_number = true;
  ask(measure);
  ASSERT_TRUE(WaitUntil(reported));
  EXPECT_NE(coordinator_.work.reports[0].error().find("NaN"), std::string::npos) << coordinator_.work.reports[0].error();
  script_.not_a_number = false;
  measure.set_model_id(std::string(64, 'b'));
  measure.set_model_blob(Sha256Hex("nowhere"));
  ask(measure);
  ASSERT_TRUE(WaitUntil(reported));
  EXPECT_NE(coordinator_.work.reports[0].error(), "");

  coordinator_.Add(Task("next"));
  ExpectDone("next");
}

TEST_F(WorkerTest, OneCacheServesOneWorker) {
  StartWorker();
  WorkerMetrics metrics;
  const auto load = [](const ModelPack& pack) { return LoadEnhancer(pack, EngineOptions()); };
  const Result<std::unique_ptr<WorkLoop>> second = WorkLoop::Make(options_, {load, nullptr, nullptr}, &clock_, &metrics);
  EXPECT_EQ(second.status().code(), StatusCode::kFailedPrecondition);
  EXPECT_NE(second.status().message().find("--cache"), std::string::npos) << second.status();
}

TEST_F(WorkerTest, AMediaRootThatIsNotThereIsNamed) {
  options_.media_roots["usb"] = Path("not plugged in");
  const auto load = [](const ModelPack& pack) { return LoadEnhancer(pack, EngineOptions()); };
  const Result<std::unique_ptr<WorkLoop>> loop = WorkLoop::Make(options_, {load, nullptr, nullptr}, &clock_, &metrics_);
  EXPECT_NE(loop.status().message().find("not plugged in"), std::string::npos) << loop.status();
}

}  // namespace
}  // namespace nsic

int main(int argc, char** argv) {
  const nsic::MediaLibrary media(2);
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
