// SHA-256, the name of every blob, pack and result.
#ifndef NSIC_CORE_BASE_DIGEST_H_
#define NSIC_CORE_BASE_DIGEST_H_

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

#include "core/base/status.h"

namespace nsic {

// Incremental SHA-256. Not thread-safe.
class Sha256 {
 public:
  Sha256();
  ~Sha256();
  Sha256(Sha256&&) noexcept;
  Sha256& operator=(Sha256&&) noexcept;

  void Update(const void* data, size_t size);
  void Update(std::string_view bytes) { Update(bytes.data(), bytes.size()); }
  // 64 lower-case hexadecimal digits of what was given so far. The state is unchanged: more may follow.
  std::string Hex() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

std::string Sha256Hex(std::string_view bytes);

// Of a whole file, read in pieces.
Result<std::string> Sha256OfFile(const std::string& path);

// True for 64 lower-case hexadecimal digits: everything from the wire that names a blob passes through here before it names a file.
bool IsSha256Hex(std::string_view text);

// `bytes` random bytes from the system's generator as lower-case hexadecimal: ids and tokens.
std::string RandomHex(size_t bytes);

}  // namespace nsic

#endif  // NSIC_CORE_BASE_DIGEST_H_
