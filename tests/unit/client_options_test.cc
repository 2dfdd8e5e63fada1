#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <limits>
#include <string>

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
  };
  for (size_t i = 0; i < std::size(rows); ++i) {
    SubmitOptions options;
    rows[i].set(&options);
    const Result<v1::RestoreOptions> restore = ToRestoreOptions(options);
    EXPECT_EQ(restore.status().code(), StatusCode::kInvalidArgument) << "row " << i << " " << rows[i].option;
    EXPECT_THAT(restore.status().message(), HasSubstr(rows[i].option)) << "row " << i;
  }
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
  EXPECT_EQ(ParametersHash(same), ParametersHash(base)) << "names and splitting decide nothing";
}

}  // namespace
}  // namespace nsic
