#include "client/read_model_file.h"

#include <sys/stat.h>

#include <cctype>
#include <cerrno>
#include <filesystem>
#include <string_view>
#include <utility>

#include "core/base/files.h"
#include "models/io/pth_reader.h"
#include "models/io/safetensors.h"

namespace nsic {
namespace {

constexpr std::string_view kBundleStart = "NSICPACK1\n";
constexpr std::string_view kZipStart = "PK";
constexpr std::string_view kPickleStart = "\x80";  // the format of PyTorch before 1.6, which the reader refuses by name

bool StartsWith(std::string_view text, std::string_view start) { return text.substr(0, start.size()) == start; }

Result<std::string> FirstBytes(const std::string& path) {
  NSIC_ASSIGN_OR_RETURN(const UniqueFd fd, OpenForReading(path));
  std::string bytes(16, '\0');
  NSIC_ASSIGN_OR_RETURN(const size_t got, ReadSome(fd.get(), bytes.data(), bytes.size(), path));
  bytes.resize(got);
  return bytes;
}

}  // namespace

std::string ModelNameFromFile(const std::string& path) {
  std::string name;
  for (const char c : std::filesystem::path(path).stem().string()) {
    const unsigned char byte = static_cast<unsigned char>(c);
    const bool plain = byte < 0x80 && (std::isalnum(byte) != 0 || c == '_' || c == '.');
    if (plain) {
      name += static_cast<char>(std::tolower(byte));
    } else if (!name.empty() && name.back() != '-') {
      name += '-';
    }
  }
  while (!name.empty() && name.back() == '-') name.pop_back();
  return name.empty() ? "model" : name;
}

Result<ModelPack> ReadModelFile(const std::string& path, const std::string& name) {
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0) return ErrnoError(errno, "cannot read " + path);
  ModelPack pack;
  if (S_ISDIR(info.st_mode)) {
    NSIC_ASSIGN_OR_RETURN(pack, ReadModelPack(path));
  } else {
    NSIC_ASSIGN_OR_RETURN(const std::string start, FirstBytes(path));
    if (StartsWith(start, kBundleStart)) {
      NSIC_ASSIGN_OR_RETURN(const std::string bytes, ReadFile(path));
      NSIC_ASSIGN_OR_RETURN(pack, UnbundleModelPack(bytes, path));
    } else {
      const bool checkpoint = StartsWith(start, kZipStart) || StartsWith(start, kPickleStart);
      Result<TensorMap> tensors = checkpoint ? ReadPth(path) : ReadSafetensors(path);
      if (!tensors.ok()) return tensors.status();
      return ImportCheckpoint(*std::move(tensors), name.empty() ? ModelNameFromFile(path) : name);
    }
  }
  if (!name.empty()) pack.card.name = name;
  return pack;
}

}  // namespace nsic
