// Transfers against a Blobs service on loopback that breaks streams, lies, runs full and restarts.
#include "core/rpc/blob_transfer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <mutex>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "core/base/digest.h"
#include "core/base/files.h"
#include "tests/fakes/fake_blobs.h"

namespace nsic {
namespace {

using std::chrono::milliseconds;

std::string RandomBytes(size_t size, uint32_t seed) {
  std::mt19937 random(seed);
  std::string bytes(size, '\0');
  for (char& byte : bytes) byte = static_cast<char>(random());
  return bytes;
}

class BlobTransferTest : public ::testing::Test {
 protected:
  BlobTransferTest() : folder_(std::filesystem::temp_directory_path() / ("nsic-transfer-" + RandomHex(6))) {
    std::filesystem::create_directories(folder_);
    Start("127.0.0.1:0");
    policy_.first_delay = milliseconds(1);
    policy_.max_delay = milliseconds(20);
    policy_.deadline = milliseconds(20'000);
    channel_ = OpenChannel(address_, "");
    transfer_ = std::make_unique<BlobTransfer>(channel_, policy_);
  }
  ~BlobTransferTest() override { std::filesystem::remove_all(folder_); }

  void Start(const std::string& address) {
    grpc::ServerBuilder builder;
    ApplyServerLimits(&builder);
    int port = 0;
    builder.AddListeningPort(address, grpc::InsecureServerCredentials(), &port);
    builder.RegisterService(&blobs_);
    server_ = builder.BuildAndStart();
    ASSERT_NE(server_, nullptr);
    address_ = "127.0.0.1:" + std::to_string(port);
  }

  std::string Write(const std::string& name, const std::string& bytes) {
    const std::string path = folder_ / name;
    EXPECT_TRUE(WriteFileAtomically(path, bytes).ok());
    return path;
  }
  Status Upload(const std::string& path, const std::string& bytes) {
    moved_ = 0;
    return transfer_->UploadFile(path, Sha256Hex(bytes), static_cast<int64_t>(bytes.size()), cancel_, [this](int64_t n) {
      EXPECT_GT(n, 0);
      moved_ += n;
    });
  }
  Status Download(const std::string& bytes) {
    moved_ = 0;
    return transfer_->DownloadFile(Sha256Hex(bytes), static_cast<int64_t>(bytes.size()), target_, cancel_, [this](int64_t n) {
      EXPECT_GT(n, 0);
      moved_ += n;
    });
  }
  void ExpectDownloaded(const std::string& bytes, const std::string& row) {
    const Result<std::string> got = ReadFile(target_);
    ASSERT_TRUE(got.ok()) << row << ": " << got.status();
    EXPECT_TRUE(*got == bytes) << row;
    EXPECT_FALSE(std::filesystem::exists(target_ + ".part")) << row;
    EXPECT_EQ(moved_, static_cast<int64_t>(bytes.size())) << row;
  }

  const std::filesystem::path folder_;
  const std::string target_ = folder_ / "target";
  FakeBlobs blobs_;
  std::unique_ptr<grpc::Server> server_;
  std::string address_;
  RetryPolicy policy_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<BlobTransfer> transfer_;
  CancelToken cancel_;
  int64_t moved_ = 0;
};

TEST_F(BlobTransferTest, MovesFilesOfEverySize) {
  for (const size_t size : {size_t{0}, size_t{1}, size_t{kTransferChunkBytes} - 1, size_t{kTransferChunkBytes},
                            size_t{kTransferChunkBytes} + 1, size_t{5'000'000}}) {
    const std::string row = std::to_string(size) + " bytes";
    const std::string bytes = RandomBytes(size, 1);
    ASSERT_TRUE(Upload(Write("source", bytes), bytes).ok()) << row;
    EXPECT_EQ(moved_, static_cast<int64_t>(size)) << row;
    EXPECT_TRUE(blobs_.stored[Sha256Hex(bytes)] == bytes) << row;
    const Status status = Download(bytes);
    ASSERT_TRUE(status.ok()) << row << ": " << status;
    ExpectDownloaded(bytes, row);
    std::filesystem::remove(target_);
  }
  EXPECT_LE(blobs_.largest_chunk, size_t{kTransferChunkBytes});
}

TEST_F(BlobTransferTest, MovesBytes) {
  const std::string bytes = RandomBytes(3'000'000, 2);
  ASSERT_TRUE(transfer_->UploadBytes(bytes, Sha256Hex(bytes), cancel_).ok());
  const Result<std::string> back = transfer_->DownloadBytes(Sha256Hex(bytes), static_cast<int64_t>(bytes.size()), cancel_);
  ASSERT_TRUE(back.ok()) << back.status();
  EXPECT_TRUE(*back == bytes);
}

TEST_F(BlobTransferTest, SendsNothingThatIsStored) {
  const std::string bytes = RandomBytes(1000, 3);
  const std::string path = Write("source", bytes);
  ASSERT_TRUE(Upload(path, bytes).ok());
  ASSERT_TRUE(Upload(path, bytes).ok());
  EXPECT_EQ(blobs_.uploads, 1);
  EXPECT_EQ(moved_, 1000);
}

TEST_F(BlobTransferTest, GoesOnWhereABrokenStreamStopped) {
  std::mt19937 random(4);
  for (int round = 0; round < 12; ++round) {
    const std::string row = "round " + std::to_string(round);
    const std::string bytes = RandomBytes(1 + random() % 6'000'000, static_cast<uint32_t>(round));
    blobs_.breaks.clear();
    // More breaks than the policy has attempts: each moves something, so none of them counts.
    for (int i = 0; i < 10; ++i) blobs_.breaks.push_back(1 + random() % (bytes.size() / 8 + 1));
    blobs_.uploaded = 0;
    const Status up = Upload(Write("source", bytes), bytes);
    ASSERT_TRUE(up.ok()) << row << ": " << up;
    EXPECT_EQ(moved_, static_cast<int64_t>(bytes.size())) << row;
    EXPECT_TRUE(blobs_.stored[Sha256Hex(bytes)] == bytes) << row;

    blobs_.breaks.clear();
    for (int i = 0; i < 10; ++i) blobs_.breaks.push_back(1 + random() % (bytes.size() / 8 + 1));
    blobs_.end_quietly = round % 2 == 1;
    const Status down = Download(bytes);
    ASSERT_TRUE(down.ok()) << row << ": " << down;
    ExpectDownloaded(bytes, row);
    std::filesystem::remove(target_);
  }
}

TEST_F(BlobTransferTest, StreamsThatMoveNothingRunOut) {
  const std::string bytes = RandomBytes(1000, 5);
  blobs_.breaks.assign(100, 0);
  EXPECT_EQ(Upload(Write("source", bytes), bytes).code(), StatusCode::kUnavailable);
  EXPECT_EQ(blobs_.uploads, policy_.max_attempts);
  blobs_.stored[Sha256Hex(bytes)] = bytes;
  blobs_.unavailable = true;
  EXPECT_EQ(Download(bytes).code(), StatusCode::kUnavailable);
  EXPECT_EQ(blobs_.downloads, policy_.max_attempts);
  EXPECT_FALSE(std::filesystem::exists(target_));
}

TEST_F(BlobTransferTest, AFileThatChangedIsNamed) {
  const std::string bytes = RandomBytes(3'000'000, 6);
  const std::string path = Write("source", bytes);
  std::string other = bytes;
  other[1'500'000] ^= 1;
  Write("source", other);
  const Status same_size = Upload(path, bytes);
  EXPECT_EQ(same_size.code(), StatusCode::kDataLoss);
  EXPECT_NE(same_size.message().find(path), std::string::npos) << same_size;
  EXPECT_EQ(blobs_.uploads, 1);
  Write("source", bytes + "x");
  EXPECT_EQ(Upload(path, bytes).code(), StatusCode::kDataLoss);
  EXPECT_EQ(blobs_.uploads, 1);
  std::filesystem::remove(path);
  EXPECT_EQ(Upload(path, bytes).code(), StatusCode::kNotFound);
}

TEST_F(BlobTransferTest, BytesSpoiltOnTheWayAreSentAgainOnce) {
  const std::string bytes = RandomBytes(2'000'000, 7);
  const std::string path = Write("source", bytes);
  blobs_.spoil_uploads = 1;
  ASSERT_TRUE(Upload(path, bytes).ok());
  EXPECT_EQ(blobs_.uploads, 2);
  blobs_.spoil_downloads = 1;
  ASSERT_TRUE(Download(bytes).ok());
  ExpectDownloaded(bytes, "spoilt once");
  EXPECT_EQ(blobs_.downloads, 2);
}

TEST_F(BlobTransferTest, ALyingServerIsNotBelieved) {
  const std::string bytes = RandomBytes(2'000'000, 8);
  blobs_.stored[Sha256Hex(bytes)] = bytes;
  blobs_.spoil_downloads = 1000;
  EXPECT_EQ(Download(bytes).code(), StatusCode::kDataLoss);
  EXPECT_EQ(blobs_.downloads, 2);
  blobs_.spoil_downloads = 0;
  blobs_.append_download = true;
  EXPECT_EQ(Download(bytes).code(), StatusCode::kDataLoss);
  EXPECT_FALSE(std::filesystem::exists(target_));
  blobs_.append_download = false;
  blobs_.spoil_uploads = 1000;
  const std::string others = RandomBytes(1000, 9);
  EXPECT_EQ(Upload(Write("source", others), others).code(), StatusCode::kDataLoss);
}

TEST_F(BlobTransferTest, AFullCoordinatorIsForTheCallerToWaitFor) {
  const std::string bytes = RandomBytes(1000, 10);
  const std::string path = Write("source", bytes);
  blobs_.full = true;
  EXPECT_EQ(Upload(path, bytes).code(), StatusCode::kResourceExhausted);
  EXPECT_EQ(blobs_.uploads, 1);
  blobs_.full = false;
  EXPECT_TRUE(Upload(path, bytes).ok());
}

TEST_F(BlobTransferTest, AnotherUploadOfTheSameBlobIsLookedAtAgain) {
  const std::string bytes = RandomBytes(1000, 11);
  blobs_.out_of_range = 3;
  EXPECT_TRUE(Upload(Write("source", bytes), bytes).ok());
  EXPECT_EQ(blobs_.uploads, 4);
}

TEST_F(BlobTransferTest, AnEarlierProcessesPartIsUsedIfItIsGood) {
  const std::string bytes = RandomBytes(2'000'000, 12);
  blobs_.stored[Sha256Hex(bytes)] = bytes;
  const struct {
    const char* name;
    std::string part;
    std::vector<int64_t> offsets;
  } kRows[] = {
      {"good", bytes.substr(0, 1'234'567), {1'234'567}},
      {"complete", bytes, {}},
      {"bad", std::string(1'000'000, 'x'), {1'000'000, 0}},
      {"too long", bytes + "x", {0}},
      {"empty", "", {0}},
  };
  for (const auto& row : kRows) {
    Write("target.part", row.part);
    blobs_.offsets.clear();
    const Status status = Download(bytes);
    ASSERT_TRUE(status.ok()) << row.name << ": " << status;
    ExpectDownloaded(bytes, row.name);
    EXPECT_EQ(blobs_.offsets, row.offsets) << row.name;
    std::filesystem::remove(target_);
  }
}

TEST_F(BlobTransferTest, AMissingBlobAndAnUnwritableTargetAreTold) {
  const std::string bytes = RandomBytes(10, 13);
  EXPECT_EQ(Download(bytes).code(), StatusCode::kNotFound);
  const Status status = transfer_->DownloadFile(Sha256Hex(bytes), 10, folder_ / "no" / "such" / "target", cancel_);
  EXPECT_EQ(status.code(), StatusCode::kNotFound);
  EXPECT_NE(status.message().find("such/target"), std::string::npos) << status;
}

TEST_F(BlobTransferTest, OnePathTakesOneDownloadAtATime) {
  const std::string bytes = RandomBytes(2'000'000, 14);
  blobs_.stored[Sha256Hex(bytes)] = bytes;
  bool tried = false;
  const Status outer = transfer_->DownloadFile(Sha256Hex(bytes), 2'000'000, target_, cancel_, [&](int64_t) {
    if (tried) return;
    tried = true;
    EXPECT_EQ(transfer_->DownloadFile(Sha256Hex(bytes), 2'000'000, target_, cancel_).code(), StatusCode::kAborted);
  });
  EXPECT_TRUE(outer.ok()) << outer;
  EXPECT_TRUE(tried);
}

TEST_F(BlobTransferTest, CancellingEndsATransfer) {
  const std::string bytes = RandomBytes(4'000'000, 15);
  blobs_.stored[Sha256Hex(bytes)] = bytes;
  const Status status = transfer_->DownloadFile(Sha256Hex(bytes), 4'000'000, target_, cancel_, [this](int64_t) { cancel_.Cancel(); });
  // The last bytes may have been under way already.
  if (!status.ok()) {
    EXPECT_EQ(status.code(), StatusCode::kCancelled);
  }
  EXPECT_EQ(Upload(Write("source", bytes + "x"), bytes + "x").code(), StatusCode::kCancelled);
}

TEST_F(BlobTransferTest, PartsHaveHashesOfTheirOwn) {
  for (const size_t size : {size_t{0}, size_t{1}, size_t{kBlobPartBytes}, size_t{kBlobPartBytes} * 2 + 5}) {
    const std::string bytes = RandomBytes(size, 17);
    const std::string hash = Sha256Hex(bytes);
    blobs_.stored[hash] = bytes;
    const Result<std::vector<std::string>> hashes = transfer_->PartHashes(hash, static_cast<int64_t>(size), cancel_);
    ASSERT_TRUE(hashes.ok()) << size << ": " << hashes.status();
    std::string joined;
    for (size_t part = 0; part < hashes->size(); ++part) {
      const int64_t at = static_cast<int64_t>(part) * kBlobPartBytes;
      const int64_t length = std::min<int64_t>(kBlobPartBytes, static_cast<int64_t>(size) - at);
      const Result<std::string> got = transfer_->DownloadPart(hash, at, length, (*hashes)[part], cancel_);
      ASSERT_TRUE(got.ok()) << size << ", part " << part << ": " << got.status();
      joined += *got;
    }
    EXPECT_TRUE(joined == bytes) << size;
    EXPECT_EQ(transfer_->PartHashes(hash, static_cast<int64_t>(size) + 1, cancel_).status().code(), StatusCode::kDataLoss) << size;
  }
  EXPECT_EQ(transfer_->PartHashes(Sha256Hex("nowhere"), 7, cancel_).status().code(), StatusCode::kNotFound);
}

TEST_F(BlobTransferTest, APartGoesOnWhereItBrokeAndABadOneIsRefused) {
  const std::string bytes = RandomBytes(3'000'000, 18);
  const std::string hash = Sha256Hex(bytes);
  const std::string part = bytes.substr(1'000'000, 1'500'000);
  blobs_.stored[hash] = bytes;
  blobs_.breaks = {400'000, 0, 700'000};
  Result<std::string> got = transfer_->DownloadPart(hash, 1'000'000, 1'500'000, Sha256Hex(part), cancel_);
  ASSERT_TRUE(got.ok()) << got.status();
  EXPECT_TRUE(*got == part);
  EXPECT_EQ(blobs_.offsets, (std::vector<int64_t>{1'000'000, 1'400'000, 1'400'000, 2'100'000}));
  blobs_.spoil_downloads = 1;
  EXPECT_TRUE(transfer_->DownloadPart(hash, 1'000'000, 1'500'000, Sha256Hex(part), cancel_).ok()) << "the second attempt is good";
  blobs_.spoil_downloads = 2;
  EXPECT_EQ(transfer_->DownloadPart(hash, 1'000'000, 1'500'000, Sha256Hex(part), cancel_).status().code(), StatusCode::kDataLoss);
}

TEST_F(BlobTransferTest, SurvivesARestartInTheMiddle) {
  policy_.max_attempts = 0;
  BlobTransfer patient(channel_, policy_);
  const std::string bytes = RandomBytes(6'000'000, 16);
  const std::string hash = Sha256Hex(bytes);
  const std::string path = Write("source", bytes);
  {
    std::lock_guard<std::mutex> lock(blobs_.mutex);
    blobs_.breaks = {2'000'000, 0};
  }
  Status status;
  std::thread mover([&] {
    status = patient.UploadFile(path, hash, 6'000'000, cancel_);
    if (status.ok()) status = patient.DownloadFile(hash, 6'000'000, target_, cancel_);
  });
  while (true) {
    std::this_thread::sleep_for(milliseconds(1));
    std::lock_guard<std::mutex> lock(blobs_.mutex);
    if (blobs_.uploads > 0) break;
  }
  server_->Shutdown(std::chrono::system_clock::now());
  server_.reset();
  Start(address_);
  mover.join();
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_TRUE(*ReadFile(target_) == bytes);
}

}  // namespace
}  // namespace nsic
