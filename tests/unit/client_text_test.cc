#include <gtest/gtest.h>

#include <string>
#include <vector>

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

TEST(FormatTable, PadsByCharactersAndTrims) {
  EXPECT_EQ(FormatTable({{"NAME", "STATE"}, {"café", "ok"}, {"longer", ""}, {"a\nb", "x"}}),
            "NAME    STATE\n"
            "café    ok\n"
            "longer\n"
            "a\\nb    x\n");
}

}  // namespace
}  // namespace nsic
