// Bytes of a file that may lie elsewhere: what demuxers read from.
#ifndef NSIC_CORE_MEDIA_BYTE_SOURCE_H_
#define NSIC_CORE_MEDIA_BYTE_SOURCE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "core/base/status.h"

namespace nsic {

// Used by one thread at a time.
class ByteSource {
 public:
  virtual ~ByteSource() = default;
  virtual int64_t size() const = 0;
  // Bytes from `offset` on, at least one unless the end is reached (0). Errors reach whoever reads the media unchanged.
  virtual Result<size_t> Read(int64_t offset, char* buffer, size_t bytes) = 0;
  virtual const std::string& display() const = 0;  // what messages call it
};

// A file on this machine. NOT_FOUND, PERMISSION_DENIED.
Result<std::unique_ptr<ByteSource>> OpenFileSource(const std::string& path);

}  // namespace nsic

#endif  // NSIC_CORE_MEDIA_BYTE_SOURCE_H_
