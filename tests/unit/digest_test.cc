#include "core/base/digest.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <string>

#include "core/base/files.h"

namespace nsic {
namespace {

// FIPS 180-4's examples and NIST's long message.
TEST(Sha256Test, KnownVectors) {
  const struct {
    std::string message;
    std::string digest;
  } kRows[] = {
      {"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
      {"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
      {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
      {std::string(1'000'000, 'a'), "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"},
  };
  for (const auto& row : kRows) EXPECT_EQ(Sha256Hex(row.message), row.digest) << row.message.substr(0, 20);
}

TEST(Sha256Test, PiecesGiveTheDigestOfTheWhole) {
  std::string message;
  for (int i = 0; i < 1000; ++i) message += static_cast<char>(i * 7);
  for (const size_t step : {size_t{1}, size_t{63}, size_t{64}, size_t{65}, size_t{999}}) {
    Sha256 digest;
    for (size_t at = 0; at < message.size(); at += step) digest.Update(std::string_view(message).substr(at, step));
    EXPECT_EQ(digest.Hex(), Sha256Hex(message)) << "step " << step;
  }
}

TEST(Sha256Test, HexLeavesTheStateAlone) {
  Sha256 digest;
  digest.Update("ab");
  EXPECT_EQ(digest.Hex(), Sha256Hex("ab"));
  digest.Update("c");
  EXPECT_EQ(digest.Hex(), Sha256Hex("abc"));
}

TEST(Sha256Test, OfAFile) {
  const std::string path = testing::TempDir() + "/digest_test_" + std::to_string(getpid());
  const std::string bytes((size_t{1} << 20) + 17, 'x');  // more than one read
  ASSERT_TRUE(WriteFileAtomically(path, bytes).ok());
  const Result<std::string> digest = Sha256OfFile(path);
  ASSERT_TRUE(digest.ok()) << digest.status();
  EXPECT_EQ(*digest, Sha256Hex(bytes));
  unlink(path.c_str());
  const Status gone = Sha256OfFile(path).status();
  EXPECT_EQ(gone.code(), StatusCode::kNotFound);
  EXPECT_NE(gone.message().find(path), std::string::npos) << gone;
}

TEST(DigestTest, OnlySixtyFourLowerCaseDigitsNameABlob) {
  const std::string good = Sha256Hex("abc");
  EXPECT_TRUE(IsSha256Hex(good));
  std::string upper = good;
  upper[0] = 'B';
  const std::string kBad[] = {
      "", good.substr(1), good + "0", upper, "../" + good.substr(3), good.substr(0, 63) + '\n', good.substr(0, 63) + '\0'};
  for (const std::string& text : kBad) EXPECT_FALSE(IsSha256Hex(text)) << text;
}

TEST(DigestTest, RandomHexIsHexAndNew) {
  EXPECT_TRUE(IsSha256Hex(RandomHex(32)));
  EXPECT_NE(RandomHex(16), RandomHex(16));
  EXPECT_EQ(RandomHex(0), "");
}

}  // namespace
}  // namespace nsic
