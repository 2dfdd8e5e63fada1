#include "worker/range_source.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <future>
#include <iterator>

#include "core/base/digest.h"
#include "core/base/files.h"

namespace nsic {
namespace {

constexpr size_t kMostKnownBlobs = 16;
constexpr size_t kMostOpenParts = 4;  // demuxers go to and fro: between an index at the end and the data, between streams

using PinResult = Result<std::unique_ptr<BlobCache::Pin>>;

class RangeSource : public ByteSource {
 public:
  RangeSource(BlobCache* cache, std::string sha256, int64_t size, std::shared_ptr<const std::vector<std::string>> hashes,
              std::string display, const CancelToken& cancel)
      : cache_(cache),
        sha256_(std::move(sha256)),
        size_(size),
        hashes_(std::move(hashes)),
        display_(std::move(display)),
        stop_on_cancel_(cancel, [this] { stop_.Cancel(); }) {}
  ~RangeSource() override { stop_.Cancel(); }  // what is read ahead ends early

  int64_t size() const override { return size_; }
  const std::string& display() const override { return display_; }

  Result<size_t> Read(int64_t offset, char* buffer, size_t bytes) override {
    if (offset < 0 || offset >= size_ || bytes == 0) return size_t{0};
    const int64_t number = offset / kBlobPartBytes;
    const int64_t within = offset % kBlobPartBytes;
    NSIC_ASSIGN_OR_RETURN(const Part* const part, Open(number));
    if (within >= kBlobPartBytes / 2) ReadAhead(number + 1);
    const size_t wanted = std::min(bytes, static_cast<size_t>(LengthOf(number) - within));
    while (true) {
      const ssize_t got = ::pread(part->fd.get(), buffer, wanted, within);
      if (got > 0) return static_cast<size_t>(got);
      if (got == 0) return DataLossError("the cache's copy of " + display_ + " has become shorter");
      if (errno != EINTR) return ErrnoError(errno, "cannot read " + part->pin->path());
    }
  }

 private:
  struct Part {
    int64_t number = 0;
    std::unique_ptr<BlobCache::Pin> pin;
    UniqueFd fd;
  };

  int64_t LengthOf(int64_t number) const { return std::min(kBlobPartBytes, size_ - number * kBlobPartBytes); }

  PinResult Fetch(int64_t number) {
    return cache_->GetPart(sha256_, number * kBlobPartBytes, LengthOf(number), (*hashes_)[static_cast<size_t>(number)], stop_);
  }

  Result<const Part*> Open(int64_t number) {
    const auto found = std::find_if(parts_.begin(), parts_.end(), [&](const Part& part) { return part.number == number; });
    if (found != parts_.end()) {
      parts_.splice(parts_.begin(), parts_, found);
      return &parts_.front();
    }
    // One that was read ahead in vain is asked for again: the error that counts is this one's.
    Part part;
    part.number = number;
    if (ahead_.valid() && ahead_number_ == number) {
      PinResult pin = ahead_.get();
      if (pin.ok()) part.pin = *std::move(pin);
    }
    if (part.pin == nullptr) {
      PinResult pin = Fetch(number);
      if (!pin.ok()) return pin.status().WithContext("fetching " + display_);
      part.pin = *std::move(pin);
    }
    NSIC_ASSIGN_OR_RETURN(part.fd, OpenForReading(part.pin->path()));
    parts_.push_front(std::move(part));
    if (parts_.size() > kMostOpenParts) parts_.pop_back();
    return &parts_.front();
  }

  void ReadAhead(int64_t number) {
    const bool open = std::any_of(parts_.begin(), parts_.end(), [&](const Part& part) { return part.number == number; });
    if (number * kBlobPartBytes >= size_ || open || (ahead_.valid() && ahead_number_ == number)) return;
    if (ahead_.valid() && ahead_.wait_for(std::chrono::seconds(0)) != std::future_status::ready) return;  // one at a time
    ahead_number_ = number;
    ahead_ = std::async(std::launch::async, [this, number] { return Fetch(number); });
  }

  BlobCache* const cache_;
  const std::string sha256_;
  const int64_t size_;
  const std::shared_ptr<const std::vector<std::string>> hashes_;
  const std::string display_;

  CancelToken stop_;
  const CancelCallback stop_on_cancel_;
  std::list<Part> parts_;  // the latest used first
  int64_t ahead_number_ = -1;
  std::future<PinResult> ahead_;  // waits for its thread when it is destroyed
};

}  // namespace

Result<std::unique_ptr<ByteSource>> RangeReader::Open(const std::string& sha256, int64_t size, const std::string& display,
                                                      const CancelToken& cancel) {
  Result<Hashes> hashes = HashesOf(sha256, size, cancel);
  if (!hashes.ok()) return hashes.status().WithContext("fetching " + display);
  return std::unique_ptr<ByteSource>(std::make_unique<RangeSource>(cache_, sha256, size, *std::move(hashes), display, cancel));
}

Result<RangeReader::Hashes> RangeReader::HashesOf(const std::string& sha256, int64_t size, const CancelToken& cancel) {
  if (!IsSha256Hex(sha256) || size < 0) return InvalidArgumentError("'" + sha256 + "' does not name a blob");
  const std::string key = sha256 + " " + std::to_string(size);
  {
    std::lock_guard<std::mutex> lock(mutex_);
    const auto found = std::find_if(known_.begin(), known_.end(), [&](const auto& entry) { return entry.first == key; });
    if (found != known_.end()) {
      known_.splice(known_.begin(), known_, found);
      return found->second;
    }
  }
  NSIC_ASSIGN_OR_RETURN(std::vector<std::string> hashes, transfer_->PartHashes(sha256, size, cancel));
  auto shared = std::make_shared<const std::vector<std::string>>(std::move(hashes));
  std::lock_guard<std::mutex> lock(mutex_);
  known_.emplace_front(key, shared);
  if (known_.size() > kMostKnownBlobs) known_.pop_back();
  return Hashes(std::move(shared));
}

}  // namespace nsic
