#include "models/train/measure/evaluate.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <filesystem>
#include <iomanip>
#include <memory>
#include <nlohmann/json.hpp>
#include <sstream>
#include <utility>

#include "core/base/cancel.h"
#include "core/infer/engine.h"
#include "core/quality/metrics.h"
#include "models/io/model_pack.h"
#include "models/train/corpora/corpus.h"
#include "models/train/corpora/decode_picture.h"
#include "models/train/corpora/real_codecs.h"
#include "models/train/measure/measured.h"

namespace nsic {
namespace {

using nlohmann::json;

constexpr int kSmallestSide = 16;  // what is left after cutting is not smaller than SSIM's window
constexpr double kBestPsnr = 100;
constexpr int kSecondQuality = 30;
constexpr int kSecondCut = 4;  // pixels: half a block

Rgb8 CutTopLeft(const Rgb8& picture, int margin) {
  const Size size{picture.size.width - margin, picture.size.height - margin};
  Rgb8 rest{size, {}};
  for (int y = margin; y < picture.size.height; ++y) {
    const auto row = picture.samples.begin() + (int64_t{y} * picture.size.width + margin) * 3;
    rest.samples.insert(rest.samples.end(), row, row + int64_t{size.width} * 3);
  }
  return rest;
}

constexpr size_t kScores = 4;  // fields of MeanScores

Status AppendScores(const Rgb8& original, const Rgb8& picture, std::vector<double>* values) {
  NSIC_ASSIGN_OR_RETURN(const QualityScores scores, CompareQuality(original, picture));
  values->insert(values->end(), {std::min(scores.psnr_rgb, kBestPsnr), std::min(scores.psnr_y, kBestPsnr), scores.ssim_y,
                                 std::min(scores.psnr_b, kBestPsnr)});
  return OkStatus();
}

std::array<double*, kScores> FieldsOf(MeanScores* scores) {
  return {&scores->psnr_rgb, &scores->psnr_y, &scores->ssim_y, &scores->psnr_b};  // as AppendScores has them
}

void Divide(MeanScores* sums, int64_t count) {
  for (double* value : FieldsOf(sums)) *value /= static_cast<double>(count);
}

// Megapixels restored, the engine's seconds, then for each spoiling the scores of the spoilt picture and of the restored one.
Result<std::vector<double>> MeasurePicture(const Rgb8& picture, const std::vector<Spoiling>& spoilings, Enhancer* enhancer,
                                           const Clock& clock) {
  std::vector<double> values = {0, 0};
  for (const Spoiling& spoiling : spoilings) {
    Rgb8 original = picture;
    NSIC_ASSIGN_OR_RETURN(const Rgb8 spoilt, Spoil(spoiling, &original));
    const int64_t start_us = clock.MonotonicUs();
    NSIC_ASSIGN_OR_RETURN(const Rgb8 restored, Restore(enhancer, spoilt));
    values[0] += static_cast<double>(spoilt.size.area()) / 1e6;
    values[1] += static_cast<double>(clock.MonotonicUs() - start_us) / 1e6;
    NSIC_RETURN_IF_ERROR(AppendScores(original, spoilt, &values));
    NSIC_RETURN_IF_ERROR(AppendScores(original, restored, &values));
  }
  return values;
}

// What the values of a picture depend on.
std::string SubjectOf(const ModelPack& pack, const EvaluateOptions& options) {
  std::string subject = PackIdentity(pack.card) + " on " + options.device + " with " + std::to_string(options.threads) + " threads";
  for (const Spoiling& spoiling : options.spoilings) subject += "; " + SpoilingName(spoiling);
  return subject;
}

json ScoresJson(const MeanScores& scores) {
  const auto rounded = [](double value, double per_unit) { return std::round(value * per_unit) / per_unit; };
  return {{"psnr_rgb", rounded(scores.psnr_rgb, 1e3)},
          {"psnr_y", rounded(scores.psnr_y, 1e3)},
          {"ssim_y", rounded(scores.ssim_y, 1e5)},
          {"psnr_b", rounded(scores.psnr_b, 1e3)}};
}

}  // namespace

std::string SpoilingName(const Spoiling& spoiling) {
  switch (spoiling.by) {
    case Spoiling::By::kNothing: return "nothing";
    case Spoiling::By::kJpeg: return "JPEG " + std::to_string(spoiling.degree);
    case Spoiling::By::kMosaic: return "mosaic " + std::to_string(spoiling.degree);
    case Spoiling::By::kJpegTwice: break;
  }
  return "JPEG " + std::to_string(spoiling.degree) + ", " + std::to_string(kSecondQuality);
}

Result<Rgb8> Spoil(const Spoiling& spoiling, Rgb8* original) {
  switch (spoiling.by) {
    case Spoiling::By::kNothing: return *original;
    case Spoiling::By::kJpeg: return ThroughJpeg(*original, spoiling.degree);
    case Spoiling::By::kMosaic: return Mosaiced(*original, spoiling.degree);
    case Spoiling::By::kJpegTwice: break;
  }
  NSIC_ASSIGN_OR_RETURN(const Rgb8 once, ThroughJpeg(*original, spoiling.degree));
  *original = CutTopLeft(*original, kSecondCut);
  return ThroughJpeg(CutTopLeft(once, kSecondCut), kSecondQuality);
}

Result<Rgb8> Restore(Enhancer* enhancer, const Rgb8& picture) {
  const size_t width = static_cast<size_t>(picture.size.width);
  Rgb8 result{picture.size, std::vector<uint8_t>(picture.samples.size())};
  // Calls `body(planar index, interleaved index)` for the samples of `rect`.
  const auto for_samples = [width](const Rect& rect, auto body) {
    size_t planar = 0;
    for (size_t c = 0; c < 3; ++c) {
      for (int y = rect.y; y < rect.bottom(); ++y) {
        for (int x = rect.x; x < rect.right(); ++x) body(planar++, (static_cast<size_t>(y) * width + static_cast<size_t>(x)) * 3 + c);
      }
    }
  };
  const ReadPixels read = [&](const Rect& rect, float* out) {
    for_samples(rect, [&](size_t planar, size_t sample) { out[planar] = static_cast<float>(picture.samples[sample]) / 255.0f; });
    return OkStatus();
  };
  const WritePixels write = [&](const Rect& rect, const float* in) {
    for_samples(rect, [&](size_t planar, size_t sample) {
      result.samples[sample] = static_cast<uint8_t>(std::lround(std::clamp(in[planar], 0.0f, 1.0f) * 255.0f));
    });
    return OkStatus();
  };
  const Rect all{0, 0, picture.size.width, picture.size.height};
  NSIC_RETURN_IF_ERROR(enhancer->Enhance(picture.size, all, read, write, CancelToken()).status());
  return result;
}

Result<ModelPack> ReadEnhancerToMeasure(const std::string& folder) {
  NSIC_ASSIGN_OR_RETURN(ModelPack pack, ReadModelPack(folder));
  if (pack.card.task != ModelTask::kEnhance || pack.card.scale != 1) {
    return InvalidArgumentError(folder + ": only enhancers that keep the size can be measured");
  }
  return pack;
}

Result<Evaluation> Evaluate(const EvaluateOptions& options, const Clock& clock, std::ostream& progress) {
  NSIC_ASSIGN_OR_RETURN(const ModelPack pack, ReadEnhancerToMeasure(options.pack));
  EngineOptions engine;
  engine.device = options.device;
  engine.threads = options.threads;
  NSIC_ASSIGN_OR_RETURN(const std::unique_ptr<Enhancer> enhancer, LoadEnhancer(pack, engine));
  NSIC_ASSIGN_OR_RETURN(const std::vector<std::string> paths, ListSomePictureFiles({options.data}, options.pictures));
  NSIC_ASSIGN_OR_RETURN(Measured measured, Measured::Open(options.state, pack.card.name, SubjectOf(pack, options), paths));
  if (measured.size() > 0) progress << pack.card.name << ": " << measured.size() << " pictures were measured before" << std::endl;

  Evaluation evaluation;
  const std::filesystem::path folder = (std::filesystem::path(options.data) / "").lexically_normal().parent_path();
  evaluation.data = (folder.parent_path().filename() / folder.filename()).string();
  for (const Spoiling& spoiling : options.spoilings) evaluation.rows.push_back({spoiling, {}, {}});
  double megapixels = 0, seconds = 0;
  for (const std::string& path : paths) {
    Result<DecodedPicture> decoded = DecodePicture(path);
    if (!decoded.ok()) {
      progress << "left out: " << decoded.status() << std::endl;
      continue;
    }
    if (decoded->width < kSmallestSide || decoded->height < kSmallestSide) {
      progress << "left out: " << path << " is smaller than " << kSmallestSide << "x" << kSmallestSide << std::endl;
      continue;
    }
    const Rgb8 picture{{decoded->width, decoded->height}, std::move(decoded->rgb)};
    const Result<std::vector<double>> values = measured.Remember(path, 2 + options.spoilings.size() * 2 * kScores, [&] {
      return MeasurePicture(picture, options.spoilings, enhancer.get(), clock);
    });
    if (!values.ok()) return values.status().WithContext(path);
    auto value = values->begin();
    megapixels += *value++;
    seconds += *value++;
    for (EvaluateRow& row : evaluation.rows) {
      for (MeanScores* sums : {&row.spoilt, &row.restored}) {
        for (double* sum : FieldsOf(sums)) *sum += *value++;
      }
    }
    ++evaluation.pictures;
  }
  if (evaluation.pictures == 0) return NotFoundError("no picture to evaluate in " + options.data);
  for (EvaluateRow& row : evaluation.rows) {
    Divide(&row.spoilt, evaluation.pictures);
    Divide(&row.restored, evaluation.pictures);
  }
  if (seconds > 0) evaluation.megapixels_per_second = megapixels / seconds;
  return evaluation;
}

std::string EvaluationTable(const Evaluation& evaluation) {
  std::ostringstream out;
  out << "             |      PSNR RGB (dB)      |       PSNR Y (dB)       |         SSIM Y          |       PSNR-B (dB)\n"
      << "spoilt by    |  spoilt restored    gain |  spoilt restored    gain |  spoilt restored    gain |  spoilt restored    gain\n"
      << std::fixed;
  for (const EvaluateRow& row : evaluation.rows) {
    out << std::left << std::setw(12) << SpoilingName(row.spoiling) << std::right;
    const auto add = [&out](double before, double after, int digits) {
      out << " | " << std::setprecision(digits) << std::setw(7) << before << std::setw(9) << after << std::showpos << std::setw(8)
          << after - before << std::noshowpos;
    };
    add(row.spoilt.psnr_rgb, row.restored.psnr_rgb, 3);
    add(row.spoilt.psnr_y, row.restored.psnr_y, 3);
    add(row.spoilt.ssim_y, row.restored.ssim_y, 4);
    add(row.spoilt.psnr_b, row.restored.psnr_b, 3);
    out << "\n";
  }
  out << evaluation.pictures << " pictures of " << evaluation.data << ", " << std::setprecision(2) << evaluation.megapixels_per_second
      << " MP/s\n";
  return out.str();
}

Status WriteToCard(const std::string& folder, const std::vector<Evaluation>& evaluations) {
  NSIC_ASSIGN_OR_RETURN(const ModelPack pack, ReadModelPack(folder));
  const json card = json::parse(pack.card.card_json, nullptr, /*allow_exceptions=*/false);
  json value = json::array();
  const auto measured_again = [&evaluations](const json& on) {
    return std::any_of(evaluations.begin(), evaluations.end(), [&on](const Evaluation& now) { return on.value("data", "") == now.data; });
  };
  if (card.is_object() && card.contains("evaluation")) {
    for (const json& on : card.at("evaluation")) {
      if (!measured_again(on)) value.push_back(on);
    }
  }
  for (const Evaluation& evaluation : evaluations) {
    json rows = json::array();
    for (const EvaluateRow& row : evaluation.rows) {
      rows.push_back(
          {{"spoilt_by", SpoilingName(row.spoiling)}, {"spoilt", ScoresJson(row.spoilt)}, {"restored", ScoresJson(row.restored)}});
    }
    value.push_back({{"data", evaluation.data}, {"pictures", evaluation.pictures}, {"rows", rows}});
  }
  return WriteCardField(folder, "evaluation", value.dump(-1, ' ', false, json::error_handler_t::replace));
}

}  // namespace nsic
