// A packed corpus: decoded pictures in one file that is memory-mapped, so that training needs neither image libraries nor memory for
// the whole collection.
//
// The file: "NSICCORP1\n", the pictures' raw 8-bit interleaved RGB one after the other, a JSON manifest, its length (8 bytes,
// little-endian), "NSICCORP1\n" again. The manifest names each picture with size, offset and SHA-256, and the sources of all; and versions
// of the pictures, spoilt by real codecs, where there are some (spoil_corpus.h).
#ifndef NSIC_MODELS_TRAIN_CORPORA_CORPUS_H_
#define NSIC_MODELS_TRAIN_CORPORA_CORPUS_H_

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/files.h"
#include "core/base/status.h"

namespace nsic {

// One picture of an open corpus; `rgb` points into the mapping: rgb[(y * width + x) * 3 + channel].
struct CorpusPicture {
  std::string name;
  int width = 0;
  int height = 0;
  const uint8_t* rgb = nullptr;
};

// What a codec made of a picture: of the same size.
struct SpoiltPicture {
  size_t of = 0;   // the picture's number
  std::string by;  // the codec
  CorpusPicture picture;
};

// Where pictures of a corpus are from.
struct PictureSource {
  std::string folder;  // its name, for the manifest; its path, for PackFolders
  int64_t pictures = 0;
  std::string source;   // a project, a web address, people
  std::string licence;  // SPDX where there is one
};

// Immutable; thread-safe.
class Corpus {
 public:
  // INVALID_ARGUMENT when the file is no corpus, DATA_LOSS when it is truncated or its manifest points outside it.
  static Result<std::unique_ptr<Corpus>> Open(const std::string& path);
  ~Corpus();
  Corpus(const Corpus&) = delete;
  Corpus& operator=(const Corpus&) = delete;

  const std::vector<CorpusPicture>& pictures() const { return pictures_; }
  const std::vector<SpoiltPicture>& spoilt() const { return spoilt_; }
  // Empty when the corpus was packed from folders that nobody described.
  const std::vector<PictureSource>& sources() const { return sources_; }
  // SHA-256 of the manifest, which holds every picture's: the same for the same pictures in the same order.
  const std::string& digest() const { return digest_; }

 private:
  Corpus(const uint8_t* mapping, size_t size) : mapping_(mapping), size_(size) {}

  const uint8_t* mapping_;
  size_t size_;
  std::vector<CorpusPicture> pictures_;
  std::vector<SpoiltPicture> spoilt_;
  std::vector<PictureSource> sources_;
  std::string digest_;
};

// Writes a corpus beside its final name and renames it when it is whole. Not thread-safe.
class CorpusWriter {
 public:
  static Result<std::unique_ptr<CorpusWriter>> Create(const std::string& path);
  ~CorpusWriter();  // without Finish, nothing is left
  CorpusWriter(const CorpusWriter&) = delete;
  CorpusWriter& operator=(const CorpusWriter&) = delete;

  // `rgb`: width * height * 3 bytes.
  Status Add(const std::string& name, int width, int height, std::string_view rgb);
  // A version of the picture that was added as number `of`, of its size.
  Status AddSpoilt(size_t of, const std::string& by, std::string_view rgb);
  void AddSource(PictureSource source);
  Status Finish();

 private:
  CorpusWriter(std::string path, std::string temporary, UniqueFd fd);

  struct Entry {
    std::string name;
    int width;
    int height;
    uint64_t offset;
    std::string sha256;
  };
  struct SpoiltEntry {
    size_t of;
    std::string by;
    Entry entry;
  };
  Result<Entry> Write(const std::string& name, int width, int height, std::string_view rgb);

  const std::string path_;
  const std::string temporary_;
  UniqueFd fd_;
  uint64_t position_ = 0;
  std::vector<Entry> entries_;
  std::vector<SpoiltEntry> spoilt_;
  std::vector<PictureSource> sources_;
};

// The files below `folder` that have a picture's extension, sorted by name.
Result<std::vector<std::string>> ListPictureFiles(const std::string& folder);
// Those of all folders, but at most `count`, evenly spaced, unless that is 0.
Result<std::vector<std::string>> ListSomePictureFiles(const std::vector<std::string>& folders, int64_t count);

// Decodes every picture below the folders into a corpus at `out`, with the sources (but those without `source`) in its manifest. What
// cannot be decoded is skipped and named in `skipped` with the reason. NOT_FOUND when no picture is left.
Status PackFolders(const std::vector<PictureSource>& folders, const std::string& out, std::vector<std::string>* skipped);

// Opens `path`: a packed corpus, or a folder, which is packed into `cache_folder` first unless the same files were packed there before.
Result<std::unique_ptr<Corpus>> OpenData(const std::string& path, const std::string& cache_folder, std::vector<std::string>* skipped);

}  // namespace nsic

#endif  // NSIC_MODELS_TRAIN_CORPORA_CORPUS_H_
