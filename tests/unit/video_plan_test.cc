// What PlanEncode and ContainerFaults decide.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "core/media/plan_encode.h"

namespace nsic {
namespace {

using testing::HasSubstr;

VideoProbe Probe(const std::string& format, Size size, const std::string& container) {
  VideoProbe probe;
  probe.info.size = size;
  probe.info.pixel_format = format;
  probe.info.frame_rate = {25, 1};
  probe.container = container;
  return probe;
}

TEST(PlanEncode, FollowsTheSource) {
  const struct {
    const char* format;
    Size size;
    const char* container;
    const char* codec;  // asked
    const char* encoder;
    const char* pixel_format;
    const char* out;
    double crf;
    const char* preset;
  } rows[] = {
      {"yuv420p", {640, 360}, "mp4", "", "libx264", "yuv420p", "mp4", 18, "medium"},
      {"yuvj420p", {640, 360}, "mov", "", "libx264", "yuv420p", "mp4", 18, "medium"},
      {"yuv422p", {640, 360}, "avi", "", "libx264", "yuv422p", "mkv", 18, "medium"},
      {"yuv420p10le", {640, 360}, "mkv", "", "libx265", "yuv420p10le", "mkv", 20, "medium"},
      {"p010le", {640, 360}, "mkv", "", "libx265", "yuv420p10le", "mkv", 20, "medium"},
      {"yuv422p10le", {640, 360}, "mov", "", "libx265", "yuv422p10le", "mp4", 20, "medium"},
      {"yuv444p12le", {640, 360}, "mkv", "", "libx265", "yuv444p12le", "mkv", 20, "medium"},
      {"yuv420p", {640, 360}, "webm", "", "libsvtav1", "yuv420p", "webm", 28, "8"},
      {"yuv420p10le", {640, 360}, "webm", "", "libsvtav1", "yuv420p10le", "webm", 28, "8"},
      {"yuv444p", {640, 360}, "webm", "", "libx264", "yuv444p", "webm", 18, "medium"},
      {"yuv420p", {640, 360}, "webm", "ffv1", "ffv1", "yuv420p", "webm", 0, ""},
      {"nv12", {640, 360}, "mpegts", "", "libx264", "yuv420p", "mkv", 18, "medium"},
      {"gray", {640, 360}, "mkv", "", "libx264", "gray", "mkv", 18, "medium"},
      {"gray", {640, 360}, "mkv", "av1", "libsvtav1", "yuv420p", "mkv", 28, "8"},
      {"gray10le", {640, 360}, "mkv", "x265", "libx265", "gray10le", "mkv", 20, "medium"},
      {"yuv411p", {640, 480}, "avi", "", "libx264", "yuv422p", "mkv", 18, "medium"},
      {"yuv440p", {640, 480}, "mkv", "", "libx264", "yuv444p", "mkv", 18, "medium"},
      {"yuv420p", {853, 479}, "mp4", "", "libx264", "yuv444p", "mp4", 18, "medium"},
      {"yuv420p", {854, 479}, "mp4", "", "libx264", "yuv422p", "mp4", 18, "medium"},
      {"yuv420p10le", {853, 479}, "mp4", "", "libx265", "yuv444p10le", "mp4", 20, "medium"},
      {"yuv420p", {853, 479}, "mkv", "ffv1", "ffv1", "yuv420p", "mkv", 0, ""},
      {"yuv420p16le", {640, 360}, "mkv", "ffv1", "ffv1", "yuv420p16le", "mkv", 0, ""},
      {"bgr0", {640, 360}, "avi", "ffv1", "ffv1", "bgr0", "mkv", 0, ""},
      {"gbrp", {641, 360}, "mkv", "ffv1", "ffv1", "bgr0", "mkv", 0, ""},
      {"gbrp10le", {640, 360}, "mkv", "ffv1", "ffv1", "gbrp10le", "mkv", 0, ""},
      {"gbrp", {640, 360}, "mkv", "", "libx264", "yuv444p", "mkv", 18, "medium"},
      {"gbrp", {640, 360}, "mkv", "x265", "libx265", "gbrp", "mkv", 20, "medium"},
  };
  for (const auto& row : rows) {
    SCOPED_TRACE(std::string(row.format) + " in " + row.container + " as " + row.codec);
    EncodeOptions options;
    options.codec = row.codec;
    const Result<EncodePlan> plan = PlanEncode(Probe(row.format, row.size, row.container), options, 1);
    ASSERT_TRUE(plan.ok()) << plan.status();
    EXPECT_EQ(plan->encoder, row.encoder);
    EXPECT_EQ(plan->pixel_format, row.pixel_format);
    EXPECT_EQ(plan->container, row.out);
    EXPECT_EQ(plan->crf, row.crf);
    EXPECT_EQ(plan->preset, row.preset);
    EXPECT_EQ(plan->size, row.size);
    EXPECT_EQ(plan->threads, 2);
  }
}

TEST(PlanEncode, Sizes) {
  const struct {
    Size source;
    double scale;
    Size asked;
    int network;
    Size size;
  } rows[] = {{{640, 360}, 0, {}, 1, {640, 360}},           {{640, 360}, 0, {}, 4, {2560, 1440}}, {{640, 360}, 1, {}, 4, {640, 360}},
              {{854, 480}, 0.5, {}, 1, {428, 240}},         {{853, 479}, 0.5, {}, 1, {427, 240}}, {{853, 479}, 2, {}, 1, {1706, 958}},
              {{640, 360}, 0, {1280, 720}, 4, {1280, 720}}, {{2, 2}, 0.1, {}, 1, {2, 2}}};
  for (const auto& row : rows) {
    EncodeOptions options;
    options.codec = "ffv1";
    options.scale = row.scale;
    options.size = row.asked;
    const Result<EncodePlan> plan = PlanEncode(Probe("yuv420p", row.source, "mkv"), options, row.network);
    ASSERT_TRUE(plan.ok()) << plan.status();
    EXPECT_EQ(plan->size, row.size) << row.source.width << "x" << row.source.height << " by " << row.scale;
  }
}

TEST(PlanEncode, RefusesWhatTheEncoderCannotDo) {
  struct Row {
    const char* format = "yuv420p";
    Size size = {640, 360};
    EncodeOptions options;
    const char* message = "";
  };
  const auto with = [](auto change) {
    EncodeOptions options;
    change(&options);
    return options;
  };
  const std::vector<Row> rows = {
      {"yuv420p", {640, 360}, with([](EncodeOptions* o) { o->codec = "vp9"; }), "choose x264, x265, av1 or ffv1"},
      {"yuv420p", {640, 360}, with([](EncodeOptions* o) { o->container = "avi"; }), "choose keep, mkv, mp4 or webm"},
      {"yuv420p", {640, 360}, with([](EncodeOptions* o) { o->crf = 52; }), "between 0 and 51, not 52"},
      {"yuv420p", {640, 360}, with([](EncodeOptions* o) { o->codec = "av1", o->crf = 0; }), "between 1 and 63"},
      {"yuv420p", {640, 360}, with([](EncodeOptions* o) { o->codec = "av1", o->crf = 20.5; }), "whole number"},
      {"yuv420p", {640, 360}, with([](EncodeOptions* o) { o->codec = "ffv1", o->crf = 10; }), "lossless"},
      {"yuv420p", {640, 360}, with([](EncodeOptions* o) { o->codec = "ffv1", o->preset = "slow"; }), "no presets"},
      {"yuv420p", {640, 360}, with([](EncodeOptions* o) { o->preset = "turbo"; }), "veryslow"},
      {"yuv420p", {640, 360}, with([](EncodeOptions* o) { o->codec = "av1", o->preset = "14"; }), "from 0 (slow) to 13"},
      {"yuv420p", {640, 360}, with([](EncodeOptions* o) { o->codec = "av1", o->preset = "medium"; }), "number"},
      {"yuv420p", {640, 360}, with([](EncodeOptions* o) { o->pixel_format = "yuv410p"; }), "yuv420p10le"},
      {"yuv420p", {853, 479}, with([](EncodeOptions* o) { o->pixel_format = "yuv420p"; }), "takes no odd sizes (853x479)"},
      {"yuv420p", {853, 479}, with([](EncodeOptions* o) { o->codec = "av1"; }), "even --size"},
      {"yuv420p",
       {640, 360},
       with([](EncodeOptions* o) {
         o->codec = "av1", o->size = {62, 62};
       }),
       "from 64x64 on"},
      {"yuv420p", {640, 360}, with([](EncodeOptions* o) { o->scale = 40; }), "25600x14400"},
      {"yuv444p", {640, 360}, with([](EncodeOptions* o) { o->codec = "av1"; }), "choose --codec ffv1"},
      {"yuv420p12le", {640, 360}, with([](EncodeOptions* o) { o->codec = "x264"; }), "loss of bits"},
      {"yuv420p16le", {640, 360}, EncodeOptions(), "choose --codec ffv1"},
      {"yuv444p", {640, 360}, with([](EncodeOptions* o) { o->container = "webm"; }), "av1"},
  };
  for (const Row& row : rows) {
    SCOPED_TRACE(row.message);
    const Result<EncodePlan> plan = PlanEncode(Probe(row.format, row.size, "mkv"), row.options, 1);
    ASSERT_FALSE(plan.ok());
    EXPECT_EQ(plan.status().code(), StatusCode::kInvalidArgument);
    EXPECT_THAT(plan.status().message(), HasSubstr(row.message));
  }
  EXPECT_EQ(PlanEncode(Probe("yuva420p", {64, 64}, "webm"), {}, 1).status().code(), StatusCode::kUnimplemented);
}

TEST(PlanEncode, TakesWhatTheUserNames) {
  EncodeOptions options;
  options.codec = "x265";
  options.crf = 15.5;
  options.preset = "slow";
  options.pixel_format = "yuv420p";
  options.container = "mkv";
  const Result<EncodePlan> plan = PlanEncode(Probe("yuv422p10le", {640, 360}, "mp4"), options, 1);
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(plan->encoder, "libx265");
  EXPECT_EQ(plan->crf, 15.5);
  EXPECT_EQ(plan->preset, "slow");
  EXPECT_EQ(plan->pixel_format, "yuv420p");
  EXPECT_EQ(plan->container, "mkv");
}

TEST(ContainerFaults, NamesWhatDoesNotFit) {
  const struct {
    const char* kind;
    const char* codec;
    bool picture;
    bool mkv, mp4, webm;
  } rows[] = {{"audio", "aac", false, true, true, false},
              {"audio", "opus", false, true, true, true},
              {"audio", "vorbis", false, true, true, true},
              {"audio", "flac", false, true, true, false},
              {"audio", "pcm_s16le", false, true, false, false},
              {"audio", "truehd", false, true, false, false},
              {"subtitle", "subrip", false, true, false, false},
              {"subtitle", "ass", false, true, false, false},
              {"subtitle", "mov_text", false, true, true, false},
              {"subtitle", "webvtt", false, true, false, true},
              {"subtitle", "hdmv_pgs_subtitle", false, true, false, false},
              {"subtitle", "eia_608", false, false, false, false},
              {"attachment", "ttf", false, true, false, false},
              {"attachment", "", false, true, false, false},
              {"video", "mjpeg", true, true, true, false},
              {"video", "webp", true, true, false, false},
              {"video", "vp9", false, true, true, true},
              {"video", "mpeg4", false, true, true, false},
              {"data", "gpmd", false, false, false, false},
              {"data", "tmcd", false, true, true, true},
              {"data", "text", false, true, true, true}};
  for (const auto& row : rows) {
    for (const auto& [container, fits] : {std::pair<const char*, bool>("mkv", row.mkv), {"mp4", row.mp4}, {"webm", row.webm}}) {
      SCOPED_TRACE(std::string(row.kind) + " " + row.codec + " in " + container);
      VideoProbe probe = Probe("yuv420p", {64, 64}, "mkv");
      probe.info.stream_index = 0;
      probe.streams = {{0, "video", "mpeg2video"}, {1, row.kind, row.codec}};
      probe.streams[1].attached_picture = row.picture;
      EncodePlan plan;
      plan.encoder = "libsvtav1";
      plan.container = container;
      const std::vector<ContainerFault> faults = ContainerFaults(probe, plan);
      ASSERT_EQ(faults.size(), fits ? 0u : 1u);
      if (fits) continue;
      EXPECT_EQ(faults[0].stream, 1);
      EXPECT_THAT(faults[0].what,
                  HasSubstr(std::string(" 1 (") + (*row.codec != 0 ? row.codec : "unknown") + ") cannot be stored in " + container));
    }
  }
  VideoProbe probe = Probe("yuv420p", {64, 64}, "mp4");
  probe.info.stream_index = 2;
  probe.streams = {{2, "video", "h264"}};
  EncodePlan plan;
  plan.encoder = "ffv1";
  plan.container = "mp4";
  ASSERT_EQ(ContainerFaults(probe, plan).size(), 1u);
  EXPECT_EQ(ContainerFaults(probe, plan)[0].what, "the restored video (ffv1) cannot be stored in mp4");
  plan.encoder = "libx264";
  probe.turned = true;
  EXPECT_TRUE(ContainerFaults(probe, plan).empty());
  plan.container = "mkv";
  ASSERT_EQ(ContainerFaults(probe, plan).size(), 1u);
  EXPECT_EQ(ContainerFaults(probe, plan)[0].stream, 2);
}

}  // namespace
}  // namespace nsic
