// Source of the layout: PKWARE APPNOTE 6.3.10, sections 4.3 and 4.5.3.
#include "models/io/zip_reader.h"

#include <zlib.h>

#include <algorithm>
#include <limits>
#include <utility>
#include <vector>

namespace nsic {
namespace {

constexpr uint64_t kMaxEntries = 1 << 20;
constexpr uint64_t kMaxTotalSize = uint64_t{1} << 32;  // 4 GiB of content
// Weights do not shrink like this; what does is made to fill the memory.
constexpr uint64_t kMaxRatio = 20;
constexpr uint64_t kSmall = 1 << 20;  // content up to this size may have any ratio

constexpr uint32_t kLocalHeader = 0x04034b50;
constexpr uint32_t kDirectoryHeader = 0x02014b50;
constexpr uint32_t kEndOfDirectory = 0x06054b50;
constexpr uint32_t kEndOfDirectory64 = 0x06064b50;
constexpr uint32_t kLocator64 = 0x07064b50;
constexpr uint64_t kLocalHeaderSize = 30;
constexpr uint64_t kDirectoryHeaderSize = 46;
constexpr uint64_t kEndOfDirectorySize = 22;
constexpr uint64_t kEndOfDirectory64Size = 56;
constexpr uint64_t kLocator64Size = 20;
constexpr uint64_t kMaxComment = 65535;
constexpr uint16_t kExtra64 = 1;
constexpr uint32_t kSeeExtra = 0xffffffff;
constexpr uint16_t kFlagEncrypted = 1;

// Little-endian; the caller has checked that the bytes are there.
uint64_t Number(std::string_view bytes, uint64_t at, int size) {
  uint64_t value = 0;
  for (int i = size - 1; i >= 0; --i) value = value << 8 | static_cast<unsigned char>(bytes[at + static_cast<uint64_t>(i)]);
  return value;
}
uint16_t Number16(std::string_view bytes, uint64_t at) { return static_cast<uint16_t>(Number(bytes, at, 2)); }
uint32_t Number32(std::string_view bytes, uint64_t at) { return static_cast<uint32_t>(Number(bytes, at, 4)); }
uint64_t Number64(std::string_view bytes, uint64_t at) { return Number(bytes, at, 8); }

// True if [at, at + size) lies inside [0, end).
bool Inside(uint64_t at, uint64_t size, uint64_t end) { return at <= end && size <= end - at; }

}  // namespace

Status ZipReader::Broken(const std::string& why) const { return DataLossError(what_ + ": broken zip: " + why + "; get the file again"); }

Result<ZipReader> ZipReader::Open(std::string_view bytes, const std::string& what) {
  ZipReader reader(bytes, what);
  NSIC_RETURN_IF_ERROR(reader.ReadDirectory());
  return reader;
}

Status ZipReader::ReadDirectory() {
  const uint64_t size = bytes_.size();
  if (size < kEndOfDirectorySize) return Broken("it is truncated");
  const uint64_t lowest = size - std::min(size, kEndOfDirectorySize + kMaxComment);
  uint64_t end = size - kEndOfDirectorySize;
  while (Number32(bytes_, end) != kEndOfDirectory || end + kEndOfDirectorySize + Number16(bytes_, end + 20) != size) {
    if (end == lowest) return Broken("it has no end of directory, it is truncated");
    --end;
  }
  if (Number16(bytes_, end + 4) != 0 || Number16(bytes_, end + 6) != 0) return Broken("it has several disks");
  uint64_t count = Number16(bytes_, end + 10);
  uint64_t directory_size = Number32(bytes_, end + 12);
  uint64_t directory = Number32(bytes_, end + 16);
  uint64_t directory_end = end;
  if (end >= kLocator64Size && Number32(bytes_, end - kLocator64Size) == kLocator64) {
    const uint64_t end64 = Number64(bytes_, end - kLocator64Size + 8);
    if (!Inside(end64, kEndOfDirectory64Size, end - kLocator64Size) || Number32(bytes_, end64) != kEndOfDirectory64) {
      return Broken("its zip64 end of directory is not where it should be");
    }
    count = Number64(bytes_, end64 + 32);
    directory_size = Number64(bytes_, end64 + 40);
    directory = Number64(bytes_, end64 + 48);
    directory_end = end64;
  }
  if (!Inside(directory, directory_size, directory_end)) return Broken("its directory lies outside the file");
  if (count > kMaxEntries) {
    return ResourceExhaustedError(what_ + ": the zip claims " + std::to_string(count) + " entries, more than any checkpoint has");
  }
  uint64_t at = directory;
  for (uint64_t i = 0; i < count; ++i) NSIC_RETURN_IF_ERROR(ReadEntry(&at, directory + directory_size));
  return CheckOverlap(directory);
}

Status ZipReader::ReadEntry(uint64_t* at, uint64_t end) {
  const uint64_t header = *at;
  if (!Inside(header, kDirectoryHeaderSize, end) || Number32(bytes_, header) != kDirectoryHeader) {
    return Broken("its directory holds fewer entries than it claims");
  }
  const uint16_t flags = Number16(bytes_, header + 8);
  const uint16_t method = Number16(bytes_, header + 10);
  const uint64_t name_size = Number16(bytes_, header + 28);
  const uint64_t extra_size = Number16(bytes_, header + 30);
  const uint64_t comment_size = Number16(bytes_, header + 32);
  if (!Inside(header + kDirectoryHeaderSize, name_size + extra_size + comment_size, end)) return Broken("its directory is cut off");
  const std::string name(bytes_.substr(header + kDirectoryHeaderSize, name_size));
  *at = header + kDirectoryHeaderSize + name_size + extra_size + comment_size;

  Entry entry;
  entry.crc = Number32(bytes_, header + 16);
  entry.stored_size = Number32(bytes_, header + 20);
  entry.size = Number32(bytes_, header + 24);
  uint64_t local = Number32(bytes_, header + 42);
  if (entry.size == kSeeExtra || entry.stored_size == kSeeExtra || local == kSeeExtra) {
    const std::string_view extra = bytes_.substr(header + kDirectoryHeaderSize + name_size, extra_size);
    uint64_t field = 0;
    while (Inside(field, 4, extra.size()) && Number16(extra, field) != kExtra64) field += 4 + uint64_t{Number16(extra, field + 2)};
    if (!Inside(field, 4, extra.size())) return Broken("entry " + name + " lacks its zip64 sizes");
    const uint64_t field_end = field + 4 + Number16(extra, field + 2);
    field += 4;
    // Only the numbers that did not fit are there, in this order.
    for (uint64_t* number : {&entry.size, &entry.stored_size, &local}) {
      if (*number != kSeeExtra) continue;
      if (field_end > extra.size() || !Inside(field, 8, field_end)) return Broken("entry " + name + " lacks its zip64 sizes");
      *number = Number64(extra, field);
      field += 8;
    }
  }

  if ((flags & kFlagEncrypted) != 0) return InvalidArgumentError(what_ + ": zip entry " + name + " is encrypted");
  if (method != 0 && method != Z_DEFLATED) {
    return InvalidArgumentError(what_ + ": zip entry " + name + " has the unknown compression " + std::to_string(method));
  }
  entry.deflated = method == Z_DEFLATED;
  if (!entry.deflated && entry.size != entry.stored_size) return Broken("entry " + name + " has two sizes");
  if (entry.size > kMaxTotalSize || (total_size_ += entry.size) > kMaxTotalSize) {
    return ResourceExhaustedError(what_ + ": the zip's entries claim more than " + std::to_string(kMaxTotalSize >> 30) + " GiB");
  }
  if (entry.deflated && entry.size > kSmall && entry.size / kMaxRatio > entry.stored_size) {
    return ResourceExhaustedError(what_ + ": zip entry " + name + " is a zip bomb: it claims to be " + std::to_string(entry.size) +
                                  " bytes, deflated to " + std::to_string(entry.stored_size));
  }

  if (!Inside(local, kLocalHeaderSize, bytes_.size()) || Number32(bytes_, local) != kLocalHeader) {
    return Broken("entry " + name + " is not where the directory says");
  }
  const uint64_t local_name_size = Number16(bytes_, local + 26);
  entry.data_offset = local + kLocalHeaderSize + local_name_size + Number16(bytes_, local + 28);
  if (!Inside(entry.data_offset, entry.stored_size, bytes_.size())) return Broken("entry " + name + " reaches beyond the file's end");
  if (bytes_.substr(local + kLocalHeaderSize, local_name_size) != name) return Broken("entry " + name + " has two names");
  if (!entries_.emplace(name, entry).second) return Broken("entry " + name + " is there twice");
  return OkStatus();
}

Status ZipReader::CheckOverlap(uint64_t directory_offset) const {
  std::vector<std::pair<uint64_t, const std::string*>> starts;
  for (const auto& [name, entry] : entries_) starts.emplace_back(entry.data_offset, &name);
  std::sort(starts.begin(), starts.end());
  for (size_t i = 0; i < starts.size(); ++i) {
    const Entry& entry = entries_.at(*starts[i].second);
    // The next entry's header and name lie between its data and this one's.
    const uint64_t limit = i + 1 < starts.size()
                               ? starts[i + 1].first - std::min(starts[i + 1].first, kLocalHeaderSize + starts[i + 1].second->size())
                               : directory_offset;
    if (entry.data_offset + entry.stored_size > limit) return Broken("entry " + *starts[i].second + " overlaps what follows it");
  }
  return OkStatus();
}

Result<std::string_view> ZipReader::Read(const std::string& name, std::string* buffer) const {
  const auto found = entries_.find(name);
  if (found == entries_.end()) return Broken("entry " + name + " is missing");
  const Entry& entry = found->second;
  std::string_view content = bytes_.substr(entry.data_offset, entry.stored_size);
  if (entry.deflated) {
    buffer->resize(entry.size);
    z_stream stream = {};
    if (inflateInit2(&stream, -MAX_WBITS) != Z_OK) return ResourceExhaustedError(what_ + ": out of memory while inflating " + name);
    // zlib counts in 32 bits: both sides are given in pieces.
    uint64_t in_done = 0, out_done = 0;
    int result = Z_OK;
    do {
      constexpr uint64_t kPiece = 1 << 30;
      const uint64_t in_now = std::min(kPiece, content.size() - in_done), out_now = std::min(kPiece, entry.size - out_done);
      stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(content.data() + in_done));
      stream.avail_in = static_cast<uInt>(in_now);
      stream.next_out = reinterpret_cast<Bytef*>(buffer->data() + out_done);
      stream.avail_out = static_cast<uInt>(out_now);
      result = inflate(&stream, Z_NO_FLUSH);
      in_done += in_now - stream.avail_in;
      out_done += out_now - stream.avail_out;
    } while (result == Z_OK && (in_done < content.size() || out_done < entry.size));
    inflateEnd(&stream);
    if (result != Z_STREAM_END || out_done != entry.size || in_done != content.size()) {
      return Broken("entry " + name + " does not inflate to the size that it claims");
    }
    content = *buffer;
  }
  uLong crc = crc32_z(0, nullptr, 0);
  crc = crc32_z(crc, reinterpret_cast<const Bytef*>(content.data()), content.size());
  if (crc != entry.crc) return Broken("entry " + name + " does not have its checksum");
  return content;
}

}  // namespace nsic
