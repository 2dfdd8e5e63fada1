#include "core/farm/blob_store.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <filesystem>
#include <system_error>
#include <utility>

namespace nsic {
namespace {

constexpr int64_t kMaxBlobBytes = int64_t{1} << 44;
// Some of the disk is left for the database, without which nothing could be completed or deleted.
constexpr int64_t kDiskReserve = int64_t{64} << 20;
// Room for outputs that are on their way.
constexpr int64_t kMargin = int64_t{1} << 30;

// The reverse of the digest's spelling; `hex` is known to be a SHA-256.
std::string FromHex(const std::string& hex) {
  const auto digit = [](char c) { return c <= '9' ? c - '0' : c - 'a' + 10; };
  std::string bytes(hex.size() / 2, '\0');
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<char>(digit(hex[2 * i]) * 16 + digit(hex[2 * i + 1]));
  return bytes;
}

// Hashes a blob and its chunks as the bytes pass by.
class BlobDigest {
 public:
  void Update(std::string_view data) {
    whole_.Update(data);
    while (!data.empty()) {
      const auto room = static_cast<size_t>(kBlobChunkBytes - in_chunk_);
      const std::string_view part = data.substr(0, room);
      chunk_.Update(part);
      in_chunk_ += static_cast<int64_t>(part.size());
      data.remove_prefix(part.size());
      if (in_chunk_ == kBlobChunkBytes) EndChunk();
    }
  }
  std::string Hex() const { return whole_.Hex(); }
  // 32 bytes a chunk, the unfinished last one included. Ends that chunk: nothing may follow.
  std::string TakeChunks() {
    if (in_chunk_ > 0) EndChunk();
    return std::move(chunks_);
  }

 private:
  void EndChunk() {
    chunks_ += FromHex(chunk_.Hex());
    chunk_ = Sha256();
    in_chunk_ = 0;
  }

  Sha256 whole_;
  Sha256 chunk_;
  int64_t in_chunk_ = 0;
  std::string chunks_;
};

Status HashFrom(int fd, const std::string& path, int64_t length, BlobDigest* digest) {
  std::vector<char> buffer(size_t{1} << 20);
  while (length > 0) {
    const size_t want = static_cast<size_t>(std::min<int64_t>(length, static_cast<int64_t>(buffer.size())));
    NSIC_ASSIGN_OR_RETURN(const size_t got, ReadSome(fd, buffer.data(), want, path));
    if (got == 0) return DataLossError(path + " is shorter than it was");
    digest->Update({buffer.data(), got});
    length -= static_cast<int64_t>(got);
  }
  return OkStatus();
}

Result<int64_t> FileSize(int fd, const std::string& path) {
  struct stat info {};
  if (::fstat(fd, &info) != 0) return ErrnoError(errno, "cannot examine " + path);
  return int64_t{info.st_size};
}

// What the file system that holds `folder` gives to blobs: in all, and now.
struct Disk {
  int64_t total = 0;
  int64_t free = 0;
};
Disk ExamineDisk(const std::string& folder) {
  struct statvfs disk {};
  // A file system that does not tell is taken for unlimited: writing will tell.
  if (::statvfs(folder.c_str(), &disk) != 0 || disk.f_blocks == 0) return {kMaxBlobBytes, kMaxBlobBytes};
  const auto block = static_cast<int64_t>(disk.f_frsize);
  const int64_t total = static_cast<int64_t>(disk.f_blocks) * block;
  const int64_t reserve = std::min(kDiskReserve, total / 20);
  return {total - reserve, static_cast<int64_t>(disk.f_bavail) * block - reserve};
}

std::string Bytes(int64_t count) { return std::to_string(count) + " bytes"; }

}  // namespace

// Its own lock, so that a new call can take the upload over only between two writes.
struct BlobStore::Transfer {
  std::string sha256;
  int64_t size = 0;

  std::mutex mutex;
  UniqueFd fd;                       // guarded by mutex
  BlobDigest digest;                 // guarded by mutex
  std::atomic<int64_t> received{0};  // written under mutex
  uint64_t owner = 0;                // guarded by mutex; the BlobUpload that may write
  bool opened = false;               // guarded by mutex: fd and digest stand at `received`
  bool finished = false;             // guarded by mutex: published or dropped
};

// While it lives, no other call publishes or removes this blob: else a remover could unlink the file that a publisher has just renamed.
class BlobStore::Reserved {
 public:
  Reserved(BlobStore* store, std::string sha256) : store_(store), sha256_(std::move(sha256)) {
    std::unique_lock<std::mutex> lock(store_->mutex_);
    store_->released_.wait(lock, [this] { return store_->reserved_.count(sha256_) == 0; });
    store_->reserved_.insert(sha256_);
  }
  ~Reserved() {
    std::lock_guard<std::mutex> lock(store_->mutex_);
    store_->reserved_.erase(sha256_);
    store_->released_.notify_all();
  }
  Reserved(const Reserved&) = delete;
  Reserved& operator=(const Reserved&) = delete;

 private:
  BlobStore* const store_;
  const std::string sha256_;
};

BlobStore::BlobStore(Options options, BlobIndex* index) : options_(std::move(options)), index_(index) {}
BlobStore::~BlobStore() = default;

std::string BlobStore::BlobFolder() const { return options_.folder + "/blobs"; }
std::string BlobStore::BlobPath(const std::string& sha256) const { return BlobFolder() + "/" + sha256; }
std::string BlobStore::UploadPath(const std::string& sha256) const { return options_.folder + "/uploads/" + sha256; }

void BlobStore::AtStep(std::string_view step) const {
  if (options_.at_step) options_.at_step(step);
}

Result<std::unique_ptr<BlobStore>> BlobStore::Open(Options options, BlobIndex* index) {
  std::unique_ptr<BlobStore> store(new BlobStore(std::move(options), index));
  NSIC_RETURN_IF_ERROR(store->Recover());
  return store;
}

Status BlobStore::Recover() {
  NSIC_RETURN_IF_ERROR(MakeFolders(options_.folder + "/uploads"));
  NSIC_RETURN_IF_ERROR(MakeFolders(BlobFolder()));
  NSIC_RETURN_IF_ERROR(SyncFolder(options_.folder));

  std::set<std::string> known;
  NSIC_ASSIGN_OR_RETURN(const std::vector<BlobRecord> stored, index_->List());
  for (const BlobRecord& blob : stored) {
    known.insert(blob.sha256);
    ++blobs_;
    stored_bytes_ += blob.size;
  }
  std::error_code error;
  for (std::filesystem::directory_iterator it(BlobFolder(), error), end; !error && it != end; it.increment(error)) {
    const std::string name = it->path().filename().string();
    if (!IsSha256Hex(name) || known.count(name) != 0) continue;
    NSIC_RETURN_IF_ERROR(AdoptOrDelete(it->path().string(), name));
  }
  if (error) return ErrnoError(error.value(), "cannot list " + BlobFolder());
  for (std::filesystem::directory_iterator it(options_.folder + "/uploads", error), end; !error && it != end; it.increment(error)) {
    const std::string name = it->path().filename().string();
    std::error_code ignored;  // an entry that vanishes needs no bytes
    if (IsSha256Hex(name)) idle_[name] = static_cast<int64_t>(it->file_size(ignored));
  }
  if (error) return ErrnoError(error.value(), "cannot list " + options_.folder + "/uploads");
  return OkStatus();
}

Status BlobStore::AdoptOrDelete(const std::string& path, const std::string& sha256) {
  NSIC_ASSIGN_OR_RETURN(const bool leftover, index_->WasStruck(sha256));
  if (!leftover) {
    NSIC_ASSIGN_OR_RETURN(const UniqueFd fd, OpenForReading(path));
    NSIC_ASSIGN_OR_RETURN(const int64_t size, FileSize(fd.get(), path));
    BlobDigest digest;
    NSIC_RETURN_IF_ERROR(HashFrom(fd.get(), path, size, &digest));
    if (digest.Hex() == sha256) {
      NSIC_RETURN_IF_ERROR(index_->Add({sha256, size, digest.TakeChunks()}));
      ++blobs_;
      stored_bytes_ += size;
      return OkStatus();
    }
  }
  if (::unlink(path.c_str()) != 0) return ErrnoError(errno, "cannot delete " + path);
  return OkStatus();
}

Result<BlobStore::Stat> BlobStore::Examine(const std::string& sha256) {
  if (!IsSha256Hex(sha256)) return InvalidArgumentError("a blob's name is 64 lower-case hexadecimal digits");
  Stat stat;
  NSIC_ASSIGN_OR_RETURN(stat.stored, index_->Find(sha256));
  std::shared_ptr<Transfer> transfer;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (const auto it = transfers_.find(sha256); it != transfers_.end()) {
      transfer = it->second;
    } else if (const auto idle = idle_.find(sha256); idle != idle_.end()) {
      stat.received = idle->second;
    }
  }
  if (transfer != nullptr) {
    std::lock_guard<std::mutex> lock(transfer->mutex);
    if (!transfer->finished) stat.received = transfer->received;
  }
  return stat;
}

BlobStore::Usage BlobStore::usage() const {
  std::lock_guard<std::mutex> lock(mutex_);
  Usage usage;
  usage.blobs = blobs_;
  usage.stored_bytes = stored_bytes_;
  usage.upload_bytes = UsedBytes() - stored_bytes_;
  usage.quota = options_.quota;
  usage.capacity = Capacity();
  return usage;
}

int64_t BlobStore::MissingForMargin() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return MissingRoom("", std::min(Capacity() / 10, kMargin), 0);
}

int64_t BlobStore::UsedBytes() const {
  int64_t used = stored_bytes_;
  for (const auto& [name, transfer] : transfers_) used += transfer->size;
  for (const auto& [name, bytes] : idle_) used += bytes;
  return used;
}

int64_t BlobStore::Capacity() const {
  int64_t on_disk = stored_bytes_;
  for (const auto& [name, transfer] : transfers_) on_disk += transfer->received;
  for (const auto& [name, bytes] : idle_) on_disk += bytes;
  const int64_t disk = std::max<int64_t>(0, on_disk + ExamineDisk(options_.folder).free);
  return options_.quota > 0 ? std::min(options_.quota, disk) : disk;
}

int64_t BlobStore::UploadBytesBeside(const std::string& sha256) const {
  std::lock_guard<std::mutex> lock(mutex_);
  int64_t bytes = 0;
  for (const auto& [name, transfer] : transfers_) bytes += name == sha256 ? 0 : transfer->size;
  for (const auto& [name, received] : idle_) bytes += name == sha256 ? 0 : received;
  return bytes;
}

int64_t BlobStore::MissingRoom(const std::string& sha256, int64_t size, int64_t leave_free) const {
  int64_t used = stored_bytes_;
  int64_t to_come = 0;  // of what has been let in, not yet on the disk
  int64_t here = 0;     // of this blob, on the disk
  for (const auto& [name, transfer] : transfers_) {
    if (name == sha256) {
      here = transfer->received;
    } else {
      used += transfer->size;
      to_come += transfer->size - transfer->received;
    }
  }
  for (const auto& [name, bytes] : idle_) (name == sha256 ? here : used) += bytes;
  const int64_t by_disk = size - here + to_come + leave_free - ExamineDisk(options_.folder).free;
  const int64_t by_quota = options_.quota > 0 ? used + size + leave_free - options_.quota : 0;
  return std::max({int64_t{0}, by_disk, by_quota});
}

Result<std::unique_ptr<BlobUpload>> BlobStore::BeginUpload(const std::string& sha256, int64_t size, int64_t offset, int64_t leave_free) {
  if (!IsSha256Hex(sha256)) return InvalidArgumentError("a blob's name is 64 lower-case hexadecimal digits");
  if (size < 0 || size > kMaxBlobBytes) return InvalidArgumentError("blob " + sha256 + " cannot have " + Bytes(size));
  if (options_.quota > 0 && size > options_.quota) {
    return InvalidArgumentError("blob " + sha256 + " has " + Bytes(size) + ", more than the coordinator's whole quota of " +
                                Bytes(options_.quota) + "; raise --quota");
  }
  if (const int64_t disk = ExamineDisk(options_.folder).total; size > disk) {
    return InvalidArgumentError("blob " + sha256 + " has " + Bytes(size) + ", more than the coordinator's whole disk can hold, " +
                                Bytes(disk) + "; give it a larger one with --state");
  }
  NSIC_ASSIGN_OR_RETURN(const Stat stat, Examine(sha256));
  if (stat.stored) {
    if (stat.stored->size != size)
      return InvalidArgumentError("blob " + sha256 + " has " + Bytes(stat.stored->size) + ", not " + Bytes(size));
    return std::unique_ptr<BlobUpload>();
  }

  std::shared_ptr<Transfer> transfer;
  uint64_t owner = 0;
  for (bool asked = false; transfer == nullptr; asked = true) {
    int64_t missing = 0;
    {
      std::lock_guard<std::mutex> lock(mutex_);
      missing = MissingRoom(sha256, size, leave_free);
      if (missing == 0) {
        std::shared_ptr<Transfer>& slot = transfers_[sha256];
        if (slot == nullptr) {
          slot = std::make_shared<Transfer>();
          slot->sha256 = sha256;
          slot->size = size;
        }
        transfer = slot;
        owner = next_owner_++;
        idle_.erase(sha256);
        break;
      }
    }
    if (asked || !options_.make_room) {
      return ResourceExhaustedError("the coordinator has no room for " + Bytes(size) + " now: " + Bytes(missing) +
                                    " too few; fetch finished outputs, delete old jobs or raise --quota");
    }
    options_.make_room(missing);
  }
  std::unique_ptr<BlobUpload> upload(new BlobUpload(this, transfer, owner));
  std::lock_guard<std::mutex> lock(transfer->mutex);
  if (transfer->finished) return UnavailableError("blob " + sha256 + " was being finished by another call; try again");
  if (transfer->size != size)
    return InvalidArgumentError("blob " + sha256 + " was announced with " + Bytes(transfer->size) + ", not " + Bytes(size));
  const std::string path = UploadPath(sha256);
  if (!transfer->opened) {
    transfer->fd = UniqueFd(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666));
    if (!transfer->fd.valid()) return ErrnoError(errno, "cannot create " + path);
    NSIC_ASSIGN_OR_RETURN(int64_t there, FileSize(transfer->fd.get(), path));
    if (there > size) {  // of a call that announced another size
      if (::ftruncate(transfer->fd.get(), 0) != 0) return ErrnoError(errno, "cannot empty " + path);
      there = 0;
    }
    BlobDigest digest;
    NSIC_RETURN_IF_ERROR(HashFrom(transfer->fd.get(), path, there, &digest));
    transfer->digest = std::move(digest);
    transfer->received = there;
    transfer->opened = true;
  }
  if (offset != transfer->received) {
    return Status(StatusCode::kOutOfRange, "blob " + sha256 + ": the upload goes on at " + std::to_string(transfer->received) +
                                               ", not at " + std::to_string(offset));
  }
  transfer->owner = owner;
  return upload;
}

Status BlobStore::Receive(Transfer& transfer, std::string_view data) {
  const std::string path = UploadPath(transfer.sha256);
  if (static_cast<int64_t>(data.size()) > transfer.size - transfer.received) {
    return InvalidArgumentError("blob " + transfer.sha256 + ": more than the announced " + Bytes(transfer.size) + " came");
  }
  if (Status status = WriteAll(transfer.fd.get(), data, path); !status.ok()) {
    // What a full disk took of this piece is given back, so that file and digest agree.
    if (::ftruncate(transfer.fd.get(), transfer.received) != 0 || ::lseek(transfer.fd.get(), transfer.received, SEEK_SET) < 0) {
      transfer.opened = false;
    }
    return status;
  }
  transfer.digest.Update(data);
  transfer.received += static_cast<int64_t>(data.size());
  return OkStatus();
}

Status BlobStore::Publish(Transfer& transfer) {
  const std::string& sha256 = transfer.sha256;
  const std::string upload_path = UploadPath(sha256);
  const std::string path = BlobPath(sha256);
  transfer.finished = true;
  const auto drop = [&](Status why) {
    ::unlink(upload_path.c_str());
    return why;
  };
  if (transfer.digest.Hex() != sha256) {
    return drop(DataLossError("blob " + sha256 + ": the bytes that came have the hash " + transfer.digest.Hex() + "; send them again"));
  }
  AtStep("written");
  if (::fsync(transfer.fd.get()) != 0) return drop(ErrnoError(errno, "cannot sync " + upload_path));
  transfer.fd.reset();
  AtStep("synced");
  const Reserved reserved(this, sha256);
  NSIC_ASSIGN_OR_RETURN(const std::optional<BlobRecord> stored, index_->Find(sha256));
  if (stored) {  // by a call that ended between this one's look and its beginning
    ::unlink(upload_path.c_str());
    std::lock_guard<std::mutex> lock(mutex_);
    transfers_.erase(sha256);
    return OkStatus();
  }
  if (::rename(upload_path.c_str(), path.c_str()) != 0) return drop(ErrnoError(errno, "cannot rename to " + path));
  AtStep("renamed");
  NSIC_RETURN_IF_ERROR(SyncFolder(BlobFolder()));
  AtStep("folder synced");
  if (Status status = index_->Add({sha256, transfer.size, transfer.digest.TakeChunks()}); !status.ok()) {
    ::unlink(path.c_str());
    return status;
  }
  AtStep("indexed");
  std::lock_guard<std::mutex> lock(mutex_);
  ++blobs_;
  stored_bytes_ += transfer.size;
  transfers_.erase(sha256);
  return OkStatus();
}

BlobUpload::BlobUpload(BlobStore* store, std::shared_ptr<BlobStore::Transfer> transfer, uint64_t owner)
    : store_(store), transfer_(std::move(transfer)), owner_(owner) {}

BlobUpload::~BlobUpload() {
  std::lock_guard<std::mutex> lock(transfer_->mutex);
  if (transfer_->owner != owner_ && transfer_->owner != 0) return;  // another call is at it
  std::lock_guard<std::mutex> store_lock(store_->mutex_);
  const auto it = store_->transfers_.find(transfer_->sha256);
  if (it == store_->transfers_.end() || it->second != transfer_) return;  // published
  if (!transfer_->finished) store_->idle_[transfer_->sha256] = transfer_->received;
  transfer_->finished = true;
  store_->transfers_.erase(it);
}

Status BlobUpload::Append(std::string_view data) {
  std::lock_guard<std::mutex> lock(transfer_->mutex);
  if (transfer_->owner != owner_ || transfer_->finished || !transfer_->opened) {
    return UnavailableError("the upload of blob " + transfer_->sha256 + " was taken over by another call; try again");
  }
  return store_->Receive(*transfer_, data);
}

int64_t BlobUpload::received() const {
  std::lock_guard<std::mutex> lock(transfer_->mutex);
  return transfer_->received;
}

Result<bool> BlobUpload::Finish() {
  std::lock_guard<std::mutex> lock(transfer_->mutex);
  if (transfer_->owner != owner_ || transfer_->finished || !transfer_->opened) {
    return UnavailableError("the upload of blob " + transfer_->sha256 + " was taken over by another call; try again");
  }
  if (transfer_->received < transfer_->size) return false;
  NSIC_RETURN_IF_ERROR(store_->Publish(*transfer_));
  return true;
}

Result<std::unique_ptr<BlobReader>> BlobStore::OpenBlob(const std::string& sha256, int64_t offset, int64_t length) {
  NSIC_ASSIGN_OR_RETURN(const Stat stat, Examine(sha256));
  if (!stat.stored) return NotFoundError("blob " + sha256 + " is not stored");
  const int64_t size = stat.stored->size;
  if (offset < 0 || offset > size || length < 0 || length > size - offset) {
    return Status(StatusCode::kOutOfRange, "blob " + sha256 + " has " + Bytes(size));
  }
  const std::string path = BlobPath(sha256);
  NSIC_ASSIGN_OR_RETURN(UniqueFd fd, OpenForReading(path));
  if (::lseek(fd.get(), offset, SEEK_SET) < 0) return ErrnoError(errno, "cannot seek in " + path);
  return std::unique_ptr<BlobReader>(new BlobReader(std::move(fd), path, length == 0 ? size - offset : length));
}

Result<std::string> BlobReader::Read(size_t limit) {
  std::string data(static_cast<size_t>(std::min<int64_t>(left_, static_cast<int64_t>(limit))), '\0');
  size_t filled = 0;
  while (filled < data.size()) {
    NSIC_ASSIGN_OR_RETURN(const size_t got, ReadSome(fd_.get(), data.data() + filled, data.size() - filled, path_));
    if (got == 0) return DataLossError(path_ + " is shorter than the blob");
    filled += got;
  }
  left_ -= static_cast<int64_t>(filled);
  return data;
}

Result<std::string> BlobStore::ReadAll(const std::string& sha256, int64_t limit) {
  NSIC_ASSIGN_OR_RETURN(const Stat stat, Examine(sha256));
  if (!stat.stored) return NotFoundError("blob " + sha256 + " is not stored");
  if (stat.stored->size > limit) {
    return ResourceExhaustedError("blob " + sha256 + " has " + Bytes(stat.stored->size) + ", over the limit of " + Bytes(limit));
  }
  NSIC_ASSIGN_OR_RETURN(const std::unique_ptr<BlobReader> reader, OpenBlob(sha256, 0, 0));
  NSIC_ASSIGN_OR_RETURN(std::string bytes, reader->Read(static_cast<size_t>(stat.stored->size)));
  if (Sha256Hex(bytes) != sha256) return DataLossError(BlobPath(sha256) + " no longer has its hash; the disk or someone has changed it");
  return bytes;
}

Result<std::string> BlobStore::Put(std::string_view bytes) {
  const std::string sha256 = Sha256Hex(bytes);
  NSIC_ASSIGN_OR_RETURN(const Stat stat, Examine(sha256));
  NSIC_ASSIGN_OR_RETURN(const std::unique_ptr<BlobUpload> upload,
                        BeginUpload(sha256, static_cast<int64_t>(bytes.size()), stat.stored ? 0 : stat.received));
  if (upload == nullptr) return sha256;
  NSIC_RETURN_IF_ERROR(upload->Append(bytes.substr(static_cast<size_t>(upload->received()))));
  NSIC_ASSIGN_OR_RETURN(const bool complete, upload->Finish());
  if (!complete) return InternalError("blob " + sha256 + " is incomplete after all of it was written");
  return sha256;
}

Result<int64_t> BlobStore::Remove(const std::vector<std::string>& sha256s) {
  // In order of the hashes, so that two removers cannot wait for each other.
  const std::set<std::string> sorted(sha256s.begin(), sha256s.end());
  std::vector<std::unique_ptr<Reserved>> reserved;
  std::map<std::string, int64_t> sizes;
  for (const std::string& sha256 : sorted) {
    reserved.push_back(std::make_unique<Reserved>(this, sha256));
    NSIC_ASSIGN_OR_RETURN(const std::optional<BlobRecord> blob, index_->Find(sha256));
    if (blob) sizes[sha256] = blob->size;
  }
  NSIC_ASSIGN_OR_RETURN(const std::vector<std::string> struck, index_->Strike({sorted.begin(), sorted.end()}));
  AtStep("struck");
  int64_t freed = 0;
  Status failed;
  for (const std::string& sha256 : struck) {
    const std::string path = BlobPath(sha256);
    if (::unlink(path.c_str()) != 0 && errno != ENOENT) failed = ErrnoError(errno, "cannot delete " + path);
    freed += sizes[sha256];
    std::lock_guard<std::mutex> lock(mutex_);
    --blobs_;
    stored_bytes_ -= sizes[sha256];
  }
  if (!failed.ok()) return failed;
  return freed;
}

int64_t BlobStore::DropIdleUploads(int64_t idle_ms) {
  std::lock_guard<std::mutex> lock(mutex_);
  int64_t freed = 0;
  const auto now = std::filesystem::file_time_type::clock::now();
  for (auto it = idle_.begin(); it != idle_.end();) {
    const std::string path = UploadPath(it->first);
    std::error_code error;
    const auto changed = std::filesystem::last_write_time(path, error);
    if (!error && now - changed < std::chrono::milliseconds(idle_ms)) {
      ++it;
      continue;
    }
    ::unlink(path.c_str());
    freed += it->second;
    it = idle_.erase(it);
  }
  return freed;
}

}  // namespace nsic
