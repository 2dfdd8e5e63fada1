// Reads a zip archive in memory without trusting it. For the files that PyTorch writes: stored or deflated entries, zip64, one disk, no
// encryption.
#ifndef NSIC_MODELS_IO_ZIP_READER_H_
#define NSIC_MODELS_IO_ZIP_READER_H_

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include "core/base/status.h"

namespace nsic {

class ZipReader {
 public:
  // Checks the whole directory before anything is allocated: DATA_LOSS when it is truncated or contradicts itself, names an entry twice
  // or lets entries overlap; RESOURCE_EXHAUSTED when the entries claim more than the limits (see the .cc) or one is a zip bomb;
  // INVALID_ARGUMENT for encryption and other compression. `bytes` must outlive the reader; `what` names the file in messages.
  static Result<ZipReader> Open(std::string_view bytes, const std::string& what);

  struct Entry {
    uint64_t data_offset = 0;  // in the archive
    uint64_t stored_size = 0;  // bytes in the archive
    uint64_t size = 0;         // bytes of the entry's content
    uint32_t crc = 0;
    bool deflated = false;
  };
  const std::map<std::string, Entry>& entries() const { return entries_; }

  // The entry's content, its checksum verified: a view of the archive, or of `*buffer`, which must outlive it, if it is deflated.
  Result<std::string_view> Read(const std::string& name, std::string* buffer) const;

 private:
  ZipReader(std::string_view bytes, std::string what) : bytes_(bytes), what_(std::move(what)) {}
  Status ReadDirectory();
  Status ReadEntry(uint64_t* at, uint64_t end);
  Status CheckOverlap(uint64_t directory_offset) const;
  Status Broken(const std::string& why) const;

  std::string_view bytes_;
  std::string what_;
  std::map<std::string, Entry> entries_;
  uint64_t total_size_ = 0;
};

}  // namespace nsic

#endif  // NSIC_MODELS_IO_ZIP_READER_H_
