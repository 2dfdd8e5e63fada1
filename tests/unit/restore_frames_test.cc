// The pipeline of a segment with stages that do what a test says: order, repeats, errors of each stage, cancellation, bounded memory.
#include "worker/restore_frames.h"

#include <gtest/gtest.h>

extern "C" {
#include <libavutil/frame.h>
}

#include <atomic>
#include <chrono>
#include <cstring>
#include <functional>
#include <memory>
#include <new>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "core/base/clock.h"

namespace nsic {
namespace {

constexpr Size kSize{4, 2};
constexpr int kFloats = 3 * 4 * 2;

// A grey frame whose samples all are `value`.
VideoFrame Frame(int value) {
  AVFrame* frame = av_frame_alloc();
  frame->format = AV_PIX_FMT_GRAY8;
  frame->width = kSize.width;
  frame->height = kSize.height;
  EXPECT_EQ(av_frame_get_buffer(frame, 0), 0);
  for (int y = 0; y < kSize.height; ++y) std::memset(frame->data[0] + y * frame->linesize[0], value, static_cast<size_t>(kSize.width));
  return VideoFrame(std::shared_ptr<const AVFrame>(frame, [](const AVFrame* f) {
    AVFrame* owned = const_cast<AVFrame*>(f);
    av_frame_free(&owned);
  }));
}
int ValueOf(const VideoFrame& frame) { return frame.get()->data[0][0]; }

// What the stages do and have done. `at` of a stage: fails at its frame of that number, from 0 on.
struct Script {
  std::vector<int> values;  // of the frames
  struct {
    int at = -1;
    Status status;
    bool throws = false;
  } next, to_rgb, enhance, finish, write, close;
  std::function<void()> on_enhance;

  std::vector<int> written;
  bool closed = false;
  int enhanced = 0;
  std::set<const float*> before, after;  // buffers seen
  std::atomic<int> decoded{0};
};

template <typename Point>
Status Pass(const Point& point, int number) {
  if (point.at != number) return OkStatus();
  if (point.throws) throw std::bad_alloc();
  return point.status;
}

class FakeReader : public VideoReader {
 public:
  explicit FakeReader(Script* script) : script_(script) {}
  Status Seek(const Segment&, const CancelToken&) override { return OkStatus(); }
  Result<std::optional<VideoFrame>> Next(const CancelToken& cancel) override {
    NSIC_RETURN_IF_ERROR(cancel.Check());
    const int number = script_->decoded;
    NSIC_RETURN_IF_ERROR(Pass(script_->next, number));
    if (number == static_cast<int>(script_->values.size())) return std::optional<VideoFrame>();
    ++script_->decoded;
    return std::optional<VideoFrame>(Frame(script_->values[static_cast<size_t>(number)]));
  }
  const std::vector<int>& concealed() const override { return concealed_; }

 private:
  Script* const script_;
  const std::vector<int> concealed_{7};
};

class FakeConverter : public FrameConverter {
 public:
  explicit FakeConverter(Script* script) : script_(script) {}
  Status ToRgb(const VideoFrame& frame, float* planar) override {
    NSIC_RETURN_IF_ERROR(Pass(script_->to_rgb, count_++));
    for (int i = 0; i < kFloats; ++i) planar[i] = static_cast<float>(ValueOf(frame));
    return OkStatus();
  }
  Result<VideoFrame> Finish(const VideoFrame& source, const float* before, const float* after) override {
    NSIC_RETURN_IF_ERROR(Pass(script_->finish, count_++));
    EXPECT_EQ(static_cast<int>(before[kFloats - 1]), ValueOf(source));
    return Frame(static_cast<int>(after[4 * kFloats - 1]));
  }

 private:
  Script* const script_;
  int count_ = 0;
};

// Twice as large, values plus 100.
class FakeEnhancer : public FrameEnhancer {
 public:
  explicit FakeEnhancer(Script* script) : script_(script) {}
  int64_t memory_bytes() const override { return 0; }
  Result<EnhanceStats> Enhance(const float* before, float* after, const CancelToken& cancel) override {
    if (script_->on_enhance) script_->on_enhance();
    NSIC_RETURN_IF_ERROR(cancel.Check());
    NSIC_RETURN_IF_ERROR(Pass(script_->enhance, script_->enhanced++));
    if (last_before_ != nullptr) {
      EXPECT_EQ(*last_before_, last_value_) << "the frame before has changed meanwhile";
      EXPECT_EQ(*last_after_, last_value_ + 100);
    }
    for (int i = 0; i < 4 * kFloats; ++i) after[i] = before[0] + 100;
    last_before_ = before;
    last_after_ = after;
    last_value_ = before[0];
    script_->before.insert(before);
    script_->after.insert(after);
    EnhanceStats stats;
    stats.tiles = 2;
    stats.tiles_repeated = 1;
    stats.pixels = kSize.area();
    return stats;
  }

 private:
  Script* const script_;
  const float* last_before_ = nullptr;
  const float* last_after_ = nullptr;
  float last_value_ = 0;
};

class FakeWriter : public SegmentWriter {
 public:
  explicit FakeWriter(Script* script) : script_(script) {}
  Status Write(const VideoFrame& frame) override {
    NSIC_RETURN_IF_ERROR(Pass(script_->write, static_cast<int>(script_->written.size())));
    script_->written.push_back(ValueOf(frame));
    return OkStatus();
  }
  Status Finish() override {
    NSIC_RETURN_IF_ERROR(Pass(script_->close, 0));
    script_->closed = true;
    return OkStatus();
  }

 private:
  Script* const script_;
};

class RestoreFramesTest : public testing::Test {
 protected:
  std::unique_ptr<FramePipeline> Make(Script* script, FrameBuffers buffers = {}) {
    FrameStages stages;
    stages.reader = std::make_unique<FakeReader>(script);
    stages.to_rgb = std::make_unique<FakeConverter>(script);
    stages.finisher = std::make_unique<FakeConverter>(script);
    stages.enhancer = std::make_unique<FakeEnhancer>(script);
    stages.writer = std::make_unique<FakeWriter>(script);
    return std::make_unique<FramePipeline>(std::move(stages), kSize, 2, buffers, &clock_, cancel_);
  }

  const SystemClock clock_;
  CancelToken cancel_;
};

TEST_F(RestoreFramesTest, EveryFrameComesOutInOrderAndEqualOnesAreDoneOnce) {
  Script script;
  std::vector<int> expected;
  int repeated = 0;
  for (int i = 0; i < 100; ++i) {
    script.values.push_back(i % 5 < 2 ? 7 : i);
    if (i > 0 && script.values[i] == script.values[i - 1]) ++repeated;
    expected.push_back(script.values.back() + 100);
  }
  const auto pipeline = Make(&script);
  ASSERT_FALSE(pipeline->Compute().has_value());
  ASSERT_FALSE(pipeline->Finish().has_value());
  EXPECT_EQ(script.written, expected);
  EXPECT_TRUE(script.closed);
  const RestoreStats& stats = pipeline->stats();
  EXPECT_EQ(stats.frames, 100);
  EXPECT_GT(repeated, 10);
  EXPECT_EQ(stats.frames_repeated, repeated);
  EXPECT_EQ(script.enhanced, 100 - repeated);
  EXPECT_EQ(stats.tiles.tiles, 2 * (100 - repeated));
  EXPECT_EQ(stats.tiles.tiles_repeated, 100 - repeated);
  EXPECT_EQ(pipeline->concealed(), std::vector<int>{7});
}

TEST_F(RestoreFramesTest, TakesNoMoreBuffersThanItWasGiven) {
  for (const FrameBuffers& buffers : {FrameBuffers{4, 3}, FrameBuffers{2, 2}, FrameBuffers{3, 2}}) {
    Script script;
    for (int i = 0; i < 50; ++i) script.values.push_back(i % 100);
    const auto pipeline = Make(&script, buffers);
    ASSERT_FALSE(pipeline->Compute().has_value());
    ASSERT_FALSE(pipeline->Finish().has_value());
    EXPECT_EQ(script.written.size(), 50u);
    EXPECT_LE(script.before.size(), static_cast<size_t>(buffers.before));
    EXPECT_LE(script.after.size(), static_cast<size_t>(buffers.after));
  }
  EXPECT_EQ((FrameBuffers{2, 3}).bytes({10, 10}, 2), 4 * 3 * 100 * (2 + 3 * 4));
}

TEST_F(RestoreFramesTest, AnErrorOfAnyStageStopsTheOthersAndIsWhatIsTold) {
  const Status lost = DataLossError("broken");
  using Stage = FramePipeline::Stage;
  const struct {
    const char* name;
    decltype(Script::next) Script::*point;
    int at;
    Stage stage;
  } kRows[] = {
      {"decode, first", &Script::next, 0, Stage::kDecode},
      {"decode, later", &Script::next, 20, Stage::kDecode},
      {"to rgb", &Script::to_rgb, 5, Stage::kDecode},
      {"enhance, first", &Script::enhance, 0, Stage::kCompute},
      {"enhance, later", &Script::enhance, 9, Stage::kCompute},
      {"finish", &Script::finish, 3, Stage::kEncode},
      {"write, first", &Script::write, 0, Stage::kEncode},
      {"write, later", &Script::write, 30, Stage::kEncode},
      {"close", &Script::close, 0, Stage::kEncode},
  };
  for (const auto& row : kRows) {
    for (const bool throws : {false, true}) {
      if (throws && row.point == &Script::close) continue;  // closing takes no memory
      SCOPED_TRACE(std::string(row.name) + (throws ? ", out of memory" : ""));
      Script script;
      for (int i = 0; i < 60; ++i) script.values.push_back(i);
      (script.*row.point).at = row.at;
      (script.*row.point).status = lost;
      (script.*row.point).throws = throws;
      const auto pipeline = Make(&script);
      std::optional<FramePipeline::Failure> failure = pipeline->Compute();
      if (!failure.has_value()) failure = pipeline->Finish();
      ASSERT_TRUE(failure.has_value());
      EXPECT_EQ(failure->stage, row.stage);
      EXPECT_EQ(failure->status.code(), throws ? StatusCode::kResourceExhausted : StatusCode::kDataLoss) << failure->status;
      EXPECT_FALSE(script.closed);
    }
  }
}

TEST_F(RestoreFramesTest, CancellingEndsItWhereverItIs) {
  Script script;
  script.values.assign(10'000, 0);
  for (size_t i = 0; i < script.values.size(); ++i) script.values[i] = static_cast<int>(i % 100);
  script.on_enhance = [&] {
    if (script.enhanced == 10) cancel_.Cancel();
  };
  const auto pipeline = Make(&script);
  const std::optional<FramePipeline::Failure> failure = pipeline->Compute();
  ASSERT_TRUE(failure.has_value());
  EXPECT_EQ(failure->status.code(), StatusCode::kCancelled);
  EXPECT_LT(script.decoded, 100);
  EXPECT_FALSE(Make(&script)->Compute() == std::nullopt) << "cancelled before it begins";
}

TEST_F(RestoreFramesTest, CanBeDroppedAtAnyTime) {
  Script script;
  for (int i = 0; i < 60; ++i) script.values.push_back(i);
  Make(&script).reset();
  const auto pipeline = Make(&script);
  EXPECT_FALSE(pipeline->Compute().has_value());  // and is never finished
}

// While the compute stage is busy, the next frames are decoded.
TEST_F(RestoreFramesTest, DecodesAheadOfTheComputeStage) {
  Script script;
  for (int i = 0; i < 20; ++i) script.values.push_back(i);
  bool ahead = true;
  script.on_enhance = [&] {
    const int needed = std::min(20, script.enhanced + 3);
    for (int i = 0; i < 2000 && script.decoded < needed; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(5));
    ahead = ahead && script.decoded >= needed;
  };
  const auto pipeline = Make(&script);
  ASSERT_FALSE(pipeline->Compute().has_value());
  ASSERT_FALSE(pipeline->Finish().has_value());
  EXPECT_TRUE(ahead);
}

}  // namespace
}  // namespace nsic
