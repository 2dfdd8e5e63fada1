#include "models/train/measure/evaluate_judges.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <iomanip>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <sstream>
#include <utility>

#include "core/infer/engine.h"
#include "core/quality/metrics.h"
#include "models/io/model_pack.h"
#include "models/train/corpora/corpus.h"
#include "models/train/corpora/decode_picture.h"
#include "models/train/corpora/real_codecs.h"
#include "models/train/measure/brisque.h"
#include "models/train/measure/measured.h"
#include "models/train/measure/rank_correlation.h"
#include "models/train/samples/jpeg_simulation.h"
#include "models/train/samples/judge_samples.h"
#include "models/train/samples/reference_quality.h"

namespace nsic {
namespace {

using nlohmann::json;

constexpr int kLargestSide = 768;  // holds the scenes that fetch_drawings.sh makes
constexpr int kSmallestSide = 64;
constexpr char kJpeg[] = "JPEG";  // the kind
constexpr int kQualityStep = 10;  // of the JPEGs that are put in order

struct Original {
  std::string path;
  Rgb8 picture;  // its middle
  bool drawing = false;
};

// The middle, with even sides, as 4:2:0 video has them.
Rgb8 Middle(const DecodedPicture& picture) {
  const int width = std::min(picture.width, kLargestSide) / 2 * 2, height = std::min(picture.height, kLargestSide) / 2 * 2;
  const int left = (picture.width - width) / 2, top = (picture.height - height) / 2;
  Rgb8 middle{{width, height}, {}};
  for (int y = top; y < top + height; ++y) {
    const uint8_t* row = picture.rgb.data() + (static_cast<size_t>(y) * static_cast<size_t>(picture.width) + left) * 3;
    middle.samples.insert(middle.samples.end(), row, row + static_cast<size_t>(width) * 3);
  }
  return middle;
}

Result<std::vector<Original>> ReadOriginals(const EvaluateJudgesOptions& options, std::ostream& progress) {
  std::vector<Original> originals;
  for (const bool drawing : {false, true}) {
    NSIC_ASSIGN_OR_RETURN(const std::vector<std::string> paths,
                          ListSomePictureFiles(drawing ? options.drawings : options.photographs, options.pictures));
    for (const std::string& path : paths) {
      const Result<DecodedPicture> decoded = DecodePicture(path);
      if (!decoded.ok()) {
        progress << "left out: " << decoded.status() << std::endl;
      } else if (decoded->width < kSmallestSide || decoded->height < kSmallestSide) {
        progress << "left out: " << path << " is smaller than 64x64" << std::endl;
      } else {
        originals.push_back({path, Middle(*decoded), drawing});
      }
    }
  }
  if (originals.empty()) return NotFoundError("there are no pictures to measure on");
  return originals;
}

PlanarImage ToPlanar(const Rgb8& picture) {
  PlanarImage planar(3, picture.size.width, picture.size.height);
  const size_t area = static_cast<size_t>(picture.size.area());
  for (size_t i = 0; i < area; ++i) {
    for (size_t c = 0; c < 3; ++c) planar.samples[c * area + i] = static_cast<float>(picture.samples[i * 3 + c]) / 255.0f;
  }
  return planar;
}

// One way to spoil all originals.
struct Way {
  std::string kind;
  double degree = 0;  // as the kind counts it: quality, CRF, sigma, scale, pixels of a square
  std::function<Result<std::vector<Rgb8>>(const std::vector<Original>&)> spoil;
};

using SpoilOne = std::function<Result<Rgb8>(const Rgb8&, size_t index)>;

Way EachByItself(std::string kind, double degree, SpoilOne spoil) {
  return {std::move(kind), degree, [spoil = std::move(spoil)](const std::vector<Original>& originals) -> Result<std::vector<Rgb8>> {
            std::vector<Rgb8> spoilt;
            for (size_t i = 0; i < originals.size(); ++i) {
              NSIC_ASSIGN_OR_RETURN(Rgb8 one, spoil(originals[i].picture, i));
              spoilt.push_back(std::move(one));
            }
            return spoilt;
          }};
}

// Pictures of one size are the frames of one video.
Way AsVideo(std::string kind, VideoCodec codec, int crf) {
  return {std::move(kind), static_cast<double>(crf), [codec, crf](const std::vector<Original>& originals) -> Result<std::vector<Rgb8>> {
            std::map<std::pair<int, int>, std::vector<size_t>> of_size;
            for (size_t i = 0; i < originals.size(); ++i) {
              of_size[{originals[i].picture.size.width, originals[i].picture.size.height}].push_back(i);
            }
            std::vector<Rgb8> spoilt(originals.size());
            for (const auto& [size, indices] : of_size) {
              std::vector<Rgb8> frames;
              for (size_t i : indices) frames.push_back(originals[i].picture);
              NSIC_ASSIGN_OR_RETURN(std::vector<Rgb8> decoded, ThroughVideo(frames, codec, crf));
              for (size_t n = 0; n < indices.size(); ++n) spoilt[indices[n]] = std::move(decoded[n]);
            }
            return spoilt;
          }};
}

std::vector<Way> ScorerWays() {
  std::vector<Way> ways;
  for (int quality = kQualityStep; quality <= 100; quality += kQualityStep) {
    ways.push_back(EachByItself(kJpeg, quality, [quality](const Rgb8& picture, size_t) { return ThroughJpeg(picture, quality); }));
  }
  for (int quality : {5, 20, 40, 60, 80, 95}) {
    ways.push_back(EachByItself("WebP", quality, [quality](const Rgb8& picture, size_t) { return ThroughWebp(picture, quality); }));
  }
  for (int crf : {16, 22, 28, 34, 40, 46}) ways.push_back(AsVideo("H.264", VideoCodec::kH264, crf));
  for (int crf : {16, 22, 28, 34, 40, 46}) ways.push_back(AsVideo("HEVC", VideoCodec::kHevc, crf));
  for (double sigma : {0.4, 0.7, 1.0, 1.5, 2.5}) {
    ways.push_back(EachByItself("blur", sigma, [sigma](const Rgb8& picture, size_t) { return Blurred(picture, sigma); }));
  }
  for (double sigma : {2.0, 5.0, 10.0, 20.0, 35.0}) {
    ways.push_back(
        EachByItself("noise", sigma, [sigma](const Rgb8& picture, size_t i) -> Result<Rgb8> { return Noisy(picture, sigma, i); }));
  }
  for (double scale : {0.8, 0.6, 0.45, 0.3, 0.2}) {
    ways.push_back(EachByItself("rescaling", scale, [scale](const Rgb8& picture, size_t) { return Rescaled(picture, scale); }));
  }
  for (int block : {2, 3, 4, 6, 8}) {
    ways.push_back(
        EachByItself("mosaic", block, [block](const Rgb8& picture, size_t) -> Result<Rgb8> { return Mosaiced(picture, block); }));
  }
  return ways;
}

// One picture spoilt in one way, and what each scorer said of it.
struct Judged {
  size_t picture = 0;
  size_t kind = 0;
  int jpeg_quality = 0;
  double reference = 0;
  std::vector<double> scores;
};

struct NamedScorer {
  std::string name;
  std::function<Result<double>(const Rgb8&)> score;
  double seconds = 0;  // in `score`, over all ways
};

ScorerFigures FiguresOf(const std::vector<Judged>& judged, size_t scorer, size_t kinds, size_t pictures) {
  ScorerFigures figures;
  std::vector<double> said, truth;
  std::vector<std::vector<double>> said_of(kinds), truth_of(kinds);
  std::vector<std::vector<std::pair<int, double>>> jpegs(pictures);  // quality and score, qualities rising
  for (const Judged& one : judged) {
    said.push_back(one.scores[scorer]);
    truth.push_back(one.reference);
    said_of[one.kind].push_back(one.scores[scorer]);
    truth_of[one.kind].push_back(one.reference);
    figures.error += std::abs(one.scores[scorer] - one.reference) / static_cast<double>(judged.size());
    if (one.jpeg_quality > 0) jpegs[one.picture].emplace_back(one.jpeg_quality, one.scores[scorer]);
  }
  figures.spearman = RankCorrelation(said, truth);
  for (size_t kind = 0; kind < kinds; ++kind) figures.kind_spearman.push_back(RankCorrelation(said_of[kind], truth_of[kind]));
  int64_t pairs = 0, right = 0, monotone = 0;
  for (const auto& of_picture : jpegs) {
    bool rising = true;
    for (size_t i = 0; i < of_picture.size(); ++i) {
      for (size_t j = i + 1; j < of_picture.size(); ++j) {
        const bool in_order = of_picture[j].second > of_picture[i].second;
        ++pairs;
        right += in_order;
        if (j == i + 1) rising = rising && in_order;
      }
    }
    monotone += rising;
  }
  figures.pair_order = static_cast<double>(right) / static_cast<double>(pairs);
  figures.monotone = static_cast<double>(monotone) / static_cast<double>(pictures);
  return figures;
}

// For each picture the reference quality and each scorer's score; then each scorer's seconds.
Result<std::vector<double>> JudgeAll(const std::vector<Original>& originals, const std::vector<Rgb8>& spoilt,
                                     const std::vector<NamedScorer>& scorers, const Clock& clock) {
  std::vector<double> values, seconds(scorers.size());
  for (size_t i = 0; i < originals.size(); ++i) {
    values.push_back(
        ReferenceQualityOf(originals[i].picture.samples.data(), spoilt[i].samples.data(), spoilt[i].size.width, spoilt[i].size.height));
    for (size_t s = 0; s < scorers.size(); ++s) {
      const int64_t start_us = clock.MonotonicUs();
      NSIC_ASSIGN_OR_RETURN(const double said, scorers[s].score(spoilt[i]));
      seconds[s] += static_cast<double>(clock.MonotonicUs() - start_us) / 1e6;
      values.push_back(said);
    }
  }
  values.insert(values.end(), seconds.begin(), seconds.end());
  return values;
}

Status EvaluateScorer(const std::vector<Original>& originals, std::vector<NamedScorer> scorers, const Clock& clock, Measured* measured,
                      std::ostream& progress, ScorerEvaluation* evaluation) {
  std::vector<Judged> judged;
  double megapixels = 0;
  NSIC_ASSIGN_OR_RETURN(const std::vector<double> of_originals,
                        measured->Remember("originals", originals.size(), [&]() -> Result<std::vector<double>> {
                          std::vector<double> scores;
                          for (const Original& original : originals) {
                            NSIC_ASSIGN_OR_RETURN(const double said, scorers[0].score(original.picture));
                            scores.push_back(said);
                          }
                          return scores;
                        }));
  for (const double score : of_originals) evaluation->clean_score += score / static_cast<double>(originals.size());
  for (const Way& way : ScorerWays()) {
    if (evaluation->kinds.empty() || evaluation->kinds.back() != way.kind) {
      evaluation->kinds.push_back(way.kind);
      progress << "measuring on " << way.kind << std::endl;
    }
    std::ostringstream name;
    name << way.kind << " " << way.degree;
    const size_t count = originals.size() * (1 + scorers.size()) + scorers.size();
    NSIC_ASSIGN_OR_RETURN(const std::vector<double> values, measured->Remember(name.str(), count, [&]() -> Result<std::vector<double>> {
      NSIC_ASSIGN_OR_RETURN(const std::vector<Rgb8> spoilt, way.spoil(originals));
      return JudgeAll(originals, spoilt, scorers, clock);
    }));
    ScorerEvaluation::Degree mean{name.str(), 0, 0};
    auto value = values.begin();
    for (size_t i = 0; i < originals.size(); ++i) {
      Judged one{i, evaluation->kinds.size() - 1, way.kind == kJpeg ? static_cast<int>(way.degree) : 0, *value++, {}};
      for (size_t s = 0; s < scorers.size(); ++s) one.scores.push_back(*value++);
      mean.reference += one.reference / static_cast<double>(originals.size());
      mean.score += one.scores[0] / static_cast<double>(originals.size());
      megapixels += static_cast<double>(originals[i].picture.size.area()) / 1e6;
      judged.push_back(std::move(one));
    }
    for (NamedScorer& scorer : scorers) scorer.seconds += *value++;
    evaluation->degrees.push_back(std::move(mean));
  }
  for (size_t i = 0; i < scorers.size(); ++i) {
    ScorerFigures figures = FiguresOf(judged, i, evaluation->kinds.size(), originals.size());
    figures.name = scorers[i].name;
    if (scorers[i].seconds > 0) figures.megapixels_per_second = megapixels / scorers[i].seconds;
    evaluation->scorers.push_back(std::move(figures));
  }
  return OkStatus();
}

JpegTables TablesOf(int quality) {
  JpegTables tables;
  const std::array<int, 64> luma = LuminanceTable(quality), chroma = ChrominanceTable(quality);
  for (size_t i = 0; i < 64; ++i) {
    tables.luma[i] = static_cast<uint16_t>(luma[i]);
    tables.chroma[i] = static_cast<uint16_t>(chroma[i]);
  }
  return tables;
}

// A way to spoil that tells what the answer should be.
struct ClassifierSample {
  size_t degree;      // 0 clean, 1 light, 2 heavy, 3 mosaic
  int first_quality;  // compressed first, or 0
  int quality;        // of the file, or 0 when it is no JPEG
  int block;          // of a mosaic, made before the compression
};
constexpr ClassifierSample kClassifierSamples[] = {{0, 0, 0, 0}, {0, 0, 97, 0}, {1, 0, 65, 0}, {1, 0, 75, 0},  {1, 0, 85, 0},
                                                   {2, 0, 8, 0}, {2, 0, 20, 0}, {2, 0, 35, 0}, {2, 15, 90, 0}, {3, 0, 0, 2},
                                                   {3, 0, 0, 4}, {3, 0, 0, 8},  {3, 0, 85, 5}};

// For each picture the label's number that was said, and the one that was said without the JPEG's tables (of what is no JPEG: the same);
// then the megapixels that were looked at, and the seconds.
Result<std::vector<double>> ClassifyAll(const std::vector<Original>& originals, const ClassifierSample& sample, Classifier* classifier,
                                        const std::vector<std::string>& labels, const Clock& clock) {
  std::vector<double> values;
  double megapixels = 0, seconds = 0;
  for (const Original& original : originals) {
    Rgb8 picture = sample.block > 0 ? Mosaiced(original.picture, sample.block) : original.picture;
    for (int quality : {sample.first_quality, sample.quality}) {
      if (quality == 0) continue;
      NSIC_ASSIGN_OR_RETURN(picture, ThroughJpeg(picture, quality));
    }
    const PlanarImage planar = ToPlanar(picture);
    const auto classify = [&](const std::optional<JpegTables>& tables) -> Result<double> {
      const int64_t start_us = clock.MonotonicUs();
      NSIC_ASSIGN_OR_RETURN(const auto classes, classifier->Classify(planar, tables));
      seconds += static_cast<double>(clock.MonotonicUs() - start_us) / 1e6;
      megapixels += static_cast<double>(picture.size.area()) / 1e6;
      return static_cast<double>(std::find(labels.begin(), labels.end(), classes[0].first) - labels.begin());
    };
    std::optional<JpegTables> tables;
    if (sample.quality > 0) tables = TablesOf(sample.quality);
    NSIC_ASSIGN_OR_RETURN(const double said, classify(tables));
    values.push_back(said);
    if (!tables) {
      values.push_back(said);
      continue;
    }
    NSIC_ASSIGN_OR_RETURN(const double said_blindly, classify(std::nullopt));
    values.push_back(said_blindly);
  }
  values.insert(values.end(), {megapixels, seconds});
  return values;
}

Status EvaluateClassifier(const std::vector<Original>& originals, Classifier* classifier, const std::vector<std::string>& labels,
                          const Clock& clock, Measured* measured, std::ostream& progress, ClassifierEvaluation* evaluation) {
  evaluation->labels = labels;
  evaluation->confusion.assign(labels.size(), std::vector<int64_t>(labels.size()));
  int64_t asked = 0, right = 0, blind = 0, blind_right = 0;
  double megapixels = 0, seconds = 0;
  for (const ClassifierSample& sample : kClassifierSamples) {
    std::ostringstream name;
    name << "degree " << sample.degree << " of 3, JPEG quality " << sample.quality << ", before " << sample.first_quality << ", squares of "
         << sample.block;
    progress << "classifying " << name.str() << std::endl;
    NSIC_ASSIGN_OR_RETURN(const std::vector<double> values, measured->Remember(name.str(), 2 * originals.size() + 2, [&] {
      return ClassifyAll(originals, sample, classifier, labels, clock);
    }));
    auto value = values.begin();
    for (const Original& original : originals) {
      const size_t truth = sample.degree == 3 ? 6 : sample.degree + (original.drawing ? 3 : 0);
      const size_t said = static_cast<size_t>(*value++), said_blindly = static_cast<size_t>(*value++);
      ++evaluation->confusion[truth][said];
      ++asked;
      right += said == truth;
      if (sample.quality == 0) continue;
      ++blind;
      blind_right += said_blindly == truth;
    }
    megapixels += *value++;
    seconds += *value++;
  }
  evaluation->accuracy = static_cast<double>(right) / static_cast<double>(asked);
  evaluation->accuracy_without_tables = static_cast<double>(blind_right) / static_cast<double>(blind);
  if (seconds > 0) evaluation->megapixels_per_second = megapixels / seconds;
  return OkStatus();
}

double Rounded(double value) { return std::round(value * 1e4) / 1e4; }

json ScorerJson(const ScorerEvaluation& evaluation) {
  json scorers = json::array();
  for (const ScorerFigures& figures : evaluation.scorers) {
    json kinds = json::object();
    for (size_t i = 0; i < evaluation.kinds.size(); ++i) kinds[evaluation.kinds[i]] = Rounded(figures.kind_spearman[i]);
    scorers.push_back({{"name", figures.name},
                       {"spearman", Rounded(figures.spearman)},
                       {"spearman_of_kinds", kinds},
                       {"jpeg_pair_order", Rounded(figures.pair_order)},
                       {"jpeg_monotone", Rounded(figures.monotone)},
                       {"mean_error", Rounded(figures.error)}});
  }
  return scorers;
}

Status WriteToCard(const std::string& pack, const json& evaluation) {
  return WriteCardField(pack, "evaluation", evaluation.dump(-1, ' ', false, json::error_handler_t::replace));
}

}  // namespace

Result<JudgesEvaluation> EvaluateJudges(const EvaluateJudgesOptions& options, const Clock& clock, std::ostream& progress) {
  if (options.scorers.empty() && options.classifier.empty()) return InvalidArgumentError("give a scorer or a classifier to measure");
  EngineOptions engine;
  engine.device = options.device;
  engine.threads = options.threads;
  NSIC_ASSIGN_OR_RETURN(const std::vector<Original> originals, ReadOriginals(options, progress));
  JudgesEvaluation evaluation;
  for (const Original& original : originals) ++(original.drawing ? evaluation.drawings : evaluation.photographs);
  const json pictures = {{"photographs", evaluation.photographs}, {"drawings", evaluation.drawings}};
  std::vector<std::string> paths;
  for (const Original& original : originals) paths.push_back(original.path);
  const std::string on = " on " + options.device + " with " + std::to_string(options.threads) + " threads";
  if (!options.scorers.empty()) {
    std::vector<NamedScorer> scorers;
    std::string subject = "scorers" + on + ", BRISQUE of \"" + options.brisque + "\"";
    for (const std::string& folder : options.scorers) {
      NSIC_ASSIGN_OR_RETURN(const ModelPack pack, ReadModelPack(folder));
      NSIC_ASSIGN_OR_RETURN(std::unique_ptr<Scorer> loaded, LoadScorer(pack, engine));
      subject += ", " + PackIdentity(pack.card);
      scorers.push_back({pack.card.name, [scorer = std::shared_ptr<Scorer>(std::move(loaded))](const Rgb8& picture) -> Result<double> {
                           NSIC_ASSIGN_OR_RETURN(const PictureQuality quality, scorer->Score(ToPlanar(picture)));
                           return quality.score;
                         }});
    }
    if (!options.brisque.empty()) {
      NSIC_ASSIGN_OR_RETURN(auto brisque, LoadBrisque(options.brisque));
      scorers.push_back({"BRISQUE", std::move(brisque)});
    }
    NSIC_ASSIGN_OR_RETURN(Measured measured, Measured::Open(options.state, scorers[0].name, subject, paths));
    NSIC_RETURN_IF_ERROR(EvaluateScorer(originals, std::move(scorers), clock, &measured, progress, &evaluation.scorer));
    if (options.update_cards) {
      const json value = {{"pictures", pictures}, {"scorers", ScorerJson(evaluation.scorer)}};
      NSIC_RETURN_IF_ERROR(WriteToCard(options.scorers[0], value));
    }
  }
  if (!options.classifier.empty()) {
    NSIC_ASSIGN_OR_RETURN(const ModelPack pack, ReadModelPack(options.classifier));
    if (pack.card.labels != JudgeLabels()) return InvalidArgumentError(options.classifier + " is no classifier with our labels");
    NSIC_ASSIGN_OR_RETURN(const std::unique_ptr<Classifier> classifier, LoadClassifier(pack, engine));
    NSIC_ASSIGN_OR_RETURN(Measured measured,
                          Measured::Open(options.state, pack.card.name, "classifier" + on + ", " + PackIdentity(pack.card), paths));
    NSIC_RETURN_IF_ERROR(
        EvaluateClassifier(originals, classifier.get(), pack.card.labels, clock, &measured, progress, &evaluation.classifier));
    if (options.update_cards) {
      const json value = {{"pictures", pictures},
                          {"confusion", evaluation.classifier.confusion},
                          {"accuracy", Rounded(evaluation.classifier.accuracy)},
                          {"jpeg_accuracy_without_tables", Rounded(evaluation.classifier.accuracy_without_tables)}};
      NSIC_RETURN_IF_ERROR(WriteToCard(options.classifier, value));
    }
  }
  return evaluation;
}

std::string JudgesTable(const JudgesEvaluation& evaluation) {
  std::ostringstream out;
  out << std::fixed << std::setprecision(3) << evaluation.photographs << " photographs, " << evaluation.drawings << " drawings\n";
  const ScorerEvaluation& scorer = evaluation.scorer;
  if (!scorer.scorers.empty()) {
    out << "\nSpearman's correlation with the reference";
    for (const ScorerFigures& figures : scorer.scorers) out << std::setw(17) << figures.name;
    const auto row = [&](const std::string& name, const std::function<double(const ScorerFigures&)>& value) {
      out << "\n  " << std::left << std::setw(39) << name << std::right;
      for (const ScorerFigures& figures : scorer.scorers) out << std::setw(17) << value(figures);
    };
    row("all", [](const ScorerFigures& figures) { return figures.spearman; });
    for (size_t i = 0; i < scorer.kinds.size(); ++i)
      row(scorer.kinds[i], [i](const ScorerFigures& figures) { return figures.kind_spearman[i]; });
    out << "\nJPEG qualities of a picture";
    row("pairs 10 apart or more in order", [](const ScorerFigures& figures) { return figures.pair_order; });
    row("pictures with 10, 20 .. 100 in order", [](const ScorerFigures& figures) { return figures.monotone; });
    out << "\nother";
    row("mean distance from the reference", [](const ScorerFigures& figures) { return figures.error; });
    row("MP/s", [](const ScorerFigures& figures) { return figures.megapixels_per_second; });
    out << std::setprecision(1) << "\n\nMean over the pictures                     reference" << std::setw(17) << scorer.scorers[0].name;
    for (const ScorerEvaluation::Degree& degree : scorer.degrees) {
      out << "\n  " << std::left << std::setw(39) << degree.name << std::right << std::setw(11) << degree.reference << std::setw(17)
          << degree.score;
    }
    out << "\noriginals score " << scorer.clean_score << "\n" << std::setprecision(3);
  }
  const ClassifierEvaluation& classifier = evaluation.classifier;
  if (!classifier.labels.empty()) {
    out << "\n" << std::left << std::setw(18) << "is \\ said" << std::right;
    for (const std::string& label : classifier.labels) out << std::setw(18) << label;
    for (size_t i = 0; i < classifier.labels.size(); ++i) {
      out << "\n" << std::left << std::setw(18) << classifier.labels[i] << std::right;
      for (int64_t count : classifier.confusion[i]) out << std::setw(18) << count;
    }
    out << "\nright: " << 100 * classifier.accuracy << " %; JPEGs without their tables: " << 100 * classifier.accuracy_without_tables
        << " %; " << classifier.megapixels_per_second << " MP/s\n";
  }
  return out.str();
}

}  // namespace nsic
