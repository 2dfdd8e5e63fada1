#include "core/media/jpeg_tables.h"

#include <string_view>

#include "core/base/files.h"

namespace nsic {
namespace {

// ITU-T T.81, figure 5: where the coefficients of the zigzag stand in the block.
constexpr uint8_t kZigzag[64] = {0,  1,  8,  16, 9,  2,  3,  10, 17, 24, 32, 25, 18, 11, 4,  5,  12, 19, 26, 33, 40, 48,
                                 41, 34, 27, 20, 13, 6,  7,  14, 21, 28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23,
                                 30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63};

// Metadata stands before the tables; a file with more of it than this goes without.
constexpr size_t kMostHeaderBytes = size_t{32} << 20;

using Table = std::array<uint16_t, 64>;

// What of the markers (T.81, B.2) is needed.
struct Header {
  std::array<std::optional<Table>, 4> tables;
  std::array<int, 2> of_component{-1, -1};  // table of the first two components
};

int Byte(std::string_view bytes, size_t at) { return static_cast<unsigned char>(bytes[at]); }

// DQT. False when it is cut short.
bool ReadTables(std::string_view body, Header* header) {
  size_t at = 0;
  while (at < body.size()) {
    const int wide = Byte(body, at) >> 4 != 0 ? 2 : 1;
    const size_t number = Byte(body, at) & 15;
    ++at;
    if (number >= header->tables.size() || body.size() - at < 64u * wide) return false;
    Table& table = header->tables[number].emplace();
    for (const uint8_t place : kZigzag) {
      table[place] = static_cast<uint16_t>(wide == 2 ? Byte(body, at) * 256 + Byte(body, at + 1) : Byte(body, at));
      at += wide;
    }
  }
  return true;
}

// SOFn.
bool ReadFrame(std::string_view body, Header* header) {
  if (body.size() < 6) return false;
  const size_t components = Byte(body, 5);
  if (components < 1 || body.size() < 6 + 3 * components) return false;
  for (size_t i = 0; i < 2 && i < components; ++i) header->of_component[i] = Byte(body, 6 + 3 * i + 2);
  return true;
}

std::optional<JpegQuantisation> Parse(std::string_view bytes) {
  if (bytes.substr(0, 2) != "\xff\xd8") return std::nullopt;
  Header header;
  size_t at = 2;
  while (at + 4 <= bytes.size()) {
    if (Byte(bytes, at) != 0xff) return std::nullopt;
    const int marker = Byte(bytes, at + 1);
    if (marker == 0xff) {  // fill bytes
      ++at;
      continue;
    }
    const size_t length = static_cast<size_t>(Byte(bytes, at + 2)) * 256 + static_cast<size_t>(Byte(bytes, at + 3));
    if (length < 2 || bytes.size() - at - 2 < length) return std::nullopt;
    const std::string_view body = bytes.substr(at + 4, length - 2);
    const bool is_frame = marker >= 0xc0 && marker <= 0xcf && marker != 0xc4 && marker != 0xc8 && marker != 0xcc;
    if (marker == 0xdb && !ReadTables(body, &header)) return std::nullopt;
    if (is_frame && !ReadFrame(body, &header)) return std::nullopt;
    if (marker == 0xda) break;  // the picture itself
    at += 2 + length;
  }
  const auto table = [&header](int number) -> const std::optional<Table>& {
    static const std::optional<Table> kNone;
    return number >= 0 && number < 4 ? header.tables[static_cast<size_t>(number)] : kNone;
  };
  const std::optional<Table>& luma = table(header.of_component[0]);
  const std::optional<Table>& chroma = header.of_component[1] < 0 ? luma : table(header.of_component[1]);
  if (!luma || !chroma) return std::nullopt;
  return JpegQuantisation{*luma, *chroma};
}

}  // namespace

Result<std::optional<JpegQuantisation>> ReadJpegQuantisation(const std::string& path) {
  NSIC_ASSIGN_OR_RETURN(const UniqueFd fd, OpenForReading(path));
  // Most headers are short, and end before the first part does.
  std::string bytes;
  for (size_t wanted = size_t{64} << 10;; wanted *= 8) {
    const size_t had = bytes.size();
    bytes.resize(wanted);
    size_t filled = had;
    while (filled < wanted) {
      NSIC_ASSIGN_OR_RETURN(const size_t got, ReadSome(fd.get(), bytes.data() + filled, wanted - filled, path));
      if (got == 0) break;
      filled += got;
    }
    bytes.resize(filled);
    if (std::optional<JpegQuantisation> found = Parse(bytes)) return found;
    if (filled < wanted || wanted >= kMostHeaderBytes || bytes.compare(0, 2, "\xff\xd8") != 0) return std::optional<JpegQuantisation>();
  }
}

}  // namespace nsic
