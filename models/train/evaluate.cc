#include "models/train/evaluate.h"

#include <algorithm>
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
#include "models/train/corpus.h"
#include "models/train/decode_picture.h"
#include "models/train/real_codecs.h"

namespace nsic {
namespace {

using nlohmann::json;

constexpr int kSmallestSide = 11;
constexpr double kBestPsnr = 100;

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

Status AddScores(const Rgb8& original, const Rgb8& picture, MeanScores* sums) {
  NSIC_ASSIGN_OR_RETURN(const QualityScores scores, CompareQuality(original, picture));
  sums->psnr_rgb += std::min(scores.psnr_rgb, kBestPsnr);
  sums->psnr_y += std::min(scores.psnr_y, kBestPsnr);
  sums->ssim_y += scores.ssim_y;
  sums->psnr_b += std::min(scores.psnr_b, kBestPsnr);
  return OkStatus();
}

void Divide(MeanScores* sums, int64_t count) {
  for (double* value : {&sums->psnr_rgb, &sums->psnr_y, &sums->ssim_y, &sums->psnr_b}) *value /= static_cast<double>(count);
}

json ScoresJson(const MeanScores& scores) {
  const auto rounded = [](double value, double per_unit) { return std::round(value * per_unit) / per_unit; };
  return {{"psnr_rgb", rounded(scores.psnr_rgb, 1e3)},
          {"psnr_y", rounded(scores.psnr_y, 1e3)},
          {"ssim_y", rounded(scores.ssim_y, 1e5)},
          {"psnr_b", rounded(scores.psnr_b, 1e3)}};
}

Status UpdateCard(const EvaluateOptions& options, const Evaluation& evaluation, ModelPack pack) {
  json card = json::object();
  if (!pack.card.card_json.empty()) card = json::parse(pack.card.card_json, nullptr, /*allow_exceptions=*/false);
  const std::filesystem::path trimmed = (std::filesystem::path(options.data) / "").lexically_normal().parent_path();
  json rows = json::array();
  for (const EvaluateRow& row : evaluation.rows) {
    rows.push_back({{"quality", row.quality}, {"jpeg", ScoresJson(row.jpeg)}, {"restored", ScoresJson(row.restored)}});
  }
  card["evaluation"] = {{"data", (trimmed.parent_path().filename() / trimmed.filename()).string()},
                        {"pictures", evaluation.pictures},
                        {"degradation", "libjpeg, 4:2:0"},
                        {"rows", rows}};
  pack.card.card_json = card.dump(-1, ' ', false, json::error_handler_t::replace);
  return WriteModelPack(options.pack, pack);
}

}  // namespace

Result<Evaluation> Evaluate(const EvaluateOptions& options, const Clock& clock, std::ostream& progress) {
  NSIC_ASSIGN_OR_RETURN(ModelPack pack, ReadModelPack(options.pack));
  if (pack.card.task != ModelTask::kEnhance || pack.card.scale != 1) {
    return InvalidArgumentError(options.pack + ": only enhancers that keep the size can be evaluated");
  }
  EngineOptions engine;
  engine.device = options.device;
  engine.threads = options.threads;
  NSIC_ASSIGN_OR_RETURN(const std::unique_ptr<Enhancer> enhancer, LoadEnhancer(pack, engine));
  NSIC_ASSIGN_OR_RETURN(const std::vector<std::string> paths, ListPictureFiles(options.data));

  Evaluation evaluation;
  for (int quality : options.qualities) evaluation.rows.push_back({quality, {}, {}});
  double megapixels = 0, seconds = 0;
  for (const std::string& path : paths) {
    Result<DecodedPicture> decoded = DecodePicture(path);
    if (!decoded.ok()) {
      progress << "left out: " << decoded.status() << std::endl;
      continue;
    }
    if (decoded->width < kSmallestSide || decoded->height < kSmallestSide) {
      progress << "left out: " << path << " is smaller than 11x11" << std::endl;
      continue;
    }
    const Rgb8 original{{decoded->width, decoded->height}, std::move(decoded->rgb)};
    for (EvaluateRow& row : evaluation.rows) {
      NSIC_ASSIGN_OR_RETURN(const Rgb8 jpeg, ThroughJpeg(original, row.quality));
      const int64_t start_us = clock.MonotonicUs();
      Result<Rgb8> restored = Restore(enhancer.get(), jpeg);
      if (!restored.ok()) return restored.status().WithContext(path);
      seconds += static_cast<double>(clock.MonotonicUs() - start_us) / 1e6;
      megapixels += static_cast<double>(original.size.area()) / 1e6;
      NSIC_RETURN_IF_ERROR(AddScores(original, jpeg, &row.jpeg));
      NSIC_RETURN_IF_ERROR(AddScores(original, *restored, &row.restored));
    }
    ++evaluation.pictures;
  }
  if (evaluation.pictures == 0) return NotFoundError("no picture to evaluate in " + options.data);
  for (EvaluateRow& row : evaluation.rows) {
    Divide(&row.jpeg, evaluation.pictures);
    Divide(&row.restored, evaluation.pictures);
  }
  if (seconds > 0) evaluation.megapixels_per_second = megapixels / seconds;
  if (options.update_card) NSIC_RETURN_IF_ERROR(UpdateCard(options, evaluation, std::move(pack)));
  return evaluation;
}

std::string EvaluationTable(const Evaluation& evaluation) {
  std::ostringstream out;
  out << "        |      PSNR RGB (dB)      |       PSNR Y (dB)       |         SSIM Y          |       PSNR-B (dB)\n"
      << "quality |    JPEG restored    gain |    JPEG restored    gain |    JPEG restored    gain |    JPEG restored    gain\n"
      << std::fixed;
  for (const EvaluateRow& row : evaluation.rows) {
    out << std::setw(7) << row.quality;
    const auto add = [&out](double before, double after, int digits) {
      out << " | " << std::setprecision(digits) << std::setw(7) << before << std::setw(9) << after << std::showpos << std::setw(8)
          << after - before << std::noshowpos;
    };
    add(row.jpeg.psnr_rgb, row.restored.psnr_rgb, 3);
    add(row.jpeg.psnr_y, row.restored.psnr_y, 3);
    add(row.jpeg.ssim_y, row.restored.ssim_y, 4);
    add(row.jpeg.psnr_b, row.restored.psnr_b, 3);
    out << "\n";
  }
  out << evaluation.pictures << " pictures, " << std::setprecision(2) << evaluation.megapixels_per_second << " MP/s\n";
  return out.str();
}

}  // namespace nsic
