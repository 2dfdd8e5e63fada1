// Videos on the wire: what goes in comes out, and what is wrong is refused by name.
#include "core/rpc/video_messages.h"

#include <gtest/gtest.h>

#include <functional>
#include <limits>
#include <string>

namespace nsic {
namespace {

VideoInfo SomeInfo() {
  VideoInfo info;
  info.size = {853, 479};
  info.stream_index = 3;
  info.codec = "hevc";
  info.pixel_format = "yuv420p10le";
  info.time_base = {1, 90'000};
  info.frame_rate = {24'000, 1001};
  info.sample_aspect = {16, 15};
  info.colour = {9, 9, 16, true, 3};
  info.hdr.primaries = {35'400, 14'600, 8500, 39'850, 6550, 2300, 15'635, 16'450};
  info.hdr.max_luminance = 10'000'000;
  info.hdr.min_luminance = 50;
  info.hdr.max_content_light = 1000;
  info.hdr.max_frame_average_light = 400;
  info.field_order = FieldOrder::kBottomFirst;
  info.deinterlace = true;
  return info;
}

EncodePlan SomePlan() {
  EncodePlan plan;
  plan.encoder = "libx265";
  plan.crf = 20.5;
  plan.preset = "medium";
  plan.pixel_format = "yuv420p10le";
  plan.size = {1706, 958};
  plan.threads = 2;
  plan.container = "mkv";
  return plan;
}

TEST(VideoMessages, InfoComesBack) {
  v1::VideoInfo message;
  message.mutable_range()->set_count(7);
  ToMessage(SomeInfo(), SomePlan(), &message);
  EXPECT_EQ(message.range().count(), 7) << "left alone";
  const Result<VideoMessage> video = FromMessage(message);
  ASSERT_TRUE(video.ok()) << video.status();
  v1::VideoInfo again;
  again.mutable_range()->set_count(7);
  ToMessage(video->info, video->plan, &again);
  EXPECT_EQ(again.SerializeAsString(), message.SerializeAsString());
  EXPECT_EQ(video->info.size, (Size{853, 479}));
  EXPECT_EQ(video->info.colour, SomeInfo().colour);
  EXPECT_EQ(video->info.hdr.primaries, SomeInfo().hdr.primaries);
  EXPECT_EQ(video->info.field_order, FieldOrder::kBottomFirst);
  EXPECT_EQ(video->info.frame_rate.num, 24'000);
  EXPECT_EQ(video->info.deinterlace, true);
  EXPECT_EQ(video->plan.crf, 20.5);
  EXPECT_EQ(video->plan.size, (Size{1706, 958}));
}

TEST(VideoMessages, BadInfosAreRefused) {
  using Change = std::function<void(v1::VideoInfo*)>;
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const struct {
    const char* message;
    Change change;
  } rows[] = {
      {"0x479", [](auto* v) { v->set_width(0); }},
      {"853x-1", [](auto* v) { v->set_height(-1); }},
      {"16385", [](auto* v) { v->set_width(kMaxVideoSide + 1); }},
      {"stream -1", [](auto* v) { v->set_stream_index(-1); }},
      {"codec ''", [](auto* v) { v->clear_codec(); }},
      {"codec 'h 264'", [](auto* v) { v->set_codec("h 264"); }},
      {"codec '../x'", [](auto* v) { v->set_codec("../x"); }},
      {"pixel format 'x?y'", [](auto* v) { v->set_pixel_format("x\ny"); }},
      {"pixel format 'aaaa", [](auto* v) { v->set_pixel_format(std::string(1000, 'a')); }},
      {"time base of 0/0", [](auto* v) { v->clear_time_base(); }},
      {"time base of 1/-1", [](auto* v) { v->mutable_time_base()->set_den(-1); }},
      {"time base of 4294967296/90000", [](auto* v) { v->mutable_time_base()->set_num(int64_t{1} << 32); }},
      {"frame rate of 0/0", [](auto* v) { v->clear_frame_rate(); }},
      {"frame rate of 24000/0", [](auto* v) { v->mutable_frame_rate()->set_den(0); }},
      {"frame rate of 2000000000/1", [](auto* v) { v->mutable_frame_rate()->set_num(2'000'000'000), v->mutable_frame_rate()->set_den(1); }},
      {"sample aspect of -1/15", [](auto* v) { v->mutable_sample_aspect()->set_num(-1); }},
      {"colour code 256", [](auto* v) { v->mutable_colour()->set_matrix(256); }},
      {"colour code -1", [](auto* v) { v->mutable_colour()->set_transfer(-1); }},
      {"chroma location 7", [](auto* v) { v->mutable_colour()->set_chroma_location(7); }},
      {"9 chromaticities", [](auto* v) { v->mutable_hdr()->add_primaries(1); }},
      {"chromaticity -5", [](auto* v) { v->mutable_hdr()->set_primaries(2, -5); }},
      {"luminances from 50 to 49", [](auto* v) { v->mutable_hdr()->set_max_luminance(49); }},
      {"content light level -1", [](auto* v) { v->mutable_hdr()->set_max_content_light(-1); }},
      {"field order 9", [](auto* v) { v->set_field_order(static_cast<v1::FieldOrder>(9)); }},
      {"encoder ''", [](auto* v) { v->clear_encode(); }},
      {"encoder 'mpeg4'", [](auto* v) { v->mutable_encode()->set_encoder("mpeg4"); }},
      {"CRF nan", [=](auto* v) { v->mutable_encode()->set_crf(nan); }},
      {"CRF -1", [](auto* v) { v->mutable_encode()->set_crf(-1); }},
      {"CRF 64", [](auto* v) { v->mutable_encode()->set_crf(64); }},
      {"libx265 with the preset ''", [](auto* v) { v->mutable_encode()->clear_preset(); }},
      {"ffv1 with the preset 'medium'", [](auto* v) { v->mutable_encode()->set_encoder("ffv1"); }},
      {"pixel format 'A'", [](auto* v) { v->mutable_encode()->set_pixel_format("A"); }},
      {"encoded at 0x958", [](auto* v) { v->mutable_encode()->set_width(0); }},
      {"0 threads", [](auto* v) { v->mutable_encode()->set_threads(0); }},
      {"65 threads", [](auto* v) { v->mutable_encode()->set_threads(65); }},
      {"container 'avi'", [](auto* v) { v->mutable_encode()->set_container("avi"); }},
  };
  for (const auto& row : rows) {
    v1::VideoInfo message;
    ToMessage(SomeInfo(), SomePlan(), &message);
    row.change(&message);
    const Status status = FromMessage(message).status();
    EXPECT_EQ(status.code(), StatusCode::kInvalidArgument) << row.message << ": " << status;
    EXPECT_NE(status.message().find(row.message), std::string::npos) << row.message << ": " << status;
  }
}

TEST(VideoMessages, IndexesComeBack) {
  VideoIndex index;
  index.pts = {-3003, 0, 3003, 7000, 7001};
  index.key_frames = {{0, 564}, {2, -1}, {4, 90}};
  v1::VideoIndex message;
  ToMessage(index, &message);
  const Result<VideoIndex> again = FromMessage(message);
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(again->pts, index.pts);
  ASSERT_EQ(again->key_frames.size(), 3u);
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(again->key_frames[i].frame, index.key_frames[i].frame) << i;
    EXPECT_EQ(again->key_frames[i].position, index.key_frames[i].position) << i;
  }
}

TEST(VideoMessages, BadIndexesAreRefused) {
  using Change = std::function<void(v1::VideoIndex*)>;
  const int64_t most = std::numeric_limits<int64_t>::max(), least = std::numeric_limits<int64_t>::min();
  const struct {
    const char* message;
    Change change;
  } rows[] = {
      {"no frames", [](auto* v) { v->Clear(); }},
      {"time stamp at frame 2", [](auto* v) { v->set_pts_deltas(2, 0); }},
      {"time stamp at frame 3", [](auto* v) { v->set_pts_deltas(3, -1); }},
      {"out of bounds at frame 0", [=](auto* v) { v->set_pts_deltas(0, least); }},
      {"out of bounds at frame 0", [=](auto* v) { v->set_pts_deltas(0, most); }},
      {"out of bounds at frame 1", [=](auto* v) { v->set_pts_deltas(1, most); }},
      {"out of bounds at frame 2", [](auto* v) { v->set_pts_deltas(1, kMaxPts - 10), v->set_pts_deltas(2, 100); }},
      {"begin with a key frame", [](auto* v) { v->clear_key_frames(), v->clear_key_positions(); }},
      {"begin with a key frame", [](auto* v) { v->set_key_frames(0, 1); }},
      {"1 positions", [](auto* v) { v->mutable_key_positions()->RemoveLast(); }},
      {"key frames out of order or behind its end, at number 1", [](auto* v) { v->set_key_frames(1, 0); }},
      {"key frames out of order or behind its end, at number 1", [](auto* v) { v->set_key_frames(1, -1); }},
      {"key frames out of order or behind its end, at number 1", [](auto* v) { v->set_key_frames(1, 5); }},
      {"key frames out of order or behind its end, at number 1",
       [](auto* v) { v->set_key_frames(1, std::numeric_limits<int32_t>::max()); }},
      {"more key frames than frames",
       [](auto* v) {
         for (int i = 0; i < 9; ++i) v->add_key_frames(1), v->add_key_positions(1);
       }},
      {"byte -2", [](auto* v) { v->set_key_positions(0, -2); }},
  };
  VideoIndex index;
  index.pts = {0, 40, 80, 120, 160};
  index.key_frames = {{0, 0}, {3, 900}};
  for (const auto& row : rows) {
    v1::VideoIndex message;
    ToMessage(index, &message);
    row.change(&message);
    const Status status = FromMessage(message).status();
    EXPECT_EQ(status.code(), StatusCode::kInvalidArgument) << row.message << ": " << status;
    EXPECT_NE(status.message().find(row.message), std::string::npos) << row.message << ": " << status;
  }
}

TEST(VideoMessages, TooManyFramesAreRefusedBeforeTheyAreLookedAt) {
  v1::VideoIndex message;
  message.mutable_pts_deltas()->Resize(kMaxVideoFrames + 1, 1);
  message.add_key_frames(0);
  message.add_key_positions(0);
  EXPECT_NE(FromMessage(message).status().message().find("at most"), std::string::npos);
}

TEST(VideoMessages, SegmentsComeBack) {
  Segment segment;
  segment.first = 48;
  segment.pts = {-80, -40, 0, 45};
  segment.starts = {{-80, 5000}, {-1000, -1}};
  v1::Segment message;
  ToMessage(segment, &message);
  EXPECT_EQ(message.frames().count(), 4);
  const Result<Segment> again = FromMessage(message);
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(again->first, 48);
  EXPECT_EQ(again->pts, segment.pts);
  ASSERT_EQ(again->starts.size(), 2u);
  EXPECT_EQ(again->starts[1].pts, -1000);
  EXPECT_EQ(again->starts[0].position, 5000);
}

TEST(VideoMessages, BadSegmentsAreRefused) {
  using Change = std::function<void(v1::Segment*)>;
  const struct {
    const char* message;
    Change change;
  } rows[] = {
      {"of 0 frames", [](auto* s) { s->mutable_frames()->set_count(0); }},
      {"of -1 frames", [](auto* s) { s->mutable_frames()->set_count(-1); }},
      {"of 4097 frames", [](auto* s) { s->mutable_frames()->set_count(kMaxSegmentFrames + 1); }},
      {"from number -1", [](auto* s) { s->mutable_frames()->set_first(-1); }},
      {"from number 2147483647", [](auto* s) { s->mutable_frames()->set_first(std::numeric_limits<int32_t>::max()); }},
      {"with 3 time stamps", [](auto* s) { s->mutable_pts_deltas()->RemoveLast(); }},
      {"time stamp at frame 1", [](auto* s) { s->set_pts_deltas(1, -40); }},
      {"with 0 points", [](auto* s) { s->clear_starts(); }},
      {"with 6 points",
       [](auto* s) {
         for (int i = 0; i < 4; ++i) *s->add_starts() = s->starts(1);
       }},
      {"starts at 1", [](auto* s) { s->mutable_starts(0)->set_pts(1); }},
      {"starts at 0", [](auto* s) { s->mutable_starts(1)->set_pts(0); }},
      {"byte -7", [](auto* s) { s->mutable_starts(0)->set_position(-7); }},
  };
  Segment segment;
  segment.first = 10;
  segment.pts = {0, 40, 80, 120};
  segment.starts = {{0, 100}, {-80, 50}};
  for (const auto& row : rows) {
    v1::Segment message;
    ToMessage(segment, &message);
    row.change(&message);
    const Status status = FromMessage(message).status();
    EXPECT_EQ(status.code(), StatusCode::kInvalidArgument) << row.message << ": " << status;
    EXPECT_NE(status.message().find(row.message), std::string::npos) << row.message << ": " << status;
  }
}

}  // namespace
}  // namespace nsic
