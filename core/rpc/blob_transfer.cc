#include "core/rpc/blob_transfer.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <filesystem>
#include <utility>
#include <vector>

#include "core/base/digest.h"
#include "core/base/files.h"
#include "nsic/v1/blobs.grpc.pb.h"

namespace nsic {
namespace {

// Where an upload's bytes come from.
class Source {
 public:
  virtual ~Source() = default;
  virtual std::string name() const = 0;
  // Exactly `size` bytes from `offset`; DATA_LOSS if there are fewer.
  virtual Status Read(int64_t offset, size_t size, std::string* bytes) = 0;
  virtual Result<std::string> Hash() = 0;
};

class FileSource : public Source {
 public:
  static Result<std::unique_ptr<FileSource>> Open(const std::string& path, int64_t size) {
    NSIC_ASSIGN_OR_RETURN(UniqueFd fd, OpenForReading(path));
    struct stat info {};
    if (::fstat(fd.get(), &info) != 0) return ErrnoError(errno, "cannot examine " + path);
    if (info.st_size != size) {
      return DataLossError(path + " has changed: it had " + std::to_string(size) + " bytes and now has " + std::to_string(info.st_size));
    }
    return std::unique_ptr<FileSource>(new FileSource(path, std::move(fd)));
  }
  std::string name() const override { return path_; }
  Status Read(int64_t offset, size_t size, std::string* bytes) override {
    bytes->resize(size);
    size_t done = 0;
    while (done < size) {
      const ssize_t got = ::pread(fd_.get(), bytes->data() + done, size - done, offset + static_cast<int64_t>(done));
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) return ErrnoError(errno, "cannot read " + path_);
      if (got == 0) return DataLossError(path_ + " has become shorter while it was uploaded");
      done += static_cast<size_t>(got);
    }
    return OkStatus();
  }
  Result<std::string> Hash() override { return Sha256OfFile(path_); }

 private:
  FileSource(std::string path, UniqueFd fd) : path_(std::move(path)), fd_(std::move(fd)) {}
  const std::string path_;
  const UniqueFd fd_;
};

class BytesSource : public Source {
 public:
  explicit BytesSource(std::string_view bytes) : bytes_(bytes) {}
  std::string name() const override { return "a block of " + std::to_string(bytes_.size()) + " bytes"; }
  Status Read(int64_t offset, size_t size, std::string* bytes) override {
    *bytes = bytes_.substr(static_cast<size_t>(offset), size);
    return OkStatus();
  }
  Result<std::string> Hash() override { return Sha256Hex(bytes_); }

 private:
  const std::string_view bytes_;
};

// Where a download's bytes go.
class Sink {
 public:
  virtual ~Sink() = default;
  virtual Status Append(std::string_view bytes) = 0;
  virtual Status Clear() = 0;
};

class BytesSink : public Sink {
 public:
  Status Append(std::string_view bytes) override {
    bytes_.append(bytes);
    return OkStatus();
  }
  Status Clear() override {
    bytes_.clear();
    return OkStatus();
  }
  std::string Take() { return std::move(bytes_); }

 private:
  std::string bytes_;
};

// "PATH.part", locked so that two processes do not write one download into each other.
class PartFile : public Sink {
 public:
  static Result<std::unique_ptr<PartFile>> Open(const std::string& path) {
    const std::string part = path + ".part";
    while (true) {
      UniqueFd fd(::open(part.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666));
      if (!fd.valid()) return ErrnoError(errno, "cannot create " + part);
      if (::flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
        if (errno == EWOULDBLOCK) return AbortedError("another process is downloading to " + path);
        return ErrnoError(errno, "cannot lock " + part);
      }
      // Between open and lock the other process may have finished and renamed the file away: then this is no longer the part file.
      struct stat mine {
      }, there{};
      if (::fstat(fd.get(), &mine) != 0) return ErrnoError(errno, "cannot examine " + part);
      if (::stat(part.c_str(), &there) == 0 && there.st_ino == mine.st_ino && there.st_dev == mine.st_dev) {
        return std::unique_ptr<PartFile>(new PartFile(path, part, std::move(fd)));
      }
    }
  }

  // Feeds what an earlier download left to `digest`; returns how many bytes that were, at most `limit`: a longer file is emptied.
  Result<int64_t> Resume(int64_t limit, Sha256* digest) {
    struct stat info {};
    if (::fstat(fd_.get(), &info) != 0) return ErrnoError(errno, "cannot examine " + part_);
    if (info.st_size > limit) {
      NSIC_RETURN_IF_ERROR(Clear());
      return int64_t{0};
    }
    if (::lseek(fd_.get(), 0, SEEK_SET) < 0) return ErrnoError(errno, "cannot read " + part_);
    std::vector<char> buffer(size_t{1} << 20);
    int64_t total = 0;
    while (true) {
      NSIC_ASSIGN_OR_RETURN(const size_t got, ReadSome(fd_.get(), buffer.data(), buffer.size(), part_));
      if (got == 0) return total;
      digest->Update(buffer.data(), got);
      total += static_cast<int64_t>(got);
    }
  }

  Status Append(std::string_view bytes) override { return WriteAll(fd_.get(), bytes, part_); }
  Status Clear() override {
    if (::ftruncate(fd_.get(), 0) != 0 || ::lseek(fd_.get(), 0, SEEK_SET) < 0) return ErrnoError(errno, "cannot empty " + part_);
    return OkStatus();
  }
  Status Publish() {
    if (::fsync(fd_.get()) != 0) return ErrnoError(errno, "cannot sync " + part_);
    if (::rename(part_.c_str(), path_.c_str()) != 0) return ErrnoError(errno, "cannot rename " + part_ + " to " + path_);
    const std::string folder = std::filesystem::path(path_).parent_path().string();
    return SyncFolder(folder.empty() ? "." : folder);
  }

 private:
  PartFile(std::string path, std::string part, UniqueFd fd) : path_(std::move(path)), part_(std::move(part)), fd_(std::move(fd)) {}
  const std::string path_;
  const std::string part_;
  const UniqueFd fd_;
};

// What a download wants: a blob, or a part of one.
struct Wanted {
  std::string sha256;  // of the blob
  int64_t offset = 0;
  int64_t size = 0;      // bytes from `offset` on
  std::string expected;  // SHA-256 of these bytes
  std::string name() const {
    return expected == sha256 ? "blob " + sha256 : std::to_string(size) + " bytes from " + std::to_string(offset) + " on of blob " + sha256;
  }
};

std::string ToHex(std::string_view bytes) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  for (const char byte : bytes) {
    text += kDigits[static_cast<unsigned char>(byte) >> 4];
    text += kDigits[static_cast<unsigned char>(byte) & 15];
  }
  return text;
}

// Tells a Progress about bytes once, however often they move.
class ProgressMeter {
 public:
  explicit ProgressMeter(const BlobTransfer::Progress& progress) : progress_(progress) {}
  void Reached(int64_t position) {
    if (position <= reached_) return;
    if (progress_) progress_(position - reached_);
    reached_ = position;
  }

 private:
  const BlobTransfer::Progress& progress_;
  int64_t reached_ = 0;
};

// Counts attempts that moved nothing and waits between them.
class Patience {
 public:
  Patience(grpc::Channel* channel, const RetryPolicy& policy, const CancelToken& cancel)
      : channel_(channel), policy_(policy), cancel_(cancel) {}
  void Moved() { failures_ = 0; }
  // Waits before another attempt; returns `why` when there shall be none.
  Status WaitAfter(const Status& why) {
    NSIC_RETURN_IF_ERROR(cancel_.Check());
    ++failures_;
    if (failures_ == policy_.max_attempts) return why;
    return WaitToRetry(channel_, RetryDelay(policy_, failures_), cancel_);
  }

 private:
  grpc::Channel* const channel_;
  const RetryPolicy& policy_;
  const CancelToken& cancel_;
  int failures_ = 0;
};

}  // namespace

struct BlobTransfer::Impl {
  Impl(std::shared_ptr<grpc::Channel> farm_channel, RetryPolicy retry_policy)
      : channel(std::move(farm_channel)), stub(v1::Blobs::NewStub(channel)), policy(retry_policy) {}

  // Sends from `offset` to the end in one stream.
  Status SendOnce(Source* source, const std::string& sha256, int64_t size, int64_t offset, const CancelToken& cancel,
                  v1::UploadResult* result) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + policy.deadline);
    const CancelCallback on_cancel(cancel, [&context] { context.TryCancel(); });
    auto stream = stub->Upload(&context, result);
    v1::UploadChunk chunk;
    chunk.mutable_header()->mutable_blob()->set_sha256(sha256);
    chunk.mutable_header()->mutable_blob()->set_size(size);
    chunk.mutable_header()->set_offset(offset);
    do {
      const size_t piece = static_cast<size_t>(std::min<int64_t>(kTransferChunkBytes, size - offset));
      const Status read = source->Read(offset, piece, chunk.mutable_data());
      if (!read.ok()) {
        context.TryCancel();
        stream->Finish().ok();  // cancelled by us: what it says does not matter
        return read;
      }
      offset += static_cast<int64_t>(piece);
      if (!stream->Write(chunk)) break;  // the server has ended the call: Finish says why
      chunk.clear_header();
    } while (offset < size);
    stream->WritesDone();
    return FromGrpc(stream->Finish());
  }

  Status Upload(Source* source, const std::string& sha256, int64_t size, const CancelToken& cancel, const Progress& progress) {
    ProgressMeter meter(progress);
    Patience patience(channel.get(), policy, cancel);
    int64_t received = -1;
    bool restarted = false;
    while (true) {
      NSIC_ASSIGN_OR_RETURN(const v1::BlobStat stat, Stat(sha256, cancel));
      if (stat.stored()) {
        meter.Reached(size);
        return OkStatus();
      }
      if (stat.received() > received && received >= 0) patience.Moved();
      received = std::clamp<int64_t>(stat.received(), 0, size);
      meter.Reached(received);

      v1::UploadResult result;
      const Status status = SendOnce(source, sha256, size, received, cancel, &result);
      if (status.ok() && result.complete()) {
        meter.Reached(size);
        return OkStatus();
      }
      if (status.ok()) {
        if (result.received() > received) patience.Moved();
        NSIC_RETURN_IF_ERROR(patience.WaitAfter(UnavailableError("the coordinator stored only " + std::to_string(result.received()) +
                                                                 " of " + std::to_string(size) + " bytes of " + source->name())));
        continue;
      }
      NSIC_RETURN_IF_ERROR(cancel.Check());
      if (status.code() == StatusCode::kDataLoss) {
        // Either the source is no longer what was hashed, or what the coordinator had of it was bad and is dropped: then once again.
        NSIC_ASSIGN_OR_RETURN(const std::string now, source->Hash());
        if (now != sha256) return DataLossError(source->name() + " has changed since it was hashed");
        if (restarted) return status.WithContext("upload of " + source->name());
        restarted = true;
        received = -1;
        continue;
      }
      // Another upload of the same blob may have moved on under ours (OUT_OF_RANGE): look again.
      if (!IsRetryable(status) && status.code() != StatusCode::kOutOfRange) return status.WithContext("upload of " + source->name());
      NSIC_RETURN_IF_ERROR(patience.WaitAfter(status.WithContext("upload of " + source->name())));
    }
  }

  Result<v1::BlobStat> Stat(const std::string& sha256, const CancelToken& cancel) {
    v1::StatBlobRequest request;
    request.set_sha256(sha256);
    v1::BlobStat stat;
    NSIC_RETURN_IF_ERROR(CallWithRetry(channel.get(), policy, cancel, [&](grpc::ClientContext* context) {
      stat.Clear();
      return stub->Stat(context, request, &stat);
    }));
    return stat;
  }

  // Receives from `*position` of what is wanted in one stream, moving `*position` and `*digest` on.
  Status ReceiveOnce(const Wanted& wanted, const CancelToken& cancel, Sink* sink, Sha256* digest, int64_t* position, ProgressMeter* meter) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + policy.deadline);
    const CancelCallback on_cancel(cancel, [&context] { context.TryCancel(); });
    v1::DownloadRequest request;
    request.set_sha256(wanted.sha256);
    request.set_offset(wanted.offset + *position);
    request.set_length(wanted.size - *position);
    auto stream = stub->Download(&context, request);
    v1::DownloadChunk chunk;
    Status local;
    while (local.ok() && stream->Read(&chunk)) {
      const int64_t next = *position + static_cast<int64_t>(chunk.data().size());
      if (next > wanted.size) {
        local = DataLossError("the coordinator sent more than the " + std::to_string(wanted.size) + " bytes of " + wanted.name());
      } else {
        local = sink->Append(chunk.data());
      }
      if (!local.ok()) break;
      digest->Update(chunk.data());
      *position = next;
      meter->Reached(next);
    }
    if (!local.ok()) context.TryCancel();
    const Status remote = FromGrpc(stream->Finish());
    return local.ok() ? remote : local;
  }

  Status Download(const Wanted& wanted, Sink* sink, Sha256 digest, int64_t position, const CancelToken& cancel, const Progress& progress) {
    ProgressMeter meter(progress);
    meter.Reached(position);
    Patience patience(channel.get(), policy, cancel);
    bool restarted = false;
    while (true) {
      NSIC_RETURN_IF_ERROR(cancel.Check());
      Status status;
      if (position < wanted.size) {
        const int64_t before = position;
        status = ReceiveOnce(wanted, cancel, sink, &digest, &position, &meter);
        if (position > before) patience.Moved();
        if (status.ok() && position < wanted.size) {
          status = UnavailableError("the coordinator stopped in the middle of " + wanted.name());
        }
      }
      if (status.ok()) {
        if (digest.Hex() == wanted.expected) return OkStatus();
        status = DataLossError("what arrived of " + wanted.name() + " does not have the hash " + wanted.expected);
      }
      NSIC_RETURN_IF_ERROR(cancel.Check());
      if (status.code() == StatusCode::kDataLoss) {
        if (restarted) return status;
        // What an earlier process left, or one broken stream, may have been bad: from the start, once.
        restarted = true;
        NSIC_RETURN_IF_ERROR(sink->Clear());
        digest = Sha256();
        position = 0;
        continue;
      }
      if (!IsRetryable(status)) return status;
      NSIC_RETURN_IF_ERROR(patience.WaitAfter(status));
    }
  }

  const std::shared_ptr<grpc::Channel> channel;
  const std::unique_ptr<v1::Blobs::Stub> stub;
  const RetryPolicy policy;
};

BlobTransfer::BlobTransfer(std::shared_ptr<grpc::Channel> channel, RetryPolicy policy)
    : impl_(std::make_unique<Impl>(std::move(channel), policy)) {}
BlobTransfer::~BlobTransfer() = default;

Status BlobTransfer::UploadFile(const std::string& path, const std::string& sha256, int64_t size, const CancelToken& cancel,
                                const Progress& progress) {
  NSIC_ASSIGN_OR_RETURN(const std::unique_ptr<FileSource> source, FileSource::Open(path, size));
  return impl_->Upload(source.get(), sha256, size, cancel, progress);
}

Status BlobTransfer::UploadBytes(std::string_view bytes, const std::string& sha256, const CancelToken& cancel) {
  BytesSource source(bytes);
  return impl_->Upload(&source, sha256, static_cast<int64_t>(bytes.size()), cancel, nullptr);
}

Status BlobTransfer::DownloadFile(const std::string& sha256, int64_t size, const std::string& path, const CancelToken& cancel,
                                  const Progress& progress) {
  NSIC_ASSIGN_OR_RETURN(const std::unique_ptr<PartFile> part, PartFile::Open(path));
  Sha256 digest;
  NSIC_ASSIGN_OR_RETURN(const int64_t position, part->Resume(size, &digest));
  const Wanted wanted{sha256, 0, size, sha256};
  NSIC_RETURN_IF_ERROR(impl_->Download(wanted, part.get(), std::move(digest), position, cancel, progress));
  return part->Publish();
}

Result<std::string> BlobTransfer::DownloadBytes(const std::string& sha256, int64_t size, const CancelToken& cancel) {
  return DownloadPart(sha256, 0, size, sha256, cancel);
}

Result<std::vector<std::string>> BlobTransfer::PartHashes(const std::string& sha256, int64_t size, const CancelToken& cancel) {
  NSIC_ASSIGN_OR_RETURN(const v1::BlobStat stat, impl_->Stat(sha256, cancel));
  if (!stat.stored()) return NotFoundError("blob " + sha256 + " is not stored");
  bool fits = stat.size() == size && stat.chunk_sha256_size() == (size + kBlobPartBytes - 1) / kBlobPartBytes;
  std::vector<std::string> hashes;
  for (const std::string& hash : stat.chunk_sha256()) {
    fits = fits && hash.size() == 32;
    hashes.push_back(ToHex(hash));
  }
  if (fits) return hashes;
  return DataLossError("the coordinator's list of hashes does not fit the " + std::to_string(size) + " bytes of blob " + sha256);
}

Result<std::string> BlobTransfer::DownloadPart(const std::string& sha256, int64_t offset, int64_t size, const std::string& part_sha256,
                                               const CancelToken& cancel) {
  BytesSink sink;
  NSIC_RETURN_IF_ERROR(impl_->Download({sha256, offset, size, part_sha256}, &sink, Sha256(), 0, cancel, nullptr));
  return sink.Take();
}

}  // namespace nsic
