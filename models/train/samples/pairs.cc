#include "models/train/samples/pairs.h"

#include <torch/torch.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <utility>

namespace nsic {

using at::Tensor;
using nlohmann::json;

Result<TrainingData> OpenTrainingData(const std::vector<std::string>& paths, const std::string& cache_folder, int64_t smallest,
                                      std::ostream& progress) {
  TrainingData data;
  json summary = json::array();
  for (const std::string& path : paths) {
    std::vector<std::string> skipped;
    NSIC_ASSIGN_OR_RETURN(std::unique_ptr<Corpus> corpus, OpenData(path, cache_folder, &skipped));
    for (const std::string& reason : skipped) progress << "skipped: " << reason << std::endl;
    int64_t pixels = 0;
    size_t used = 0;
    for (const CorpusPicture& picture : corpus->pictures()) {
      if (picture.width < smallest || picture.height < smallest) {
        progress << "skipped: " << picture.name << " is smaller than " << smallest << "x" << smallest << std::endl;
        continue;
      }
      data.pictures.push_back(picture);
      pixels += int64_t{picture.width} * picture.height;
      ++used;
    }
    const std::filesystem::path trimmed = std::filesystem::path(path).lexically_normal();
    const std::filesystem::path named = trimmed.has_filename() ? trimmed : trimmed.parent_path();
    json entry = {{"name", (named.parent_path().filename() / named.filename()).string()},
                  {"pictures", used},
                  {"megapixels", std::round(static_cast<double>(pixels) / 1e4) / 100},
                  {"corpus_sha256", corpus->digest()}};
    for (const PictureSource& source : corpus->sources()) {
      entry["sources"].push_back(
          {{"folder", source.folder}, {"pictures", source.pictures}, {"source", source.source}, {"licence", source.licence}});
    }
    summary.push_back(std::move(entry));
    data.corpora.push_back(std::move(corpus));
  }
  if (data.pictures.empty()) {
    return InvalidArgumentError("there is no picture of at least " + std::to_string(smallest) + " pixels a side in the data");
  }
  data.summary = summary.dump(-1, ' ', false, json::error_handler_t::replace);
  return data;
}

Tensor RandomCrop(const CorpusPicture& picture, int64_t side, Random* random) {
  const int64_t x = random->Below(picture.width - side + 1), y = random->Below(picture.height - side + 1);
  Tensor crop = torch::empty({side, side, 3}, at::kByte);
  uint8_t* out = crop.data_ptr<uint8_t>();
  for (int64_t row = 0; row < side; ++row) {
    std::memcpy(out + row * side * 3, picture.rgb + ((y + row) * picture.width + x) * 3, static_cast<size_t>(side) * 3);
  }
  crop = crop.permute({2, 0, 1});
  const uint64_t turn = random->Next();
  if (turn & 1) crop = crop.flip(1);
  if (turn & 2) crop = crop.flip(2);
  if (turn & 4) crop = crop.transpose(1, 2);
  return crop;
}

Pair MakePairs(const std::vector<CorpusPicture>& pictures, const Degradation& degradation, int64_t side, uint64_t seed, int64_t first,
               int64_t last, const at::Device& device) {
  std::vector<Tensor> crops;
  std::vector<uint64_t> seeds;
  for (int64_t index = first; index < last; ++index) {
    Random random(seed, index);
    const CorpusPicture& picture = pictures[static_cast<size_t>(random.Below(static_cast<int64_t>(pictures.size())))];
    crops.push_back(RandomCrop(picture, side, &random));
    seeds.push_back(random.Next());
  }
  const Tensor target = at::stack(crops).to(device).to(at::kFloat);
  return {Degrade(target, seeds, degradation).div_(255.0), target / 255.0};
}

Tensor WholePicture(const CorpusPicture& picture, const at::Device& device) {
  const Tensor bytes = torch::from_blob(const_cast<uint8_t*>(picture.rgb), {1, picture.height, picture.width, 3}, at::kByte);
  return bytes.permute({0, 3, 1, 2}).to(device).to(at::kFloat).contiguous();
}

}  // namespace nsic
