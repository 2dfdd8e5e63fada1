// The worker's parts that are hard to reach from outside: the cache's bounds, the shelf, the memory budget, the book of speeds.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <mutex>
#include <new>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "core/base/clock.h"
#include "core/base/digest.h"
#include "core/base/files.h"
#include "core/infer/engine.h"
#include "models/io/count_operations.h"
#include "tests/fakes/fake_coordinator.h"
#include "tests/fakes/identity_task.h"
#include "tests/unit/media_pictures.h"
#include "tests/unit/random_packs.h"
#include "worker/blob_cache.h"
#include "worker/draw_frame.h"
#include "worker/measure_speed.h"
#include "worker/memory_budget.h"
#include "worker/model_shelf.h"
#include "worker/range_source.h"
#include "worker/run_picture_task.h"
#include "worker/work_loop.h"

namespace nsic {
namespace {

// Counted again from the weights: each convolution's as often as it is applied to each input pixel.
TEST(CountOperationsTest, AgreesWithTheWeights) {
  const auto weights = [](const ModelPack& pack) {
    double sum = 0;
    for (const auto& [name, tensor] : pack.weights) {
      double count = tensor.shape.size() == 4 ? 1 : 0;
      for (const int64_t side : tensor.shape) count *= static_cast<double>(side);
      sum += count;
    }
    return sum;
  };
  const ModelPack light = RandomLightPack(48, 8, HaloTiles(256, 22, 2));
  EXPECT_DOUBLE_EQ(MultiplyAddsPerPixel(light.card), weights(light) / 4);
  ModelPack srvgg;
  srvgg.weights = RandomSrvggCompact(64, 18, 4, 1);
  srvgg.card.architecture = "srvgg-compact";
  srvgg.card.parameters = {{"features", 64}, {"layers", 18}};
  srvgg.card.scale = 4;
  EXPECT_DOUBLE_EQ(MultiplyAddsPerPixel(srvgg.card), weights(srvgg));
  ModelPack iqe = RandomNsIqePack(16, 3, BlendedTiles(128, 32, 4, BlendWindow::kImprovedGaussian));
  double expected = 128 * 128 / 16 * (64 / 8 + 64) / 16.0;  // attention: each of a tile's positions with all of them
  for (const auto& [name, tensor] : iqe.weights) {
    ModelPack one;
    one.weights[name] = tensor;
    const auto in = [&, n = name](const std::string& prefix) { return n.compare(0, prefix.size(), prefix) == 0; };
    const double scale = in("encoder.0") || in("upsample.1") ? 4 : in("encoder.3") || in("rrdb") || in("attention") ? 16 : 1;
    expected += weights(one) / scale;
  }
  EXPECT_DOUBLE_EQ(MultiplyAddsPerPixel(iqe.card), expected);
  ModelCard unet, ensemble;
  unet.architecture = "unet";
  unet.parameters = {{"features", 20}, {"blocks", 1}};
  ensemble.architecture = "ensemble";
  ensemble.parameters = {{"light_features", 48}, {"light_layers", 8}, {"unet_features", 20}, {"unet_blocks", 1}};
  EXPECT_GT(MultiplyAddsPerPixel(unet), 0);
  EXPECT_DOUBLE_EQ(MultiplyAddsPerPixel(ensemble), MultiplyAddsPerPixel(light.card) + MultiplyAddsPerPixel(unet));
  EXPECT_EQ(MultiplyAddsPerPixel(IdentityPack().card), 0);
  for (const std::string name : {"ns-iqa", "ns-c"}) {
    const Result<ModelPack> pack = ReadModelPack(std::string(NSIC_TEST_DATA "/../../models/packs/") + name);
    ASSERT_TRUE(pack.ok()) << pack.status();
    double judge = 0;
    for (const auto& [tensor_name, tensor] : pack->weights) {
      if (tensor.shape.size() < 2 || tensor_name.rfind("hidden", 0) == 0 || tensor_name.rfind("output", 0) == 0) continue;
      double count = 1;
      for (const int64_t side : tensor.shape) count *= static_cast<double>(side);
      const size_t digit = tensor_name.find_first_of("012");  // of "down<level>" and "block<level>"
      judge += count / (tensor_name.rfind("head", 0) == 0 ? 4 : std::pow(4, 2 + (tensor_name[digit] - '0')));
    }
    EXPECT_DOUBLE_EQ(MultiplyAddsPerPixel(pack->card), judge) << name;
  }
}

TEST(DrawFrameTest, IsAPictureAndTheSameEachTime) {
  const Size size{320, 180};
  const std::vector<uint8_t> frame = DrawFrame(size);
  ASSERT_EQ(frame.size(), 3u * 320 * 180);
  EXPECT_EQ(frame, DrawFrame(size));
  // Neighbours are alike, as they are in photographs and not in noise, but not the same.
  double near = 0, far = 0;
  for (size_t i = 0; i + 100 < frame.size(); ++i) {
    near += std::abs(frame[i] - frame[i + 1]);
    far += std::abs(frame[i] - frame[i + 100]);
  }
  EXPECT_GT(near / static_cast<double>(frame.size()), 1);
  EXPECT_LT(near * 2, far);
}

class CacheTest : public testing::Test {
 protected:
  CacheTest()
      : folder_(std::filesystem::temp_directory_path() / ("nsic-cache-" + RandomHex(6))),
        transfer_(OpenChannel(coordinator_.address(), "")) {}
  ~CacheTest() override { std::filesystem::remove_all(folder_); }

  std::unique_ptr<BlobCache> Open(int64_t limit) {
    Result<std::unique_ptr<BlobCache>> cache = BlobCache::Open(folder_, limit, &transfer_);
    EXPECT_TRUE(cache.ok()) << cache.status();
    return cache.ok() ? *std::move(cache) : nullptr;
  }
  std::string Store(char fill, size_t size = 1000) { return coordinator_.blobs.Store(std::string(size, fill)); }
  bool Cached(const std::string& hash) const { return std::filesystem::exists(folder_ / "blobs" / hash); }

  const std::filesystem::path folder_;
  FakeCoordinator coordinator_;
  BlobTransfer transfer_;
  CancelToken cancel_;
};

TEST_F(CacheTest, FetchesOnceAndDropsTheLongestUnused) {
  const std::string a = Store('a'), b = Store('b'), c = Store('c');
  const std::unique_ptr<BlobCache> cache = Open(2500);
  for (const std::string& hash : {a, b, a}) ASSERT_TRUE(cache->Get(hash, 1000, cancel_).ok());
  EXPECT_EQ(coordinator_.blobs.downloads, 2);
  ASSERT_TRUE(cache->Get(c, 1000, cancel_).ok());
  EXPECT_TRUE(Cached(a));
  EXPECT_FALSE(Cached(b));
  EXPECT_TRUE(Cached(c));
}

TEST_F(CacheTest, WhatIsInUseStays) {
  const std::string a = Store('a'), b = Store('b');
  const std::unique_ptr<BlobCache> cache = Open(500);
  {
    const auto first = cache->Get(a, 1000, cancel_);
    const auto second = cache->Get(b, 1000, cancel_);
    ASSERT_TRUE(first.ok() && second.ok());
    EXPECT_EQ(*ReadFile((*first)->path()), std::string(1000, 'a'));
  }
  EXPECT_FALSE(Cached(a));
  EXPECT_FALSE(Cached(b));
}

TEST_F(CacheTest, AnEarlierWorkersBlobsAreUsedIfTheyAreGoodAndItsLeftoversGo) {
  const std::string a = Store('a'), b = Store('b');
  {
    const std::unique_ptr<BlobCache> cache = Open(10'000);
    ASSERT_TRUE(cache->Get(a, 1000, cancel_).ok());
    ASSERT_TRUE(cache->Get(b, 1000, cancel_).ok());
  }
  ASSERT_TRUE(WriteFileAtomically(folder_ / "blobs" / b, std::string(1000, 'x')).ok());
  ASSERT_TRUE(WriteFileAtomically(folder_ / "blobs" / (a + ".part"), "half").ok());
  ASSERT_TRUE(WriteFileAtomically(folder_ / "outbox" / "result", "old").ok());
  coordinator_.blobs.downloads = 0;
  const std::unique_ptr<BlobCache> cache = Open(10'000);
  EXPECT_TRUE(std::filesystem::is_empty(folder_ / "outbox"));
  EXPECT_FALSE(std::filesystem::exists(folder_ / "blobs" / (a + ".part")));
  ASSERT_TRUE(cache->Get(a, 1000, cancel_).ok());
  EXPECT_EQ(coordinator_.blobs.downloads, 0);
  const auto pin = cache->Get(b, 1000, cancel_);
  ASSERT_TRUE(pin.ok());
  EXPECT_EQ(coordinator_.blobs.downloads, 1);
  EXPECT_EQ(*ReadFile((*pin)->path()), std::string(1000, 'b'));
}

TEST_F(CacheTest, AFailedFetchLeavesNothing) {
  const std::unique_ptr<BlobCache> cache = Open(10'000);
  const std::string hash = Sha256Hex("nowhere");
  EXPECT_EQ(cache->Get(hash, 7, cancel_).status().code(), StatusCode::kNotFound);
  EXPECT_TRUE(std::filesystem::is_empty(folder_ / "blobs"));
  coordinator_.blobs.Store("nowhere");
  EXPECT_TRUE(cache->Get(hash, 7, cancel_).ok());
}

TEST_F(CacheTest, ThreadsThatWantTheSameBlobFetchItOnce) {
  const std::string hash = Store('a', 3'000'000);
  const std::unique_ptr<BlobCache> cache = Open(10'000'000);
  std::vector<std::thread> threads;
  std::atomic<int> good{0};
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      const auto pin = cache->Get(hash, 3'000'000, cancel_);
      if (pin.ok() && *Sha256OfFile((*pin)->path()) == hash) ++good;
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(good, 4);
  EXPECT_EQ(coordinator_.blobs.downloads, 1);
}

TEST_F(CacheTest, PartsAreKeptByTheirOwnHashesAndSharedByEqualOnes) {
  const std::string part = std::string(1000, 'p');
  const std::string blob = coordinator_.blobs.Store(part + part + "rest");
  const std::unique_ptr<BlobCache> cache = Open(10'000);
  for (const int64_t offset : {0, 1000, 0}) {
    const auto pin = cache->GetPart(blob, offset, 1000, Sha256Hex(part), cancel_);
    ASSERT_TRUE(pin.ok()) << pin.status();
    EXPECT_EQ(*ReadFile((*pin)->path()), part);
  }
  EXPECT_EQ(coordinator_.blobs.downloads, 1);
  EXPECT_TRUE(Cached(Sha256Hex(part)));
  EXPECT_EQ(cache->GetPart(blob, 2000, 4, Sha256Hex("other"), cancel_).status().code(), StatusCode::kDataLoss);
  EXPECT_FALSE(Cached(Sha256Hex("other")));
}

TEST_F(CacheTest, WhoIsCancelledDoesNotWaitForAnothersFetch) {
  coordinator_.Stop();
  RetryPolicy patient;
  patient.max_attempts = 0;
  BlobTransfer patiently(OpenChannel(coordinator_.address(), ""), patient);
  Result<std::unique_ptr<BlobCache>> cache = BlobCache::Open(folder_, 10'000, &patiently);
  ASSERT_TRUE(cache.ok()) << cache.status();
  const std::string hash = Sha256Hex("x");
  CancelToken first, second;
  std::thread fetching([&] { EXPECT_EQ((*cache)->Get(hash, 1, first).status().code(), StatusCode::kCancelled); });
  std::thread waiting([&] {
    EXPECT_EQ((*cache)->Get(hash, 1, second).status().code(), StatusCode::kCancelled);
    first.Cancel();
  });
  second.Cancel();
  waiting.join();
  fetching.join();
}

// Bytes that tell where they are from.
std::string PatternBytes(size_t size) {
  std::string bytes(size, '\0');
  for (size_t i = 0; i < size; ++i) bytes[i] = static_cast<char>(i ^ (i >> 8) ^ (i >> 16) * 7 ^ (i >> 22) * 31);
  return bytes;
}

class RangeTest : public CacheTest {
 protected:
  static constexpr int64_t kPart = kBlobPartBytes;
  void Store(size_t size) {
    bytes_ = PatternBytes(size);
    hash_ = coordinator_.blobs.Store(bytes_);
  }
  std::unique_ptr<ByteSource> OpenSource(RangeReader* reader) {
    Result<std::unique_ptr<ByteSource>> source = reader->Open(hash_, static_cast<int64_t>(bytes_.size()), "film.mkv", cancel_);
    EXPECT_TRUE(source.ok()) << source.status();
    return source.ok() ? *std::move(source) : nullptr;
  }
  // All bytes of the range are right.
  void ExpectBytes(ByteSource* source, int64_t offset, int64_t size) {
    std::vector<char> buffer(1 << 18);
    while (size > 0) {
      const Result<size_t> got = source->Read(offset, buffer.data(), std::min(buffer.size(), static_cast<size_t>(size)));
      ASSERT_TRUE(got.ok()) << got.status();
      ASSERT_GT(*got, 0u) << offset;
      ASSERT_EQ(bytes_.compare(static_cast<size_t>(offset), *got, buffer.data(), *got), 0) << offset;
      offset += static_cast<int64_t>(*got);
      size -= static_cast<int64_t>(*got);
    }
  }
  std::set<int64_t> PartsSent() {
    std::lock_guard<std::mutex> lock(coordinator_.blobs.mutex);
    std::set<int64_t> parts;
    for (const int64_t offset : coordinator_.blobs.offsets) parts.insert(offset / kPart);
    return parts;
  }

  std::string bytes_, hash_;
};

TEST_F(RangeTest, OnlyThePartsThatAreReadCrossTheNetworkOnce) {
  Store(static_cast<size_t>(10 * kPart + 77));
  const std::unique_ptr<BlobCache> cache = Open(100 * kPart);
  RangeReader reader(cache.get(), &transfer_);
  const std::unique_ptr<ByteSource> source = OpenSource(&reader);
  ASSERT_NE(source, nullptr);
  EXPECT_EQ(source->size(), static_cast<int64_t>(bytes_.size()));
  EXPECT_EQ(source->display(), "film.mkv");
  ExpectBytes(source.get(), 0, 1000);              // a header
  ExpectBytes(source.get(), 10 * kPart, 77);       // an index at the end
  ExpectBytes(source.get(), 4 * kPart + 5, 1000);  // a range in the middle, of one part
  ExpectBytes(source.get(), 0, 1000);
  EXPECT_EQ(PartsSent(), (std::set<int64_t>{0, 4, 10}));
  ExpectBytes(source.get(), 7 * kPart - 10, 20);  // over a border: reading at the end of a part fetches the next one
  EXPECT_EQ(PartsSent(), (std::set<int64_t>{0, 4, 6, 7, 10}));
  char byte = 0;
  EXPECT_EQ(*source->Read(source->size(), &byte, 1), 0u);
  EXPECT_EQ(*source->Read(source->size() + 5, &byte, 1), 0u);

  // Another task reads the same, at the same time or later.
  const std::unique_ptr<ByteSource> second = OpenSource(&reader);
  ExpectBytes(second.get(), 0, 1000);
  ExpectBytes(second.get(), 4 * kPart, 1000);
  EXPECT_EQ(coordinator_.blobs.downloads, 5);
  EXPECT_EQ(coordinator_.blobs.downloaded, 4 * kPart + 77);
}

TEST_F(RangeTest, ReadingOnFetchesTheNextPartBeforeItIsAskedFor) {
  Store(static_cast<size_t>(3 * kPart));
  const std::unique_ptr<BlobCache> cache = Open(100 * kPart);
  RangeReader reader(cache.get(), &transfer_);
  const std::unique_ptr<ByteSource> source = OpenSource(&reader);
  ExpectBytes(source.get(), 0, kPart / 2 - 1);
  EXPECT_EQ(PartsSent(), (std::set<int64_t>{0}));
  ExpectBytes(source.get(), kPart / 2, 1);
  EXPECT_TRUE(WaitUntil([&] { return PartsSent().count(1) > 0; }));
  ExpectBytes(source.get(), 0, 3 * kPart);
  EXPECT_EQ(coordinator_.blobs.downloads, 3);
}

TEST_F(RangeTest, TheCacheKeepsToItsLimit) {
  Store(static_cast<size_t>(12 * kPart));
  const std::unique_ptr<BlobCache> cache = Open(2 * kPart);
  RangeReader reader(cache.get(), &transfer_);
  {
    const std::unique_ptr<ByteSource> source = OpenSource(&reader);
    ExpectBytes(source.get(), 0, 12 * kPart);
  }
  int64_t kept = 0;
  for (const auto& file : std::filesystem::directory_iterator(folder_ / "blobs")) kept += static_cast<int64_t>(file.file_size());
  EXPECT_LE(kept, 2 * kPart);
  EXPECT_EQ(coordinator_.blobs.downloads, 12);
}

TEST_F(RangeTest, ThreadsReadOneBlobTogether) {
  Store(static_cast<size_t>(4 * kPart + 1));
  const std::unique_ptr<BlobCache> cache = Open(3 * kPart);
  RangeReader reader(cache.get(), &transfer_);
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&, i] {
      const std::unique_ptr<ByteSource> source = OpenSource(&reader);
      ExpectBytes(source.get(), i * kPart, 4 * kPart + 1 - i * kPart);
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST_F(RangeTest, WhatArrivesWrongIsAskedForOnceMoreAndThenRefused) {
  Store(static_cast<size_t>(2 * kPart));
  const std::unique_ptr<BlobCache> cache = Open(100 * kPart);
  RangeReader reader(cache.get(), &transfer_);
  const std::unique_ptr<ByteSource> source = OpenSource(&reader);
  coordinator_.blobs.spoil_downloads = 1;
  ExpectBytes(source.get(), 0, 100);
  coordinator_.blobs.spoil_downloads = 2;
  char byte = 0;
  const Status status = source->Read(kPart, &byte, 1).status();
  EXPECT_EQ(status.code(), StatusCode::kDataLoss);
  EXPECT_NE(status.message().find("film.mkv"), std::string::npos) << status;
  ExpectBytes(source.get(), kPart, 100);
}

TEST_F(RangeTest, OpeningFailsForWhatIsNotThere) {
  Store(static_cast<size_t>(kPart));
  const std::unique_ptr<BlobCache> cache = Open(100 * kPart);
  RangeReader reader(cache.get(), &transfer_);
  EXPECT_EQ(reader.Open(Sha256Hex("gone"), 4, "film.mkv", cancel_).status().code(), StatusCode::kNotFound);
  EXPECT_EQ(reader.Open(hash_, kPart + 1, "film.mkv", cancel_).status().code(), StatusCode::kDataLoss);
  EXPECT_EQ(reader.Open("../x", 4, "film.mkv", cancel_).status().code(), StatusCode::kInvalidArgument);
  const std::string empty = coordinator_.blobs.Store("");
  const Result<std::unique_ptr<ByteSource>> source = reader.Open(empty, 0, "empty.mkv", cancel_);
  ASSERT_TRUE(source.ok()) << source.status();
  char byte = 0;
  EXPECT_EQ(*(*source)->Read(0, &byte, 1), 0u);
}

TEST_F(RangeTest, CancellingEndsARead) {
  Store(static_cast<size_t>(2 * kPart));
  RetryPolicy patient;
  patient.max_attempts = 0;
  BlobTransfer patiently(OpenChannel(coordinator_.address(), ""), patient);
  const std::unique_ptr<BlobCache> cache = *BlobCache::Open(folder_, 100 * kPart, &patiently);
  RangeReader reader(cache.get(), &patiently);
  const std::unique_ptr<ByteSource> source = OpenSource(&reader);
  coordinator_.Stop();
  std::thread reading([&] {
    char byte = 0;
    EXPECT_EQ(source->Read(kPart / 2, &byte, 1).status().code(), StatusCode::kCancelled);
  });
  cancel_.Cancel();
  reading.join();
}

TEST_F(CacheTest, TheShelfKeepsModelsWhileTheyAreUsed) {
  const std::unique_ptr<BlobCache> cache = Open(10'000'000);
  ManualClock clock;
  int loads = 0;
  const auto load = [&loads](const ModelPack& pack) {
    ++loads;
    EngineOptions options;
    options.device = "cpu";
    return LoadEnhancer(pack, options);
  };
  ModelShelf::Options options;
  options.keep_idle_us = 300'000'000;
  ModelShelf shelf(options, {load, nullptr, nullptr}, cache.get(), &clock);
  v1::LeasedTask task;
  SetModel(&coordinator_, IdentityPack(), &task);
  const auto get = [&] {
    ModelError error;
    auto model = shelf.Get(task.options().model_id(), task.model_blob(), task.model_blob_size(), cancel_, &error);
    EXPECT_NE(model, nullptr) << error.status;
    return model;
  };
  std::shared_ptr<Enhancer> in_use = get();
  get();
  EXPECT_EQ(loads, 1);
  clock.AdvanceMs(301'000);
  shelf.DropIdle();
  EXPECT_EQ(shelf.loaded(), 1u) << "a task holds it";
  in_use.reset();
  shelf.DropIdle();
  EXPECT_EQ(shelf.loaded(), 0u);
  get();
  EXPECT_EQ(loads, 2);
  EXPECT_EQ(coordinator_.blobs.downloads, 1) << "the bundle is cached on the disk";
}

TEST(MemoryBudgetTest, WaitsForRoomAndRefusesWhatNeverFits) {
  MemoryBudget budget(int64_t{10} << 20);
  CancelToken cancel;
  const Status never = budget.Reserve(int64_t{11} << 20, cancel).status();
  EXPECT_EQ(never.code(), StatusCode::kResourceExhausted);
  EXPECT_NE(never.message().find("needs 11 MiB of memory for pictures, has 10 MiB"), std::string::npos) << never;

  auto first = budget.Reserve(int64_t{6} << 20, cancel);
  ASSERT_TRUE(first.ok());
  std::atomic<bool> reserved{false};
  std::thread waiter([&] {
    EXPECT_TRUE(budget.Reserve(int64_t{6} << 20, cancel).ok());
    reserved = true;
  });
  EXPECT_TRUE(budget.Reserve(int64_t{4} << 20, cancel).ok());
  EXPECT_FALSE(reserved);
  first->reset();
  waiter.join();

  auto all = budget.Reserve(int64_t{10} << 20, cancel);
  ASSERT_TRUE(all.ok());
  std::thread cancelled([&] { EXPECT_EQ(budget.Reserve(1, cancel).status().code(), StatusCode::kCancelled); });
  cancel.Cancel();
  cancelled.join();
}

TEST(MemoryBudgetTest, HalvedItLetsFewerInButAlwaysOne) {
  MemoryBudget budget(100);
  const CancelToken cancel;
  auto own = budget.Reserve(60, cancel);
  EXPECT_FALSE(budget.Halve(60)) << "nobody else holds any";
  EXPECT_EQ(budget.capacity(), 100);
  auto other = budget.Reserve(30, cancel);
  EXPECT_TRUE(budget.Halve(60));
  EXPECT_EQ(budget.capacity(), 50);
  own->reset();
  std::atomic<bool> reserved{false};
  std::thread waiter([&] {
    EXPECT_TRUE(budget.Reserve(60, cancel).ok()) << "by itself it may have more than the half";
    reserved = true;
  });
  EXPECT_TRUE(budget.Reserve(20, cancel).ok());
  EXPECT_FALSE(reserved);
  other->reset();
  waiter.join();
  EXPECT_EQ(budget.Reserve(101, cancel).status().code(), StatusCode::kResourceExhausted);
}

// Runs out of memory in its first step.
class GreedyTask : public Task {
 public:
  explicit GreedyTask(const TaskTools* tools) : Task(v1::LeasedTask(), tools) {}
  std::string what() const override { return "greedy"; }

 private:
  MaybeFailure DoPrepare() override { throw std::bad_alloc(); }
  MaybeFailure DoCompute() override { return std::nullopt; }
  MaybeFailure DoFinish() override { return std::nullopt; }
  void DoScore() override {}
  void Drop() override {}
};

TEST(TaskTest, OutOfMemoryBesideOthersIsTriedAgainWithFewer) {
  MemoryBudget budget(100);
  TaskTools tools;
  tools.memory = &budget;
  {
    const auto other = budget.Reserve(10, CancelToken());
    const MaybeFailure failure = GreedyTask(&tools).Prepare();
    ASSERT_TRUE(failure.has_value());
    EXPECT_EQ(failure->failure_class, v1::FAILURE_CLASS_TRANSIENT);
    EXPECT_EQ(budget.capacity(), 50);
  }
  const MaybeFailure failure = GreedyTask(&tools).Prepare();
  ASSERT_TRUE(failure.has_value());
  EXPECT_EQ(failure->failure_class, v1::FAILURE_CLASS_WORKER_FAULT);
  EXPECT_EQ(budget.capacity(), 50);
}

TEST(ShareMemoryTest, NeverSharesOutMoreThanThereIs) {
  for (const int64_t memory : {kLeastMaxMemory, int64_t{1} << 30, int64_t{4} << 30, int64_t{12} << 30, int64_t{500} << 30}) {
    const MemoryShares shares = ShareMemory(memory);
    EXPECT_GT(shares.engine, int64_t{100} << 20) << memory;
    EXPECT_GT(shares.pictures, int64_t{100} << 20) << memory;
    EXPECT_GT(shares.weights, 0) << memory;
    EXPECT_LT(shares.engine + shares.pictures + shares.weights, memory) << memory;
  }
}

TEST(TaskMemoryBytesTest, CountsWindowResultAndDecoder) {
  v1::PictureInfo picture;
  picture.set_width(1000);
  picture.set_height(1000);
  picture.set_depth(8);
  picture.set_format("tiff");
  const Rect all{0, 0, 1000, 1000}, part{0, 0, 100, 100};
  EXPECT_EQ(TaskMemoryBytes(picture, true, all, all, 1), 3'000'000 + 6'000'000);
  EXPECT_EQ(TaskMemoryBytes(picture, true, part, part, 2), 30'000 + 240'000);
  picture.set_depth(16);
  picture.set_format("png");
  EXPECT_EQ(TaskMemoryBytes(picture, false, all, all, 1), 6'000'000 + 6'000'000 + 8'000'000);
  picture.set_grey(true);
  picture.set_depth(8);
  picture.set_format("webp");
  EXPECT_EQ(TaskMemoryBytes(picture, false, part, part, 1), 10'000 + 60'000 + 4'000'000);
}

class DecodesByRowsTest : public PictureTest {};

TEST_F(DecodesByRowsTest, Table) {
  const vips::VImage image = Noise(64, 48, 3, VIPS_FORMAT_UCHAR);
  const struct {
    const char* name;
    bool by_rows;
  } kRows[] = {
      {"a.jpg", true}, {"b.jpg[interlace]", false}, {"c.png", true}, {"d.png[interlace]", false}, {"e.tif", true}, {"f.webp", false},
  };
  for (const auto& row : kRows) {
    image.write_to_file(Path(row.name).c_str());
    const std::string name = row.name;
    EXPECT_EQ(DecodesByRows(Path(name.substr(0, name.find('[')))), row.by_rows) << row.name;
  }
  Spill(Path("short"), "\xff\xd8\xff");
  EXPECT_FALSE(DecodesByRows(Path("short")));
  Spill(Path("odd"), std::string("\xff\xd8\xff\xe0\x00\x00", 6) + std::string(100, '\xff'));
  EXPECT_FALSE(DecodesByRows(Path("odd")));
  EXPECT_FALSE(DecodesByRows(Path("missing")));
}

TEST(SpeedBookTest, LaterTasksCountMoreAndLongTasksMoreThanShort) {
  SpeedBook book;
  EXPECT_FALSE(book.Knows("m"));
  EXPECT_TRUE(book.Speeds().empty());
  book.Record("m", 1, 1, "fp32");
  EXPECT_TRUE(book.Knows("m"));
  EXPECT_DOUBLE_EQ(book.Speeds()[0].megapixels_per_second(), 1);
  for (int i = 0; i < 30; ++i) book.Record("m", 4, 1, "fp32");
  EXPECT_NEAR(book.Speeds()[0].megapixels_per_second(), 4, 0.001);
  book.Record("m", 0.001, 0.1, "fp32");  // a small picture, mostly overhead
  EXPECT_GT(book.Speeds()[0].megapixels_per_second(), 3);
  book.Record("m", 0, 1, "fp32");
  book.Record("m", 1, 0, "fp32");
  EXPECT_GT(book.Speeds()[0].megapixels_per_second(), 3);
}

TEST(BenchmarkEnhancerTest, MeasuresARealEngine) {
  EngineOptions options;
  options.device = "cpu";
  const auto enhancer = LoadEnhancer(IdentityPack(), options);
  ASSERT_TRUE(enhancer.ok()) << enhancer.status();
  const SystemClock clock;
  CancelToken cancel;
  const Result<SpeedSample> sample = BenchmarkEnhancer(enhancer->get(), clock, cancel);
  ASSERT_TRUE(sample.ok()) << sample.status();
  EXPECT_GT(sample->megapixels, 0);
  EXPECT_GT(sample->seconds, 0);
  cancel.Cancel();
  EXPECT_EQ(BenchmarkEnhancer(enhancer->get(), clock, cancel).status().code(), StatusCode::kCancelled);
}

}  // namespace
}  // namespace nsic

int main(int argc, char** argv) {
  const nsic::MediaLibrary media(1);
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
