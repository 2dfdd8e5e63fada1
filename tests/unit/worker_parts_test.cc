// The worker's parts that are hard to reach from outside: the cache's bounds, the shelf, the memory budget, the book of speeds.
#include <gtest/gtest.h>

#include <atomic>
#include <filesystem>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "core/base/clock.h"
#include "core/base/digest.h"
#include "core/base/files.h"
#include "core/infer/engine.h"
#include "tests/fakes/fake_coordinator.h"
#include "tests/fakes/identity_task.h"
#include "tests/unit/media_pictures.h"
#include "worker/blob_cache.h"
#include "worker/measure_speed.h"
#include "worker/memory_budget.h"
#include "worker/model_shelf.h"
#include "worker/run_picture_task.h"
#include "worker/work_loop.h"

namespace nsic {
namespace {

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
  ModelShelf shelf(options, load, cache.get(), &clock);
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
