#include "models/train/corpora/corpus.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <system_error>
#include <utility>

#include "core/base/digest.h"
#include "models/train/corpora/decode_picture.h"

namespace nsic {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr std::string_view kMagic = "NSICCORP1\n";
constexpr size_t kFooter = 8 + kMagic.size();
constexpr std::array<std::string_view, 8> kExtensions = {".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp", ".avif"};

std::string_view View(const uint8_t* bytes, size_t size) { return {reinterpret_cast<const char*>(bytes), size}; }

// A name for what the folder holds now: changes when a picture is added, removed, resized or touched.
Result<std::string> FingerprintOf(const std::vector<std::string>& paths) {
  Sha256 digest;
  for (const std::string& path : paths) {
    struct stat info;
    if (stat(path.c_str(), &info) != 0) return ErrnoError(errno, "cannot read " + path);
    const json line = {path, info.st_size, info.st_mtim.tv_sec, info.st_mtim.tv_nsec};
    digest.Update(line.dump(-1, ' ', false, json::error_handler_t::replace) + "\n");
  }
  return digest.Hex();
}

}  // namespace

Result<std::unique_ptr<Corpus>> Corpus::Open(const std::string& path) {
  NSIC_ASSIGN_OR_RETURN(UniqueFd fd, OpenForReading(path));
  struct stat info;
  if (fstat(fd.get(), &info) != 0) return ErrnoError(errno, "cannot read " + path);
  const size_t size = static_cast<size_t>(info.st_size);
  const Status no_corpus = InvalidArgumentError(path + ": no packed corpus; make one with nsic-train corpus");
  if (!S_ISREG(info.st_mode) || size < kMagic.size() + kFooter) return no_corpus;
  void* mapping = mmap(nullptr, size, PROT_READ, MAP_SHARED, fd.get(), 0);
  if (mapping == MAP_FAILED) return ErrnoError(errno, "cannot map " + path);
  std::unique_ptr<Corpus> corpus(new Corpus(static_cast<const uint8_t*>(mapping), size));

  const uint8_t* bytes = corpus->mapping_;
  if (View(bytes, kMagic.size()) != kMagic) return no_corpus;
  const Status broken = DataLossError(path + ": the packed corpus is truncated or damaged; pack it again");
  if (View(bytes + size - kMagic.size(), kMagic.size()) != kMagic) return broken;
  uint64_t length = 0;
  for (int i = 7; i >= 0; --i) length = (length << 8) | bytes[size - kFooter + static_cast<size_t>(i)];
  if (length > size - kFooter - kMagic.size()) return broken;
  const size_t data_end = size - kFooter - length;
  const std::string_view manifest = View(bytes + data_end, length);
  const json root = json::parse(manifest, nullptr, /*allow_exceptions=*/false);
  if (!root.is_object() || !root.contains("pictures") || !root["pictures"].is_array()) return broken;
  const auto picture_of = [&](const json& entry) -> Result<CorpusPicture> {
    if (!entry.is_object() || !entry.contains("name") || !entry["name"].is_string()) return broken;
    for (const char* field : {"width", "height", "offset"}) {
      if (!entry.contains(field) || !entry[field].is_number_unsigned()) return broken;
    }
    const uint64_t width = entry["width"].get<uint64_t>(), height = entry["height"].get<uint64_t>();
    const uint64_t offset = entry["offset"].get<uint64_t>();
    constexpr uint64_t kMaxSide = 1 << 20;
    if (width < 1 || height < 1 || width > kMaxSide || height > kMaxSide) return broken;
    if (offset < kMagic.size() || offset > data_end || width * height * 3 > data_end - offset) return broken;
    return CorpusPicture{entry["name"].get<std::string>(), static_cast<int>(width), static_cast<int>(height), bytes + offset};
  };
  for (const json& entry : root["pictures"]) {
    NSIC_ASSIGN_OR_RETURN(CorpusPicture picture, picture_of(entry));
    corpus->pictures_.push_back(std::move(picture));
  }
  const json spoilt = root.value("spoilt", json::array());
  if (!spoilt.is_array()) return broken;
  for (const json& entry : spoilt) {
    NSIC_ASSIGN_OR_RETURN(CorpusPicture picture, picture_of(entry));
    if (!entry.contains("of") || !entry["of"].is_number_unsigned() || !entry.contains("by") || !entry["by"].is_string()) return broken;
    const auto of = entry["of"].get<size_t>();
    if (of >= corpus->pictures_.size()) return broken;
    const CorpusPicture& original = corpus->pictures_[of];
    if (picture.width != original.width || picture.height != original.height) return broken;
    corpus->spoilt_.push_back({of, entry["by"].get<std::string>(), std::move(picture)});
  }
  const json sources = root.value("sources", json::array());
  if (!sources.is_array()) return broken;
  for (const json& entry : sources) {
    if (!entry.is_object()) return broken;
    for (const char* field : {"folder", "source", "licence"}) {
      if (!entry.contains(field) || !entry[field].is_string()) return broken;
    }
    if (!entry.contains("pictures") || !entry["pictures"].is_number_unsigned()) return broken;
    corpus->sources_.push_back({entry["folder"].get<std::string>(), entry["pictures"].get<int64_t>(), entry["source"].get<std::string>(),
                                entry["licence"].get<std::string>()});
  }
  corpus->digest_ = Sha256Hex(manifest);
  return corpus;
}

Corpus::~Corpus() { munmap(const_cast<uint8_t*>(mapping_), size_); }

CorpusWriter::CorpusWriter(std::string path, std::string temporary, UniqueFd fd)
    : path_(std::move(path)), temporary_(std::move(temporary)), fd_(std::move(fd)) {}

Result<std::unique_ptr<CorpusWriter>> CorpusWriter::Create(const std::string& path) {
  const std::string temporary = path + ".partial-" + RandomHex(4);
  UniqueFd fd(open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644));
  if (!fd.valid()) return ErrnoError(errno, "cannot create " + temporary);
  std::unique_ptr<CorpusWriter> writer(new CorpusWriter(path, temporary, std::move(fd)));
  NSIC_RETURN_IF_ERROR(WriteAll(writer->fd_.get(), kMagic, temporary));
  writer->position_ = kMagic.size();
  return writer;
}

CorpusWriter::~CorpusWriter() {
  if (fd_.valid()) unlink(temporary_.c_str());
}

Result<CorpusWriter::Entry> CorpusWriter::Write(const std::string& name, int width, int height, std::string_view rgb) {
  if (rgb.size() != static_cast<size_t>(width) * static_cast<size_t>(height) * 3) return InternalError(name + ": wrong number of samples");
  NSIC_RETURN_IF_ERROR(WriteAll(fd_.get(), rgb, temporary_));
  const uint64_t offset = position_;
  position_ += rgb.size();
  return Entry{name, width, height, offset, Sha256Hex(rgb)};
}

Status CorpusWriter::Add(const std::string& name, int width, int height, std::string_view rgb) {
  NSIC_ASSIGN_OR_RETURN(Entry entry, Write(name, width, height, rgb));
  entries_.push_back(std::move(entry));
  return OkStatus();
}

Status CorpusWriter::AddSpoilt(size_t of, const std::string& by, std::string_view rgb) {
  if (of >= entries_.size()) return InternalError("a version of a picture that is not there");
  const Entry& original = entries_[of];
  NSIC_ASSIGN_OR_RETURN(Entry entry, Write(original.name, original.width, original.height, rgb));
  spoilt_.push_back({of, by, std::move(entry)});
  return OkStatus();
}

void CorpusWriter::AddSource(PictureSource source) { sources_.push_back(std::move(source)); }

Status CorpusWriter::Finish() {
  json manifest = {{"pictures", json::array()}};
  const auto describe = [](const Entry& entry) {
    return json{{"name", entry.name}, {"width", entry.width}, {"height", entry.height}, {"offset", entry.offset}, {"sha256", entry.sha256}};
  };
  for (const Entry& entry : entries_) manifest["pictures"].push_back(describe(entry));
  for (const SpoiltEntry& spoilt : spoilt_) {
    json entry = describe(spoilt.entry);
    entry["of"] = spoilt.of;
    entry["by"] = spoilt.by;
    manifest["spoilt"].push_back(std::move(entry));
  }
  for (const PictureSource& source : sources_) {
    manifest["sources"].push_back(
        {{"folder", source.folder}, {"pictures", source.pictures}, {"source", source.source}, {"licence", source.licence}});
  }
  std::string tail = manifest.dump(-1, ' ', false, json::error_handler_t::replace);
  const uint64_t length = tail.size();
  for (int i = 0; i < 8; ++i) tail.push_back(static_cast<char>((length >> (8 * i)) & 0xff));
  tail += kMagic;
  NSIC_RETURN_IF_ERROR(WriteAll(fd_.get(), tail, temporary_));
  if (fsync(fd_.get()) != 0) return ErrnoError(errno, "cannot write " + temporary_);
  if (rename(temporary_.c_str(), path_.c_str()) != 0) return ErrnoError(errno, "cannot rename " + temporary_ + " to " + path_);
  fd_.reset();
  const std::string folder = fs::path(path_).parent_path().string();
  return SyncFolder(folder.empty() ? "." : folder);
}

Result<std::vector<std::string>> ListPictureFiles(const std::string& folder) {
  std::vector<std::string> paths;
  std::error_code error;
  fs::recursive_directory_iterator it(folder, error), end;
  while (!error && it != end) {
    std::string extension = it->path().extension().string();
    for (char& c : extension) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    if (std::find(kExtensions.begin(), kExtensions.end(), extension) != kExtensions.end() && it->is_regular_file(error)) {
      paths.push_back(it->path().string());
    }
    if (!error) it.increment(error);
  }
  if (error) return ErrnoError(error.value(), "cannot list the folder " + folder);
  std::sort(paths.begin(), paths.end());
  return paths;
}

Result<std::vector<std::string>> ListSomePictureFiles(const std::vector<std::string>& folders, int64_t count) {
  std::vector<std::string> all;
  for (const std::string& folder : folders) {
    NSIC_ASSIGN_OR_RETURN(const std::vector<std::string> paths, ListPictureFiles(folder));
    all.insert(all.end(), paths.begin(), paths.end());
  }
  const auto wanted = static_cast<size_t>(count);
  if (wanted == 0 || wanted >= all.size()) return all;
  std::vector<std::string> some;
  for (size_t i = 0; i < wanted; ++i) some.push_back(all[i * all.size() / wanted]);
  return some;
}

Status PackFolders(const std::vector<PictureSource>& folders, const std::string& out, std::vector<std::string>* skipped) {
  NSIC_ASSIGN_OR_RETURN(std::unique_ptr<CorpusWriter> writer, CorpusWriter::Create(out));
  int64_t packed = 0;
  for (const PictureSource& from : folders) {
    NSIC_ASSIGN_OR_RETURN(const std::vector<std::string> paths, ListPictureFiles(from.folder));
    const int64_t before = packed;
    for (const std::string& path : paths) {
      Result<DecodedPicture> picture = DecodePicture(path);
      if (!picture.ok()) {
        if (picture.status().code() == StatusCode::kUnimplemented) return picture.status();  // true of every file
        skipped->push_back(picture.status().ToString());
        continue;
      }
      NSIC_RETURN_IF_ERROR(writer->Add(fs::path(path).lexically_relative(from.folder).string(), picture->width, picture->height,
                                       View(picture->rgb.data(), picture->rgb.size())));
      ++packed;
    }
    if (from.source.empty()) continue;
    const fs::path trimmed = (fs::path(from.folder) / "").lexically_normal().parent_path();
    writer->AddSource({(trimmed.parent_path().filename() / trimmed.filename()).string(), packed - before, from.source, from.licence});
  }
  if (packed == 0)
    return NotFoundError("no picture that can be read in " + (folders.empty() ? std::string("no folder") : folders[0].folder));
  return writer->Finish();
}

Result<std::unique_ptr<Corpus>> OpenData(const std::string& path, const std::string& cache_folder, std::vector<std::string>* skipped) {
  std::error_code error;
  if (!fs::is_directory(path, error)) return Corpus::Open(path);
  NSIC_ASSIGN_OR_RETURN(const std::vector<std::string> paths, ListPictureFiles(path));
  NSIC_ASSIGN_OR_RETURN(const std::string fingerprint, FingerprintOf(paths));
  NSIC_RETURN_IF_ERROR(MakeFolders(cache_folder));
  const std::string packed = cache_folder + "/" + fingerprint.substr(0, 16) + ".corpus";
  if (!fs::exists(packed, error)) NSIC_RETURN_IF_ERROR(PackFolders({{path, 0, "", ""}}, packed, skipped));
  return Corpus::Open(packed);
}

}  // namespace nsic
