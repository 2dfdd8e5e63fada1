// What the worker remembers of its choices of precision, with measurements that are given.
#include "worker/remember_precision.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <string>

#include "core/base/digest.h"
#include "core/base/files.h"

namespace nsic {
namespace {

class PrecisionBookTest : public testing::Test {
 protected:
  PrecisionBookTest() { std::filesystem::create_directories(folder_); }
  ~PrecisionBookTest() override { std::filesystem::remove_all(folder_); }

  std::string File() const { return folder_ / "precisions.json"; }

  // As a worker started anew on `machine`, which would measure `measured`.
  Precision Choose(const std::string& machine, const std::string& model, Precision measured) {
    PrecisionBook book(File(), machine);
    const Result<Precision> chosen = book.Choose(model, [&]() -> Result<PrecisionChoice> {
      ++measurements_;
      PrecisionChoice choice;
      choice.precision = measured;
      return choice;
    });
    EXPECT_TRUE(chosen.ok()) << chosen.status();
    return chosen.ok() ? *chosen : Precision::kFloat32;
  }

  const std::filesystem::path folder_ = std::filesystem::temp_directory_path() / ("nsic-precisions-" + RandomHex(6));
  int measurements_ = 0;
};

TEST_F(PrecisionBookTest, WhatWasMeasuredOnceStaysForThatMachineAndModel) {
  EXPECT_EQ(Choose("card, driver 1", "a", Precision::kFloat16), Precision::kFloat16);
  EXPECT_EQ(Choose("card, driver 1", "a", Precision::kFloat32), Precision::kFloat16) << "measured again";
  EXPECT_EQ(measurements_, 1);
  EXPECT_EQ(Choose("card, driver 1", "b", Precision::kBFloat16), Precision::kBFloat16);
  EXPECT_EQ(Choose("card, driver 2", "a", Precision::kFloat32), Precision::kFloat32);
  EXPECT_EQ(measurements_, 3);
  EXPECT_EQ(Choose("card, driver 1", "a", Precision::kFloat32), Precision::kFloat16) << "lost to another machine";
  EXPECT_EQ(Choose("card, driver 2", "a", Precision::kFloat16), Precision::kFloat32);
  EXPECT_EQ(measurements_, 3);
}

TEST_F(PrecisionBookTest, AFileThatIsNotItsOwnIsWrittenAnew) {
  for (const char* text : {"", "{", "[1, 2]", "{\"card\": {\"a\": 7}}", "{\"card\": {\"a\": \"fp8\"}}"}) {
    ASSERT_TRUE(WriteFileAtomically(File(), text).ok());
    measurements_ = 0;
    EXPECT_EQ(Choose("card", "a", Precision::kBFloat16), Precision::kBFloat16) << text;
    EXPECT_EQ(Choose("card", "a", Precision::kFloat32), Precision::kBFloat16) << text;
    EXPECT_EQ(measurements_, 1) << text;
  }
}

TEST_F(PrecisionBookTest, AFailedMeasurementIsNotRemembered) {
  PrecisionBook book(File(), "card");
  const Result<Precision> failed = book.Choose("a", []() -> Result<PrecisionChoice> { return DataLossError("NaN in fp32 too"); });
  EXPECT_EQ(failed.status().code(), StatusCode::kDataLoss);
  EXPECT_FALSE(std::filesystem::exists(File()));
  EXPECT_EQ(Choose("card", "a", Precision::kFloat16), Precision::kFloat16);
}

}  // namespace
}  // namespace nsic
