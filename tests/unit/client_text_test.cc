#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "client/job_text.h"
#include "client/judge_outcomes.h"
#include "client/text.h"

namespace nsic {
namespace {

using std::string_literals::operator""s;

TEST(ForTerminal, LeavesTextAndDisarmsTheRest) {
  const struct {
    const char* name;
    std::string bytes;
    std::string shown;
  } rows[] = {
      {"plain", "photo 1.jpg", "photo 1.jpg"},
      {"UTF-8", "寫真 café.jpg", "寫真 café.jpg"},
      {"newline", "new\nline", "new\\nline"},
      {"tab", "a\tb", "a\\tb"},
      {"escape sequence", "\x1b[2J", "\\x1b[2J"},
      {"null byte", "a\0b"s, "a\\x00b"},
      {"delete", "\x7f", "\\x7f"},
      {"C1 control", "\xc2\x9b", "\\xc2\\x9b"},
      {"no-break space is text", "\xc2\xa0", "\xc2\xa0"},
      {"not UTF-8", "x-\xff\xfe.jpg", "x-\\xff\\xfe.jpg"},
      {"overlong slash", "\xc0\xaf", "\\xc0\\xaf"},
      {"surrogate", "\xed\xa0\x80", "\\xed\\xa0\\x80"},
      {"over U+10FFFF", "\xf4\x90\x80\x80", "\\xf4\\x90\\x80\\x80"},
      {"cut short", "a\xe5\xaf", "a\\xe5\\xaf"},
      {"four bytes", "\xf0\x9f\x8c\xb8", "\xf0\x9f\x8c\xb8"},
      {"empty", "", ""},
  };
  for (const auto& row : rows) {
    EXPECT_EQ(ForTerminal(row.bytes), row.shown) << row.name;
    EXPECT_TRUE(row.bytes != row.shown || IsUtf8(row.bytes)) << row.name;
  }
  EXPECT_FALSE(IsUtf8("\xff"));
  EXPECT_TRUE(IsUtf8("a\nb"));
}

TEST(FormatBytes, UsesPowersOf1024) {
  const struct {
    int64_t bytes;
    const char* shown;
  } rows[] = {{0, "0 B"},           {1023, "1023 B"},           {1024, "1.0 KiB"},
              {3565158, "3.4 MiB"}, {(1 << 20) - 1, "1.0 MiB"}, {int64_t{5} << 40, "5.0 TiB"}};
  for (const auto& row : rows) EXPECT_EQ(FormatBytes(row.bytes), row.shown) << row.bytes;
}

TEST(FormatDuration, ChoosesTheUnit) {
  const struct {
    double seconds;
    const char* shown;
  } rows[] = {{-1, "0.0 s"},       {0.42, "0.4 s"},       {9.96, "10 s"},        {59.4, "59 s"},     {59.6, "1 min 00 s"},
              {130, "2 min 10 s"}, {3599, "59 min 59 s"}, {11100, "3 h 05 min"}, {187200, "2 d 4 h"}};
  for (const auto& row : rows) EXPECT_EQ(FormatDuration(row.seconds), row.shown) << row.seconds;
}

TEST(Count, KnowsThePlural) {
  EXPECT_EQ(Count(0, "picture"), "0 pictures");
  EXPECT_EQ(Count(1, "picture"), "1 picture");
  EXPECT_EQ(Count(2, "picture"), "2 pictures");
}

TEST(CombineJudgements, WeighsPartsOfAPictureByArea) {
  v1::TaskOutcome small, large;
  small.mutable_region()->set_width(10);
  small.mutable_region()->set_height(10);
  large.mutable_region()->set_width(30);
  large.mutable_region()->set_height(10);
  small.mutable_result()->mutable_scores()->set_before(80);
  small.mutable_result()->mutable_scores()->set_after(100);
  large.mutable_result()->mutable_scores()->set_before(40);
  large.mutable_result()->mutable_scores()->set_after(60);
  large.mutable_result()->mutable_recommendation()->set_label("mosaic");
  const ReportJudgement judgement = CombineJudgements({small, large});
  ASSERT_TRUE(judgement.scores && judgement.recommendation);
  EXPECT_EQ(judgement.scores->before, 50);
  EXPECT_EQ(judgement.scores->after, 70);
  EXPECT_EQ(judgement.recommendation->label, "mosaic");
  EXPECT_FALSE(CombineJudgements({v1::TaskOutcome()}).scores);
}

TEST(CombineJudgements, PutsTheFramesOfSegmentsInOrder) {
  const auto segment = [](int first, std::vector<int> frames) {
    v1::TaskOutcome outcome;
    outcome.mutable_frames()->set_first(first);
    v1::Scores& scores = *outcome.mutable_result()->mutable_scores();
    for (const int number : frames) {
      v1::FrameScore* const frame = scores.add_frames();
      frame->set_frame(number);
      frame->set_before(number);
      scores.set_before(scores.before() + number / static_cast<double>(frames.size()));
    }
    return outcome;
  };
  const ReportJudgement judgement = CombineJudgements({segment(50, {60}), segment(0, {0, 30})});
  ASSERT_TRUE(judgement.scores);
  ASSERT_EQ(judgement.scores->frames.size(), 3u);
  EXPECT_EQ(judgement.scores->frames[2].frame, 60);
  EXPECT_NEAR(judgement.scores->before, 30, 1e-9) << "each frame counts for one";
}

TEST(ChosenModel, IsThatOfAllParts) {
  v1::TaskOutcome a, b;
  a.mutable_result()->set_model_id("x");
  a.mutable_result()->mutable_recommendation()->set_model("kyouka-lite");
  b = a;
  EXPECT_EQ(*ChosenModel({a, b}), "kyouka-lite");
  b.mutable_result()->set_model_id("y");
  EXPECT_EQ(ChosenModel({a, b}).status().code(), StatusCode::kAborted);
  a.mutable_result()->clear_model_id();
  EXPECT_EQ(*ChosenModel({a}), "") << "nothing was to repair";
}

TEST(DescribeJob, TellsTheMeanChange) {
  v1::Job job;
  EXPECT_EQ(DescribeJob(job).find("quality"), std::string::npos);
  EXPECT_TRUE(JobToJson(job)["scores"].is_null());
  job.mutable_scores()->set_files(2.5);
  job.mutable_scores()->set_before(40.04);
  job.mutable_scores()->set_after(62.5);
  EXPECT_NE(DescribeJob(job).find("quality  40.0 -> 62.5 (+22.5 NS-IQA) over 3 files\n"), std::string::npos) << DescribeJob(job);
  EXPECT_NEAR(JobToJson(job)["scores"]["change"].get<double>(), 22.46, 1e-9);
}

TEST(FormatTable, PadsByCharactersAndTrims) {
  EXPECT_EQ(FormatTable({{"NAME", "STATE"}, {"café", "ok"}, {"longer", ""}, {"a\nb", "x"}}),
            "NAME    STATE\n"
            "café    ok\n"
            "longer\n"
            "a\\nb    x\n");
}

}  // namespace
}  // namespace nsic
