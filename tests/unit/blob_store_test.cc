// The blob store on real files: uploads in pieces, quota, races, and a process that dies between any two steps.
#include "core/farm/blob_store.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <mutex>
#include <thread>
#include <utility>

#include "core/base/digest.h"
#include "core/base/files.h"

namespace nsic {
namespace {

namespace fs = std::filesystem;

// An index of small files, so that it survives the process as the coordinator's database does. `needed` blobs are not struck out.
class FolderIndex : public BlobIndex {
 public:
  explicit FolderIndex(std::string folder) : folder_(std::move(folder)) { fs::create_directories(folder_ + "/struck"); }

  Result<std::optional<BlobRecord>> Find(const std::string& sha256) override {
    const bool there = fs::exists(folder_ + "/" + sha256);
    if (after_find) std::exchange(after_find, nullptr)();
    if (!there) return std::optional<BlobRecord>();
    NSIC_ASSIGN_OR_RETURN(const std::string text, ReadFile(folder_ + "/" + sha256));
    const size_t line = text.find('\n');
    return std::make_optional(BlobRecord{sha256, std::stoll(text.substr(0, line)), text.substr(line + 1)});
  }
  Status Add(const BlobRecord& blob) override {
    if (fail_adding) return ResourceExhaustedError("the index is full");
    fs::remove(folder_ + "/struck/" + blob.sha256);
    return WriteFileAtomically(folder_ + "/" + blob.sha256, std::to_string(blob.size) + "\n" + blob.chunks);
  }
  Result<std::vector<std::string>> Strike(const std::vector<std::string>& sha256s) override {
    std::vector<std::string> struck;
    for (const std::string& sha256 : sha256s) {
      std::lock_guard<std::mutex> lock(mutex);
      if (needed.count(sha256) != 0 || !fs::exists(folder_ + "/" + sha256)) continue;
      fs::rename(folder_ + "/" + sha256, folder_ + "/struck/" + sha256);
      struck.push_back(sha256);
    }
    return struck;
  }
  Result<std::vector<BlobRecord>> List() override {
    std::vector<BlobRecord> blobs;
    for (const auto& entry : fs::directory_iterator(folder_)) {
      if (!entry.is_regular_file()) continue;
      NSIC_ASSIGN_OR_RETURN(const std::optional<BlobRecord> blob, Find(entry.path().filename().string()));
      if (blob) blobs.push_back(*blob);
    }
    return blobs;
  }
  Result<bool> WasStruck(const std::string& sha256) override { return fs::exists(folder_ + "/struck/" + sha256); }

  std::mutex mutex;
  std::set<std::string> needed;
  std::atomic<bool> fail_adding{false};
  std::function<void()> after_find;  // called once, between the next look and its answer

 private:
  const std::string folder_;
};

std::string Noise(size_t size, unsigned seed) {
  std::string bytes(size, '\0');
  uint32_t state = seed * 2654435761u + 1;
  for (char& c : bytes) {
    state = state * 1664525u + 1013904223u;
    c = static_cast<char>(state >> 24);
  }
  return bytes;
}

class BlobStoreTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (fs::temp_directory_path() / "blob_store_XXXXXX").string();
    folder_ = ::mkdtemp(pattern.data());
    Open({});
  }
  void TearDown() override {
    store_.reset();
    fs::remove_all(folder_);
  }

  void Open(BlobStore::Options options) {
    store_.reset();
    index_ = std::make_unique<FolderIndex>(folder_ + "/index");
    options.folder = folder_ + "/store";
    Result<std::unique_ptr<BlobStore>> store = BlobStore::Open(std::move(options), index_.get());
    ASSERT_TRUE(store.ok()) << store.status();
    store_ = *std::move(store);
  }

  // What BeginUpload says, for uploads that should be let in.
  std::unique_ptr<BlobUpload> Begin(const std::string& bytes, int64_t offset = 0) {
    Result<std::unique_ptr<BlobUpload>> upload = store_->BeginUpload(Sha256Hex(bytes), static_cast<int64_t>(bytes.size()), offset);
    EXPECT_TRUE(upload.ok()) << upload.status();
    return upload.ok() ? *std::move(upload) : nullptr;
  }

  void ExpectStored(const std::string& bytes, const std::string& what) {
    const Result<std::string> read = store_->ReadAll(Sha256Hex(bytes), int64_t{1} << 30);
    ASSERT_TRUE(read.ok()) << what << ": " << read.status();
    EXPECT_TRUE(*read == bytes) << what;
  }

  // Files of published blobs and index entries are the same set.
  void ExpectAgreement(const std::string& what) {
    std::set<std::string> files, entries;
    for (const auto& entry : fs::directory_iterator(folder_ + "/store/blobs")) {
      if (entry.is_regular_file()) files.insert(entry.path().filename().string());
    }
    int64_t bytes = 0;
    Result<std::vector<BlobRecord>> listed = index_->List();
    ASSERT_TRUE(listed.ok());
    for (const BlobRecord& blob : *listed) {
      entries.insert(blob.sha256);
      bytes += blob.size;
    }
    EXPECT_EQ(files, entries) << what;
    EXPECT_EQ(store_->usage().stored_bytes, bytes) << what;
    EXPECT_EQ(store_->usage().blobs, static_cast<int64_t>(entries.size())) << what;
  }

  std::string folder_;
  std::unique_ptr<FolderIndex> index_;
  std::unique_ptr<BlobStore> store_;
};

TEST_F(BlobStoreTest, SizesComeBackWithTheirChunkHashes) {
  for (const size_t size : {size_t{0}, size_t{1}, size_t{4} << 20, (size_t{4} << 20) + 1, size_t{9} << 20}) {
    const std::string bytes = Noise(size, static_cast<unsigned>(size));
    Result<std::string> sha256 = store_->Put(bytes);
    ASSERT_TRUE(sha256.ok()) << size << ": " << sha256.status();
    ExpectStored(bytes, std::to_string(size));
    const Result<BlobStore::Stat> stat = store_->Examine(*sha256);
    ASSERT_TRUE(stat.ok() && stat->stored) << size;
    const size_t chunks = (size + kBlobChunkBytes - 1) / kBlobChunkBytes;
    ASSERT_EQ(stat->stored->chunks.size(), chunks * 32) << size;
    for (size_t i = 0; i < chunks; ++i) {
      const std::string expected = Sha256Hex(std::string_view(bytes).substr(i * kBlobChunkBytes, kBlobChunkBytes));
      std::string hex;
      for (const char c : stat->stored->chunks.substr(i * 32, 32)) {
        static constexpr char kDigits[] = "0123456789abcdef";
        hex += kDigits[(c >> 4) & 15];
        hex += kDigits[c & 15];
      }
      EXPECT_EQ(hex, expected) << size << " chunk " << i;
    }
  }
  ExpectAgreement("sizes");
}

TEST_F(BlobStoreTest, RangesAreRead) {
  const std::string bytes = Noise(100'000, 7);
  ASSERT_TRUE(store_->Put(bytes).ok());
  const struct {
    int64_t offset, length;
    bool ok;
  } rows[] = {{0, 0, true},        {1, 0, true},   {99'999, 1, true},  {100'000, 0, true}, {500, 70'000, true},
              {100'001, 0, false}, {-1, 0, false}, {99'999, 2, false}, {0, -1, false},     {1, INT64_MAX, false}};
  for (const auto& row : rows) {
    Result<std::unique_ptr<BlobReader>> reader = store_->OpenBlob(Sha256Hex(bytes), row.offset, row.length);
    ASSERT_EQ(reader.ok(), row.ok) << row.offset << "+" << row.length;
    if (!row.ok) continue;
    std::string got;
    while (true) {
      Result<std::string> piece = (*reader)->Read(333);
      ASSERT_TRUE(piece.ok()) << piece.status();
      if (piece->empty()) break;
      got += *piece;
    }
    EXPECT_TRUE(got == bytes.substr(static_cast<size_t>(row.offset), row.length == 0 ? std::string::npos : static_cast<size_t>(row.length)))
        << row.offset << "+" << row.length;
  }
}

TEST_F(BlobStoreTest, NamesFromTheWireNeverBecomePaths) {
  const std::string good = Sha256Hex("x");
  for (const std::string& name : {std::string(), std::string("../../etc/passwd"), good + "0", good.substr(1), std::string(64, 'G'),
                                  std::string(64, 'A'), std::string(63, 'a') + "/", std::string(62, 'a') + "..", std::string(64, '\0')}) {
    EXPECT_EQ(store_->BeginUpload(name, 1, 0).status().code(), StatusCode::kInvalidArgument) << name;
    EXPECT_EQ(store_->Examine(name).status().code(), StatusCode::kInvalidArgument) << name;
    EXPECT_EQ(store_->OpenBlob(name, 0, 0).status().code(), StatusCode::kInvalidArgument) << name;
  }
  EXPECT_EQ(store_->OpenBlob(good, 0, 0).status().code(), StatusCode::kNotFound);
}

TEST_F(BlobStoreTest, AnUploadGoesOnWhereItStopped) {
  const std::string bytes = Noise(9'000'000, 3);
  const std::string sha256 = Sha256Hex(bytes);
  {
    const auto upload = Begin(bytes);
    ASSERT_NE(upload, nullptr);
    ASSERT_TRUE(upload->Append(bytes.substr(0, 5'000'000)).ok());
    const Result<bool> complete = upload->Finish();
    ASSERT_TRUE(complete.ok());
    EXPECT_FALSE(*complete);
  }
  EXPECT_EQ(store_->Examine(sha256)->received, 5'000'000);
  Open({});  // and over a restart
  EXPECT_EQ(store_->Examine(sha256)->received, 5'000'000);
  EXPECT_EQ(store_->usage().upload_bytes, 5'000'000);
  for (const int64_t offset : {0, 1, 4'999'999, 5'000'001}) {
    EXPECT_EQ(store_->BeginUpload(sha256, 9'000'000, offset).status().code(), StatusCode::kOutOfRange) << offset;
  }
  EXPECT_EQ(store_->Examine(sha256)->received, 5'000'000) << "a wrong offset loses nothing";
  {
    const auto upload = Begin(bytes, 5'000'000);
    ASSERT_NE(upload, nullptr);
    ASSERT_TRUE(upload->Append(bytes.substr(5'000'000)).ok());
    ASSERT_TRUE(*upload->Finish());
  }
  ExpectStored(bytes, "resumed");
  EXPECT_EQ(store_->usage().upload_bytes, 0);
  EXPECT_EQ(Begin(bytes), nullptr) << "stored already";
  ExpectAgreement("resumed");
}

TEST_F(BlobStoreTest, WrongBytesAreDropped) {
  const std::string bytes = Noise(1000, 4);
  const std::string sha256 = Sha256Hex(bytes);
  {
    const auto upload = Begin(bytes);
    ASSERT_TRUE(upload->Append(std::string(1000, 'x')).ok());
    EXPECT_EQ(upload->Finish().status().code(), StatusCode::kDataLoss);
  }
  EXPECT_EQ(store_->Examine(sha256)->received, 0);
  EXPECT_EQ(store_->usage().used(), 0);
  {
    const auto upload = Begin(bytes);
    EXPECT_EQ(upload->Append(std::string(1001, 'x')).code(), StatusCode::kInvalidArgument) << "more than announced";
    ASSERT_TRUE(upload->Append(bytes).ok());
    EXPECT_TRUE(*upload->Finish());
  }
  EXPECT_EQ(store_->BeginUpload(sha256, 999, 0).status().code(), StatusCode::kInvalidArgument) << "another size of a stored blob";
  EXPECT_EQ(store_->BeginUpload(Sha256Hex("other"), -1, 0).status().code(), StatusCode::kInvalidArgument);
  ExpectAgreement("wrong bytes");
}

TEST_F(BlobStoreTest, ALaterCallTakesTheUploadOver) {
  const std::string bytes = Noise(3000, 5);
  const auto first = Begin(bytes);
  ASSERT_TRUE(first->Append(bytes.substr(0, 1000)).ok());
  auto second = Begin(bytes, 1000);
  ASSERT_NE(second, nullptr);
  EXPECT_EQ(first->Append(bytes.substr(1000)).code(), StatusCode::kUnavailable);
  EXPECT_EQ(first->Finish().status().code(), StatusCode::kUnavailable);
  ASSERT_TRUE(second->Append(bytes.substr(1000)).ok());
  EXPECT_TRUE(*second->Finish());
  ExpectStored(bytes, "taken over");
}

TEST_F(BlobStoreTest, ABlobThatIsStoredWhileAnotherCallBeginsCountsOnce) {
  const std::string bytes = Noise(3000, 6);
  index_->after_find = [&] { ASSERT_TRUE(store_->Put(bytes).ok()); };
  const auto late = Begin(bytes);  // saw that it is missing
  ASSERT_NE(late, nullptr);
  ASSERT_TRUE(late->Append(bytes).ok());
  EXPECT_TRUE(*late->Finish());
  ExpectStored(bytes, "twice");
  EXPECT_EQ(store_->usage().used(), 3000);
  ExpectAgreement("twice");
}

TEST_F(BlobStoreTest, TheQuotaCountsUploadsInFlight) {
  BlobStore::Options options;
  options.quota = 10'000;
  Open(options);
  const std::string a = Noise(6000, 1), b = Noise(4000, 2), c = Noise(1000, 3);
  auto upload_a = Begin(a);
  ASSERT_NE(upload_a, nullptr);
  EXPECT_EQ(store_->usage().used(), 6000) << "announced";
  ASSERT_TRUE(store_->Put(b).ok());
  EXPECT_EQ(store_->Put(c).status().code(), StatusCode::kResourceExhausted);
  EXPECT_FALSE(store_->HasRoom());
  ASSERT_TRUE(upload_a->Append(a).ok());
  ASSERT_TRUE(*upload_a->Finish()) << "what was let in may end";
  upload_a.reset();
  EXPECT_EQ(store_->BeginUpload(Sha256Hex("big"), 10'001, 0).status().code(), StatusCode::kInvalidArgument) << "never fits";
  ASSERT_TRUE(store_->Remove({Sha256Hex(b)}).ok());
  EXPECT_EQ(store_->BeginUpload(Sha256Hex(c), 1000, 0, 3001).status().code(), StatusCode::kResourceExhausted) << "leave_free";
  EXPECT_TRUE(store_->BeginUpload(Sha256Hex(c), 1000, 0, 3000).ok());
  EXPECT_TRUE(store_->HasRoom());
  ExpectAgreement("quota");
}

TEST_F(BlobStoreTest, RoomIsMadeBeforeAnUploadIsRefused) {
  const std::string a = Noise(6000, 1), b = Noise(5000, 2);
  std::vector<int64_t> asked;
  BlobStore::Options options;
  options.quota = 10'000;
  options.make_room = [&](int64_t bytes) {
    asked.push_back(bytes);
    EXPECT_TRUE(store_->Remove({Sha256Hex(a)}).ok());
  };
  Open(options);
  ASSERT_TRUE(store_->Put(a).ok());
  {
    std::lock_guard<std::mutex> lock(index_->mutex);
    index_->needed.insert(Sha256Hex(a));
  }
  EXPECT_EQ(store_->Put(b).status().code(), StatusCode::kResourceExhausted) << "a is needed";
  ExpectStored(a, "needed");
  {
    std::lock_guard<std::mutex> lock(index_->mutex);
    index_->needed.clear();
  }
  EXPECT_TRUE(store_->Put(b).ok());
  EXPECT_EQ(asked, (std::vector<int64_t>{1000, 1000}));
  EXPECT_EQ(store_->ReadAll(Sha256Hex(a), 1 << 20).status().code(), StatusCode::kNotFound);
  ExpectAgreement("room made");
}

TEST_F(BlobStoreTest, AnIndexThatFailsLeavesNothingBehind) {
  const std::string bytes = Noise(1000, 9);
  index_->fail_adding = true;
  EXPECT_EQ(store_->Put(bytes).status().code(), StatusCode::kResourceExhausted);
  ExpectAgreement("failed index");
  EXPECT_EQ(store_->usage().used(), 0);
  index_->fail_adding = false;
  ASSERT_TRUE(store_->Put(bytes).ok());
  ExpectStored(bytes, "again");
}

TEST_F(BlobStoreTest, AFileThatWasChangedIsNoticed) {
  const std::string bytes = Noise(1000, 10);
  const std::string sha256 = *store_->Put(bytes);
  const std::string path = folder_ + "/store/blobs/" + sha256;
  std::fstream(path, std::ios::in | std::ios::out | std::ios::binary).put('!');
  EXPECT_EQ(store_->ReadAll(sha256, 1 << 20).status().code(), StatusCode::kDataLoss);
  fs::resize_file(path, 10);
  EXPECT_EQ(store_->ReadAll(sha256, 1 << 20).status().code(), StatusCode::kDataLoss);
  EXPECT_EQ(store_->ReadAll(sha256, 999).status().code(), StatusCode::kResourceExhausted) << "over the caller's limit";
}

TEST_F(BlobStoreTest, IdleUploadsAreDroppedWhenOld) {
  const std::string bytes = Noise(1000, 11);
  ASSERT_TRUE(Begin(bytes)->Append(bytes.substr(0, 400)).ok());
  EXPECT_EQ(store_->DropIdleUploads(3'600'000), 0);
  EXPECT_EQ(store_->Examine(Sha256Hex(bytes))->received, 400);
  fs::last_write_time(folder_ + "/store/uploads/" + Sha256Hex(bytes), fs::file_time_type::clock::now() - std::chrono::hours(2));
  EXPECT_EQ(store_->DropIdleUploads(3'600'000), 400);
  EXPECT_EQ(store_->Examine(Sha256Hex(bytes))->received, 0);
  EXPECT_EQ(store_->usage().used(), 0);
}

// A child process dies at the named step; its parent opens what is left.
TEST_F(BlobStoreTest, KilledBetweenAnyTwoSteps) {
  const std::string bytes = Noise(5'000'000, 20);
  const std::string sha256 = Sha256Hex(bytes);
  for (const std::string step : {"written", "synced", "renamed", "folder synced", "indexed", "struck"}) {
    SCOPED_TRACE(step);
    fs::remove_all(folder_ + "/store");
    fs::remove_all(folder_ + "/index");
    store_.reset();
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      BlobStore::Options options;
      options.at_step = [&](std::string_view at) {
        if (at == step) ::_exit(7);
      };
      Open(std::move(options));
      if (!store_->Put(bytes).ok()) ::_exit(1);
      if (!store_->Remove({sha256}).ok()) ::_exit(2);
      ::_exit(3);
    }
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFEXITED(status));
    ASSERT_EQ(WEXITSTATUS(status), 7) << "the step was not reached";

    Open({});
    ExpectAgreement(step);
    const BlobStore::Stat stat = *store_->Examine(sha256);
    if (step == "struck") {
      EXPECT_FALSE(stat.stored) << "it was removed";
      EXPECT_EQ(stat.received, 0);
    } else if (step == "written" || step == "synced") {
      EXPECT_FALSE(stat.stored);
      EXPECT_EQ(stat.received, 5'000'000) << "all that arrived is there";
    } else {
      EXPECT_TRUE(stat.stored) << "a published file is taken up";
    }
    // What the client does next, whatever happened.
    ASSERT_TRUE(store_->Put(bytes).ok());
    ExpectStored(bytes, step);
    ExpectAgreement(step + ", sent again");
  }
}

TEST_F(BlobStoreTest, ManyThreadsPutAndRemoveTheSameBlobs) {
  constexpr int kThreads = 8, kBlobs = 5, kRounds = 60;
  std::vector<std::string> blobs;
  for (int i = 0; i < kBlobs; ++i) blobs.push_back(Noise(2000 + static_cast<size_t>(i), 100u + static_cast<unsigned>(i)));
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (int round = 0; round < kRounds; ++round) {
        const std::string& bytes = blobs[static_cast<size_t>(t + round) % kBlobs];
        if (t % 4 == 3) {
          if (!store_->Remove({Sha256Hex(bytes), Sha256Hex(blobs[0])}).ok()) ++wrong;
          continue;
        }
        const Result<std::string> put = store_->Put(bytes);
        const StatusCode code = put.status().code();
        // Another thread may be at the same upload: a client would try again.
        if (!put.ok() && code != StatusCode::kUnavailable && code != StatusCode::kOutOfRange && code != StatusCode::kInternal) ++wrong;
        const Result<std::string> read = store_->ReadAll(Sha256Hex(bytes), 1 << 20);
        if (read.ok() ? *read != bytes : read.status().code() != StatusCode::kNotFound) ++wrong;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
  ExpectAgreement("after the race");
  for (const std::string& bytes : blobs) {
    ASSERT_TRUE(store_->Put(bytes).ok());
    ExpectStored(bytes, "in the end");
  }
}

}  // namespace
}  // namespace nsic
