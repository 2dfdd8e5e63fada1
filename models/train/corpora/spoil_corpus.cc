#include "models/train/corpora/spoil_corpus.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "models/train/corpora/corpus.h"
#include "models/train/corpora/real_codecs.h"
#include "models/train/samples/judge_samples.h"
#include "models/train/samples/random.h"

namespace nsic {
namespace {

constexpr int kLargestSide = 512;
constexpr size_t kFramesAtOnce = 16;  // of one video: its CRF is drawn anew for each

struct Original {
  size_t number;  // in the new corpus
  Rgb8 picture;
};

// With even sides, as 4:2:0 video has them.
Rgb8 Middle(const CorpusPicture& picture) {
  const int width = std::min(picture.width, kLargestSide) / 2 * 2, height = std::min(picture.height, kLargestSide) / 2 * 2;
  const int left = (picture.width - width) / 2, top = (picture.height - height) / 2;
  Rgb8 middle{{width, height}, {}};
  for (int y = top; y < top + height; ++y) {
    const uint8_t* row = picture.rgb + (static_cast<size_t>(y) * static_cast<size_t>(picture.width) + static_cast<size_t>(left)) * 3;
    middle.samples.insert(middle.samples.end(), row, row + static_cast<size_t>(width) * 3);
  }
  return middle;
}

std::string_view Bytes(const Rgb8& picture) { return {reinterpret_cast<const char*>(picture.samples.data()), picture.samples.size()}; }

// A whole number from `low` to `high`, in the part `version` of `versions` equal ones.
int DrawDegree(int low, int high, int64_t version, int64_t versions, Random* random) {
  const double part = (static_cast<double>(version) + random->Unit()) / static_cast<double>(versions);
  return std::min(high, low + static_cast<int>(part * (high - low + 1)));
}

}  // namespace

Status SpoilCorpus(const SpoilOptions& options, std::ostream& progress) {
  if (options.versions < 2 || options.versions > 16) return InvalidArgumentError("a codec makes 2 to 16 versions of a picture");
  NSIC_ASSIGN_OR_RETURN(const auto corpus, Corpus::Open(options.data));
  NSIC_ASSIGN_OR_RETURN(const auto writer, CorpusWriter::Create(options.out));
  for (const PictureSource& source : corpus->sources()) writer->AddSource(source);

  std::map<std::pair<int, int>, std::vector<Original>> of_size;  // pictures of one size are frames of one video
  const std::vector<CorpusPicture>& all = corpus->pictures();
  const size_t count = options.pictures > 0 ? std::min(all.size(), static_cast<size_t>(options.pictures)) : all.size();
  size_t added = 0;
  for (size_t i = 0; i < count; ++i) {
    const CorpusPicture& picture = all[i * all.size() / count];
    if (std::min(picture.width, picture.height) / 2 * 2 < kJudgeSmallest) {
      progress << "skipped: " << picture.name << " is smaller than " << kJudgeSmallest << "x" << kJudgeSmallest << std::endl;
      continue;
    }
    Rgb8 middle = Middle(picture);
    NSIC_RETURN_IF_ERROR(writer->Add(picture.name, middle.size.width, middle.size.height, Bytes(middle)));
    of_size[{middle.size.width, middle.size.height}].push_back({added++, std::move(middle)});
  }
  if (added == 0) return InvalidArgumentError(options.data + " has no picture that is large enough");

  size_t done = 0;
  int64_t batch = 0;
  for (const auto& [size, originals] : of_size) {
    for (size_t first = 0; first < originals.size(); first += kFramesAtOnce, ++batch) {
      const size_t last = std::min(first + kFramesAtOnce, originals.size());
      Random random(options.seed, batch);
      std::vector<Rgb8> frames;
      for (size_t i = first; i < last; ++i) frames.push_back(originals[i].picture);
      for (int64_t version = 0; version < options.versions; ++version) {
        for (size_t i = first; i < last; ++i) {
          const int quality = DrawDegree(1, 100, version, options.versions, &random);
          NSIC_ASSIGN_OR_RETURN(const Rgb8 spoilt, ThroughWebp(originals[i].picture, quality));
          NSIC_RETURN_IF_ERROR(writer->AddSpoilt(originals[i].number, "libwebp", Bytes(spoilt)));
        }
        for (const VideoCodec codec : {VideoCodec::kH264, VideoCodec::kHevc}) {
          const int crf = DrawDegree(10, 51, version, options.versions, &random);
          NSIC_ASSIGN_OR_RETURN(const std::vector<Rgb8> spoilt, ThroughVideo(frames, codec, crf));
          for (size_t i = first; i < last; ++i) {
            NSIC_RETURN_IF_ERROR(
                writer->AddSpoilt(originals[i].number, codec == VideoCodec::kH264 ? "libx264" : "libx265", Bytes(spoilt[i - first])));
          }
        }
      }
      done += last - first;
      progress << done << " of " << added << " pictures" << std::endl;
    }
  }
  return writer->Finish();
}

}  // namespace nsic
