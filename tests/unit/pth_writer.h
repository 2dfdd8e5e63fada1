// Writes checkpoints as PyTorch does, good ones and hostile ones: a zip and a pickle, byte by byte.
#ifndef NSIC_TESTS_UNIT_PTH_WRITER_H_
#define NSIC_TESTS_UNIT_PTH_WRITER_H_

#include <zlib.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "models/io/tensor_map.h"

namespace nsic {

inline void AppendNumber(std::string& bytes, uint64_t value, int size) {
  for (int i = 0; i < size; ++i) bytes.push_back(static_cast<char>(value >> (8 * i)));
}

class ZipWriter {
 public:
  struct Entry {
    std::string name;
    std::string content;
    bool deflate = false;
    // What the directory claims where that is not the truth.
    int64_t claimed_size = -1;
    int64_t claimed_offset = -1;
    uint32_t crc_error = 0;
    uint16_t flags = 0;
    uint16_t method_error = 0;
    bool in_zip64_fields = false;  // sizes and offset stand in the extra field
  };

  void Add(Entry entry) { entries_.push_back(std::move(entry)); }
  void Add(std::string name, std::string content) {
    Entry entry;
    entry.name = std::move(name);
    entry.content = std::move(content);
    Add(std::move(entry));
  }

  // PyTorch always writes the zip64 end records.
  std::string Finish(bool zip64_end = true, uint64_t claimed_entries = 0) const {
    std::string bytes, directory;
    for (const Entry& entry : entries_) {
      const std::string stored = entry.deflate ? Deflated(entry.content) : entry.content;
      const uint64_t size = entry.claimed_size >= 0 ? static_cast<uint64_t>(entry.claimed_size) : entry.content.size();
      const uint64_t stored_size = entry.deflate || entry.claimed_size < 0 ? stored.size() : size;
      const uint64_t offset = entry.claimed_offset >= 0 ? static_cast<uint64_t>(entry.claimed_offset) : bytes.size();
      const uint32_t crc =
          static_cast<uint32_t>(crc32(0, reinterpret_cast<const Bytef*>(entry.content.data()), static_cast<uInt>(entry.content.size()))) ^
          entry.crc_error;
      const auto common = [&](std::string& out, bool see_extra, size_t extra_size) {
        AppendNumber(out, entry.flags, 2);
        AppendNumber(out, (entry.deflate ? 8 : 0) + entry.method_error, 2);
        AppendNumber(out, 0, 4);  // time and date
        AppendNumber(out, crc, 4);
        AppendNumber(out, see_extra ? 0xffffffff : stored_size, 4);
        AppendNumber(out, see_extra ? 0xffffffff : size, 4);
        AppendNumber(out, entry.name.size(), 2);
        AppendNumber(out, extra_size, 2);
      };
      AppendNumber(directory, 0x02014b50, 4);
      AppendNumber(directory, 45, 2);
      AppendNumber(directory, 45, 2);
      common(directory, entry.in_zip64_fields, entry.in_zip64_fields ? 28 : 0);
      AppendNumber(directory, 0, 8);  // comment, disk, attributes
      AppendNumber(directory, 0, 2);
      AppendNumber(directory, entry.in_zip64_fields ? 0xffffffff : offset, 4);
      directory += entry.name;
      if (entry.in_zip64_fields) {
        AppendNumber(directory, 1, 2);
        AppendNumber(directory, 24, 2);
        for (uint64_t number : {size, stored_size, offset}) AppendNumber(directory, number, 8);
      }

      AppendNumber(bytes, 0x04034b50, 4);
      AppendNumber(bytes, 45, 2);
      // PyTorch pads the local header so that the data is aligned.
      const std::string padding = std::string("FB\x04\x00", 4) + "ZZZZ";
      common(bytes, false, padding.size());
      bytes += entry.name + padding + stored;
    }
    const uint64_t directory_offset = bytes.size();
    const uint64_t count = claimed_entries > 0 ? claimed_entries : entries_.size();
    bytes += directory;
    if (zip64_end) {
      const uint64_t end64 = bytes.size();
      AppendNumber(bytes, 0x06064b50, 4);
      AppendNumber(bytes, 44, 8);
      AppendNumber(bytes, 45, 2);
      AppendNumber(bytes, 45, 2);
      AppendNumber(bytes, 0, 8);
      for (uint64_t number : {count, count, uint64_t{directory.size()}, directory_offset}) AppendNumber(bytes, number, 8);
      AppendNumber(bytes, 0x07064b50, 4);
      AppendNumber(bytes, 0, 4);
      AppendNumber(bytes, end64, 8);
      AppendNumber(bytes, 1, 4);
    }
    AppendNumber(bytes, 0x06054b50, 4);
    AppendNumber(bytes, 0, 4);
    AppendNumber(bytes, zip64_end ? 0xffff : count, 2);
    AppendNumber(bytes, zip64_end ? 0xffff : count, 2);
    AppendNumber(bytes, zip64_end ? 0xffffffff : directory.size(), 4);
    AppendNumber(bytes, zip64_end ? 0xffffffff : directory_offset, 4);
    AppendNumber(bytes, 0, 2);
    return bytes;
  }

 private:
  static std::string Deflated(const std::string& content) {
    z_stream stream = {};
    deflateInit2(&stream, Z_BEST_COMPRESSION, Z_DEFLATED, -MAX_WBITS, 8, Z_DEFAULT_STRATEGY);
    std::string out(deflateBound(&stream, content.size()), '\0');
    stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(content.data()));
    stream.avail_in = static_cast<uInt>(content.size());
    stream.next_out = reinterpret_cast<Bytef*>(out.data());
    stream.avail_out = static_cast<uInt>(out.size());
    deflate(&stream, Z_FINISH);
    out.resize(stream.total_out);
    deflateEnd(&stream);
    return out;
  }

  std::vector<Entry> entries_;
};

// Pickle instructions of protocol 2, each appended to the program.
class PickleWriter {
 public:
  PickleWriter() : program_("\x80\x02") {}

  PickleWriter& Raw(std::string_view bytes) {
    program_ += bytes;
    return *this;
  }
  PickleWriter& Mark() { return Raw("("); }
  PickleWriter& EmptyDict() { return Raw("}"); }
  PickleWriter& Global(std::string_view module, std::string_view name) { return Raw("c").Raw(module).Raw("\n").Raw(name).Raw("\n"); }
  PickleWriter& OrderedDict() { return Global("collections", "OrderedDict").Raw(")R"); }
  PickleWriter& String(std::string_view text) {
    Raw("X");
    AppendNumber(program_, text.size(), 4);
    return Raw(text);
  }
  PickleWriter& Integer(int64_t value) {
    Raw("\x8a\x08");
    AppendNumber(program_, static_cast<uint64_t>(value), 8);
    return *this;
  }
  PickleWriter& Integers(const std::vector<int64_t>& values) {
    Mark();
    for (int64_t value : values) Integer(value);
    return Raw("t");
  }
  PickleWriter& Storage(std::string_view type, std::string_view key, int64_t elements) {
    Mark().String("storage").Global("torch", type).String(key).String("cpu").Integer(elements);
    return Raw("tQ");
  }
  // A call of _rebuild_tensor_v2.
  PickleWriter& Tensor(std::string_view type, std::string_view key, int64_t elements, int64_t offset, const std::vector<int64_t>& shape,
                       const std::vector<int64_t>& strides) {
    Global("torch._utils", "_rebuild_tensor_v2").Mark().Storage(type, key, elements).Integer(offset);
    return Integers(shape).Integers(strides).Raw("\x89").OrderedDict().Raw("tR");
  }
  // A call of _rebuild_parameter around what `tensor` appends.
  template <typename AppendTensor>
  PickleWriter& Parameter(AppendTensor tensor) {
    Global("torch._utils", "_rebuild_parameter").Mark();
    tensor(*this);
    return Raw("\x88").OrderedDict().Raw("tR");
  }
  std::string Finish() const { return program_ + "."; }

 private:
  std::string program_;
};

inline std::vector<int64_t> ContiguousStrides(const std::vector<int64_t>& shape) {
  std::vector<int64_t> strides(shape.size());
  int64_t stride = 1;
  for (size_t i = shape.size(); i-- > 0; stride *= shape[i]) strides[i] = stride;
  return strides;
}

inline std::string_view StorageName(DType dtype) {
  switch (dtype) {
    case DType::kFloat32: return "FloatStorage";
    case DType::kFloat16: return "HalfStorage";
    case DType::kBFloat16: return "BFloat16Storage";
    case DType::kFloat64: return "DoubleStorage";
    case DType::kInt64: return "LongStorage";
    case DType::kInt32: return "IntStorage";
    case DType::kInt16: return "ShortStorage";
    case DType::kInt8: return "CharStorage";
    case DType::kUInt8: return "ByteStorage";
    case DType::kBool: return "BoolStorage";
  }
  return "";
}

// A state dict as torch.save writes it, in an OrderedDict, wrapped in {`wrapper`: ...} if that is not empty.
inline std::string WritePth(const TensorMap& tensors, const std::string& wrapper = "", const std::string& prefix = "") {
  PickleWriter pickle;
  ZipWriter zip;
  if (!wrapper.empty()) pickle.EmptyDict().Mark().String("epoch").Integer(3).String(wrapper);
  pickle.OrderedDict().Mark();
  std::vector<std::pair<std::string, std::string>> storages;
  for (const auto& [name, tensor] : tensors) {
    const std::string key = std::to_string(storages.size());
    const auto elements = static_cast<int64_t>(tensor.data.size() / DTypeSize(tensor.dtype));
    pickle.String(prefix + name);
    pickle.Tensor(StorageName(tensor.dtype), key, elements, 0, tensor.shape, ContiguousStrides(tensor.shape));
    storages.emplace_back("archive/data/" + key, std::string(reinterpret_cast<const char*>(tensor.data.data()), tensor.data.size()));
  }
  pickle.Raw("u");
  if (!wrapper.empty()) pickle.Raw("u");
  zip.Add("archive/data.pkl", pickle.Finish());
  zip.Add("archive/byteorder", "little");
  for (auto& [name, content] : storages) zip.Add(name, std::move(content));
  zip.Add("archive/version", "3\n");
  return zip.Finish();
}

}  // namespace nsic

#endif  // NSIC_TESTS_UNIT_PTH_WRITER_H_
