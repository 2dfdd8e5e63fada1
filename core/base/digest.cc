#include "core/base/digest.h"

#include <openssl/evp.h>
#include <openssl/rand.h>

#include <cstdlib>
#include <utility>
#include <vector>

#include "core/base/files.h"

namespace nsic {
namespace {

std::string ToHex(const unsigned char* bytes, size_t size) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string text(size * 2, '0');
  for (size_t i = 0; i < size; ++i) {
    text[2 * i] = kDigits[bytes[i] >> 4];
    text[2 * i + 1] = kDigits[bytes[i] & 15];
  }
  return text;
}

}  // namespace

// OpenSSL fails here only when memory is exhausted or the library is broken; neither can be handled, and a wrong digest must never
// come out, so both end the process.
struct Sha256::State {
  EVP_MD_CTX* context = EVP_MD_CTX_new();
  State() {
    if (context == nullptr || EVP_DigestInit_ex(context, EVP_sha256(), nullptr) != 1) std::abort();
  }
  ~State() { EVP_MD_CTX_free(context); }
};

Sha256::Sha256() : state_(std::make_unique<State>()) {}
Sha256::~Sha256() = default;
Sha256::Sha256(Sha256&&) noexcept = default;
Sha256& Sha256::operator=(Sha256&&) noexcept = default;

void Sha256::Update(const void* data, size_t size) {
  if (EVP_DigestUpdate(state_->context, data, size) != 1) std::abort();
}

std::string Sha256::Hex() const {
  State copy;
  unsigned char digest[32];
  unsigned int size = 0;
  if (EVP_MD_CTX_copy_ex(copy.context, state_->context) != 1 || EVP_DigestFinal_ex(copy.context, digest, &size) != 1) std::abort();
  return ToHex(digest, size);
}

std::string Sha256Hex(std::string_view bytes) {
  Sha256 digest;
  digest.Update(bytes);
  return digest.Hex();
}

Result<std::string> Sha256OfFile(const std::string& path) {
  NSIC_ASSIGN_OR_RETURN(UniqueFd fd, OpenForReading(path));
  Sha256 digest;
  std::vector<char> buffer(size_t{1} << 20);
  while (true) {
    NSIC_ASSIGN_OR_RETURN(const size_t got, ReadSome(fd.get(), buffer.data(), buffer.size(), path));
    if (got == 0) return digest.Hex();
    digest.Update(buffer.data(), got);
  }
}

bool IsSha256Hex(std::string_view text) {
  return text.size() == 64 && text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

std::string RandomHex(size_t bytes) {
  std::vector<unsigned char> buffer(bytes);
  if (RAND_bytes(buffer.data(), static_cast<int>(bytes)) != 1) std::abort();
  return ToHex(buffer.data(), bytes);
}

}  // namespace nsic
