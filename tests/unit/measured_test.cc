#include "models/train/measure/measured.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <vector>

#include "core/base/digest.h"

namespace nsic {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class MeasuredTest : public testing::Test {
 protected:
  MeasuredTest() {
    std::filesystem::create_directories(folder_);
    EXPECT_TRUE(WriteFileAtomically(picture_, "a picture").ok());
  }
  ~MeasuredTest() override { std::filesystem::remove_all(folder_); }

  Result<Measured> Open(const std::string& subject = "the pack") const { return Measured::Open(state_, "tiny", subject, {picture_}); }

  // The one file that the state folder has.
  std::string File() const { return std::filesystem::directory_iterator(state_)->path().string(); }

  // Asks for `key`; the values are `fresh` where they had to be measured.
  static std::vector<double> Ask(Measured* measured, const std::string& key, const std::vector<double>& fresh) {
    const Result<std::vector<double>> values =
        measured->Remember(key, fresh.size(), [&]() -> Result<std::vector<double>> { return fresh; });
    EXPECT_TRUE(values.ok()) << values.status();
    return values.ok() ? *values : std::vector<double>();
  }

  const std::string folder_ = std::filesystem::temp_directory_path() / ("nsic-measured-" + RandomHex(8));
  const std::string picture_ = folder_ + "/p.png";
  const std::string state_ = folder_ + "/state";
};

TEST_F(MeasuredTest, GivesAgainWhatAnEarlierRunMeasured) {
  const double third = 1.0 / 3;
  {
    Result<Measured> measured = Open();
    ASSERT_TRUE(measured.ok()) << measured.status();
    EXPECT_THAT(Ask(&*measured, "a", {third, -1e-300}), ElementsAre(third, -1e-300));
    EXPECT_THAT(Ask(&*measured, "a", {7, 7}), ElementsAre(third, -1e-300));
  }
  Result<Measured> measured = Open();
  ASSERT_TRUE(measured.ok()) << measured.status();
  EXPECT_EQ(measured->size(), 1u);
  EXPECT_THAT(Ask(&*measured, "a", {7, 7}), ElementsAre(third, -1e-300));
  EXPECT_THAT(Ask(&*measured, "b\n\"", {2}), ElementsAre(2));
}

TEST_F(MeasuredTest, MeasuresALineAgainThatWasCutOff) {
  {
    Result<Measured> measured = Open();
    Ask(&*measured, "a", {1});
    Ask(&*measured, "b", {2});
  }
  const std::string file = File();
  std::filesystem::resize_file(file, std::filesystem::file_size(file) - 3);
  {
    Result<Measured> measured = Open();
    ASSERT_TRUE(measured.ok()) << measured.status();
    EXPECT_THAT(Ask(&*measured, "a", {7}), ElementsAre(1));
    EXPECT_THAT(Ask(&*measured, "b", {8}), ElementsAre(8));
  }
  EXPECT_EQ(*ReadFile(file), "[\"a\",[1.0]]\n[\"b\",[8.0]]\n");
}

TEST_F(MeasuredTest, KnowsNothingOfOtherSubjectsNorOfPicturesThatChanged) {
  {
    Result<Measured> measured = Open();
    Ask(&*measured, "a", {1});
  }
  EXPECT_EQ(Open("another pack")->size(), 0u);
  EXPECT_EQ(Open()->size(), 1u);
  ASSERT_TRUE(WriteFileAtomically(picture_, "another one").ok());
  EXPECT_EQ(Open()->size(), 0u);
}

TEST_F(MeasuredTest, KeepsNothingWithoutAFolder) {
  Result<Measured> measured = Measured::Open("", "tiny", "the pack", {picture_});
  ASSERT_TRUE(measured.ok()) << measured.status();
  EXPECT_THAT(Ask(&*measured, "a", {1}), ElementsAre(1));
  EXPECT_THAT(Ask(&*measured, "a", {2}), ElementsAre(2));
}

TEST_F(MeasuredTest, RemembersNoFailure) {
  Result<Measured> measured = Open();
  const Result<std::vector<double>> failed =
      measured->Remember("a", 1, []() -> Result<std::vector<double>> { return NotFoundError("no codec"); });
  EXPECT_EQ(failed.status().code(), StatusCode::kNotFound);
  EXPECT_THAT(Ask(&*measured, "a", {1}), ElementsAre(1));
}

TEST_F(MeasuredTest, RefusesASecondUserAndForeignLines) {
  {
    Result<Measured> measured = Open();
    Ask(&*measured, "a", {1, 2});
    const Result<Measured> second = Open();
    EXPECT_EQ(second.status().code(), StatusCode::kFailedPrecondition);
    EXPECT_THAT(second.status().message(), HasSubstr("another process"));
    const Result<std::vector<double>> fewer =
        measured->Remember("a", 1, []() -> Result<std::vector<double>> { return std::vector<double>{1}; });
    EXPECT_EQ(fewer.status().code(), StatusCode::kDataLoss);
  }
  for (const std::string line : {"hello", "[]", "[\"a\",[null]]", "[1,[2]]", "{\"a\":[1]}"}) {
    const std::string file = File();
    ASSERT_TRUE(WriteFileAtomically(file, line + "\n").ok());
    const Result<Measured> opened = Open();
    EXPECT_EQ(opened.status().code(), StatusCode::kDataLoss) << line;
    EXPECT_THAT(opened.status().message(), HasSubstr(file)) << line;
  }
}

}  // namespace
}  // namespace nsic
