#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <limits>
#include <set>
#include <string>
#include <vector>

#include "client/submit.h"

namespace nsic {
namespace {

using testing::HasSubstr;

TEST(ToRestoreOptions, TakesWhatIsRight) {
  SubmitOptions options;
  options.strength = 0.5;
  options.sharpen = 1;
  options.size = "1920x1080";
  options.format = "jpg";
  options.jpeg_quality = 80;
  const Result<v1::RestoreOptions> restore = ToRestoreOptions(options);
  ASSERT_TRUE(restore.ok()) << restore.status();
  EXPECT_EQ(restore->strength(), 0.5);
  EXPECT_EQ(restore->sharpen(), 1);
  EXPECT_EQ(restore->width(), 1920);
  EXPECT_EQ(restore->height(), 1080);
  EXPECT_EQ(restore->format(), "jpg");
  EXPECT_EQ(restore->jpeg_quality(), 80);
  EXPECT_EQ(restore->split_pixels(), 24'000'000);
  EXPECT_TRUE(ToRestoreOptions(SubmitOptions()).ok());
}

TEST(ToRestoreOptions, NamesTheWrongOption) {
  const struct {
    const char* option;
    std::function<void(SubmitOptions*)> set;
  } rows[] = {
      {"--strength", [](SubmitOptions* o) { o->strength = 1.01; }},
      {"--strength", [](SubmitOptions* o) { o->strength = -0.1; }},
      {"--strength", [](SubmitOptions* o) { o->strength = std::numeric_limits<double>::quiet_NaN(); }},
      {"--sharpen", [](SubmitOptions* o) { o->sharpen = 2; }},
      {"--scale", [](SubmitOptions* o) { o->scale = -1; }},
      {"--scale", [](SubmitOptions* o) { o->scale = 17; }},
      {"--scale", [](SubmitOptions* o) { o->scale = std::numeric_limits<double>::quiet_NaN(); }},
      {"--size", [](SubmitOptions* o) { o->scale = 2, o->size = "10x10"; }},
      {"--size", [](SubmitOptions* o) { o->size = "10"; }},
      {"--size", [](SubmitOptions* o) { o->size = "10x"; }},
      {"--size", [](SubmitOptions* o) { o->size = "x10"; }},
      {"--size", [](SubmitOptions* o) { o->size = "0x10"; }},
      {"--size", [](SubmitOptions* o) { o->size = "-5x10"; }},
      {"--size", [](SubmitOptions* o) { o->size = "10x10px"; }},
      {"--size", [](SubmitOptions* o) { o->size = "99999999999x10"; }},
      {"--format", [](SubmitOptions* o) { o->format = "gif"; }},
      {"--jpeg-quality", [](SubmitOptions* o) { o->jpeg_quality = 0; }},
      {"--jpeg-quality", [](SubmitOptions* o) { o->jpeg_quality = 101; }},
      {"--split-pixels", [](SubmitOptions* o) { o->split_pixels = 0; }},
      {"--score-every", [](SubmitOptions* o) { o->score_every = -1; }},
      {"--static-threshold", [](SubmitOptions* o) { o->static_threshold = -1; }},
      {"--static-threshold", [](SubmitOptions* o) { o->static_threshold = 256; }},
  };
  for (size_t i = 0; i < std::size(rows); ++i) {
    SubmitOptions options;
    rows[i].set(&options);
    const Result<v1::RestoreOptions> restore = ToRestoreOptions(options);
    EXPECT_EQ(restore.status().code(), StatusCode::kInvalidArgument) << "row " << i << " " << rows[i].option;
    EXPECT_THAT(restore.status().message(), HasSubstr(rows[i].option)) << "row " << i;
  }
}

TEST(ToVideoOptions, TakesWhatIsRight) {
  Result<VideoOptions> video = ToVideoOptions(SubmitOptions());
  ASSERT_TRUE(video.ok()) << video.status();
  EXPECT_EQ(video->encode.codec, "");
  EXPECT_EQ(video->encode.crf, -1);
  EXPECT_EQ(video->encode.container, "keep");
  EXPECT_TRUE(video->deinterlace);
  EXPECT_FALSE(video->frames);
  EXPECT_EQ(video->preview, 0);

  SubmitOptions options;
  options.codec = "x265";
  options.crf = 0;
  options.preset = "slow";
  options.pixel_format = "yuv420p10le";
  options.container = "mp4";
  options.drop_streams = options.tolerate = true;
  options.deinterlace = "off";
  options.frames = "31-60";
  options.preview = 4;
  options.size = "640x480";
  video = ToVideoOptions(options);
  ASSERT_TRUE(video.ok()) << video.status();
  EXPECT_EQ(video->encode.codec, "x265");
  EXPECT_EQ(video->encode.crf, 0);
  EXPECT_EQ(video->encode.preset, "slow");
  EXPECT_EQ(video->encode.pixel_format, "yuv420p10le");
  EXPECT_EQ(video->encode.container, "mp4");
  EXPECT_EQ(video->encode.size, (Size{640, 480}));
  EXPECT_TRUE(video->drop_streams);
  EXPECT_TRUE(video->tolerate);
  EXPECT_FALSE(video->deinterlace);
  ASSERT_TRUE(video->frames);
  EXPECT_EQ(video->frames->first, 31);
  EXPECT_EQ(video->frames->last, 60);
  EXPECT_EQ(video->preview, 4);
}

TEST(ToVideoOptions, NamesTheWrongOption) {
  const struct {
    const char* option;
    std::function<void(SubmitOptions*)> set;
  } rows[] = {
      {"--codec", [](SubmitOptions* o) { o->codec = "h264"; }},
      {"--crf", [](SubmitOptions* o) { o->crf = -1; }},
      {"--crf", [](SubmitOptions* o) { o->crf = 64; }},
      {"--crf", [](SubmitOptions* o) { o->crf = std::numeric_limits<double>::quiet_NaN(); }},
      {"--crf", [](SubmitOptions* o) { o->codec = "ffv1", o->crf = 10; }},
      {"--preset", [](SubmitOptions* o) { o->codec = "ffv1", o->preset = "slow"; }},
      {"--container", [](SubmitOptions* o) { o->container = "avi"; }},
      {"--deinterlace", [](SubmitOptions* o) { o->deinterlace = "on"; }},
      {"--frames", [](SubmitOptions* o) { o->frames = "10"; }},
      {"--frames", [](SubmitOptions* o) { o->frames = "0-10"; }},
      {"--frames", [](SubmitOptions* o) { o->frames = "10-9"; }},
      {"--frames", [](SubmitOptions* o) { o->frames = "1-10x"; }},
      {"--frames", [](SubmitOptions* o) { o->frames = "1-99999999999"; }},
      {"--preview", [](SubmitOptions* o) { o->preview = 0; }},
      {"--preview", [](SubmitOptions* o) { o->preview = 101; }},
  };
  for (size_t i = 0; i < std::size(rows); ++i) {
    SubmitOptions options;
    rows[i].set(&options);
    const Result<VideoOptions> video = ToVideoOptions(options);
    EXPECT_EQ(video.status().code(), StatusCode::kInvalidArgument) << "row " << i << " " << rows[i].option;
    EXPECT_THAT(video.status().message(), HasSubstr(rows[i].option)) << "row " << i;
  }
}

TEST(ParametersHash, OfAVideoChangesWithAllThatDecidesIt) {
  struct Parameters {
    v1::RestoreOptions restore;
    v1::VideoInfo video;
    std::vector<int> dropped;
    std::optional<FrameNumbers> frames;
    std::string Hash() const { return ParametersHash(restore, video, dropped, frames); }
  };
  const std::function<void(Parameters*)> changes[] = {
      [](Parameters* p) { p->restore.set_model_id("b"); },
      [](Parameters* p) { p->restore.set_strength(0.5); },
      [](Parameters* p) { p->restore.set_sharpen(0.5); },
      [](Parameters* p) { p->restore.set_static_threshold(1); },
      [](Parameters* p) { p->restore.set_tolerate(true); },
      [](Parameters* p) { p->video.mutable_encode()->set_encoder("ffv1"); },
      [](Parameters* p) { p->video.mutable_encode()->set_crf(17.5); },
      [](Parameters* p) { p->video.mutable_encode()->set_preset("slow"); },
      [](Parameters* p) { p->video.mutable_encode()->set_pixel_format("yuv444p"); },
      [](Parameters* p) { p->video.mutable_encode()->set_width(5); },
      [](Parameters* p) { p->video.mutable_encode()->set_height(5); },
      [](Parameters* p) { p->video.mutable_encode()->set_threads(5); },
      [](Parameters* p) { p->video.mutable_encode()->set_container("mkv"); },
      [](Parameters* p) { p->video.set_deinterlace(true); },
      [](Parameters* p) { p->dropped = {1}; },
      [](Parameters* p) {
        p->frames = FrameNumbers{1, 2};
      },
      [](Parameters* p) {
        p->frames = FrameNumbers{2, 2};
      },
  };
  std::vector<std::string> hashes = {Parameters().Hash()};
  for (const auto& change : changes) {
    Parameters changed;
    change(&changed);
    hashes.push_back(changed.Hash());
  }
  EXPECT_EQ(std::set<std::string>(hashes.begin(), hashes.end()).size(), hashes.size());
  Parameters same;
  same.restore.set_format("png");
  same.restore.set_jpeg_quality(5);
  same.video.mutable_range()->set_count(7);
  same.video.mutable_index()->set_sha256("x");
  EXPECT_EQ(same.Hash(), hashes[0]) << "what is for pictures decides nothing";
}

TEST(ParametersHash, ChangesWithAllThatDecidesAnOutput) {
  v1::RestoreOptions base;
  base.set_model_id(std::string(64, 'a'));
  base.set_strength(1);
  base.set_format("keep");
  base.set_jpeg_quality(95);
  const std::function<void(v1::RestoreOptions*)> changes[] = {[](v1::RestoreOptions* o) { o->set_model_id(std::string(64, 'b')); },
                                                              [](v1::RestoreOptions* o) { o->set_strength(0.5); },
                                                              [](v1::RestoreOptions* o) { o->set_sharpen(0.5); },
                                                              [](v1::RestoreOptions* o) { o->set_scale(2); },
                                                              [](v1::RestoreOptions* o) { o->set_width(2); },
                                                              [](v1::RestoreOptions* o) { o->set_height(2); },
                                                              [](v1::RestoreOptions* o) { o->set_format("png"); },
                                                              [](v1::RestoreOptions* o) { o->set_jpeg_quality(90); }};
  for (size_t i = 0; i < std::size(changes); ++i) {
    v1::RestoreOptions changed = base;
    changes[i](&changed);
    EXPECT_NE(ParametersHash(changed), ParametersHash(base)) << "change " << i;
  }
  v1::RestoreOptions same = base;
  same.set_model_name("another name");
  same.set_split_pixels(5);
  same.set_static_threshold(5);
  same.set_tolerate(true);
  same.set_score_every(7);
  same.mutable_scorer()->set_model_id("s");
  same.mutable_recommender()->set_model_id("r");
  same.add_candidates()->set_label("mosaic");
  EXPECT_EQ(ParametersHash(same), ParametersHash(base)) << "names, splitting, judging and what is for videos decide nothing";

  v1::RestoreOptions chosen = base;
  chosen.set_auto_model(true);
  chosen.add_candidates()->set_label("mosaic");
  chosen.mutable_candidates(0)->mutable_pack()->set_model_id("one");
  v1::RestoreOptions other = chosen;
  other.mutable_candidates(0)->mutable_pack()->set_model_id("two");
  EXPECT_NE(ParametersHash(chosen), ParametersHash(base));
  EXPECT_NE(ParametersHash(chosen), ParametersHash(other)) << "what may be chosen decides";
}

}  // namespace
}  // namespace nsic
