#include "models/train/measure/side_by_side.h"

#include <vips/vips.h>

#include <cmath>
#include <iomanip>
#include <memory>
#include <opencv2/imgproc.hpp>
#include <sstream>
#include <utility>

#include "core/base/files.h"
#include "core/infer/engine.h"
#include "core/quality/metrics.h"
#include "models/io/model_pack.h"
#include "models/train/corpora/decode_picture.h"

namespace nsic {
namespace {

constexpr int kEnlarged = 2;
constexpr int kGap = 6;       // pixels between the pieces
constexpr int kCaption = 24;  // height of the line of text above them

struct Column {
  std::string name;
  cv::Mat piece;  // RGB
};

// Shares the samples of `picture`, which must outlive it.
cv::Mat PieceOf(const Rgb8& picture, const Rect& piece) {
  const cv::Mat all(picture.size.height, picture.size.width, CV_8UC3, const_cast<uint8_t*>(picture.samples.data()));
  return all(cv::Rect(piece.x, piece.y, piece.width, piece.height));
}

std::string Caption(const Column& column, const cv::Mat& original) {
  const double error = cv::norm(column.piece, original, cv::NORM_L2SQR) / static_cast<double>(original.total() * 3);
  if (error == 0) return column.name;
  std::ostringstream text;
  text << column.name << "  " << std::fixed << std::setprecision(2) << 10 * std::log10(255.0 * 255.0 / error) << " dB";
  return text.str();
}

cv::Mat Draw(const std::vector<Column>& columns) {
  const cv::Mat& original = columns.back().piece;
  const cv::Size size(original.cols * kEnlarged, original.rows * kEnlarged);
  const int count = static_cast<int>(columns.size());
  cv::Mat drawn(kCaption + size.height, count * size.width + (count - 1) * kGap, CV_8UC3, cv::Scalar::all(255));
  for (int i = 0; i < count; ++i) {
    const Column& column = columns[static_cast<size_t>(i)];
    const int left = i * (size.width + kGap);
    cv::Mat place = drawn(cv::Rect(cv::Point(left, kCaption), size));
    cv::resize(column.piece, place, size, 0, 0, cv::INTER_NEAREST);
    cv::putText(drawn, Caption(column, original), {left + 2, kCaption - 8}, cv::FONT_HERSHEY_SIMPLEX, 0.45, cv::Scalar::all(0), 1,
                cv::LINE_AA);
  }
  return drawn;
}

Status WritePng(const cv::Mat& picture, const std::string& path) {
  const std::unique_ptr<VipsImage, decltype(&g_object_unref)> image(
      vips_image_new_from_memory(picture.data, picture.total() * 3, picture.cols, picture.rows, 3, VIPS_FORMAT_UCHAR), g_object_unref);
  void* bytes = nullptr;
  size_t size = 0;
  if (image == nullptr || vips_pngsave_buffer(image.get(), &bytes, &size, "palette", FALSE, nullptr) != 0) {
    const std::string why = vips_error_buffer();
    vips_error_clear();
    return InternalError("cannot make a PNG: " + why);
  }
  const std::unique_ptr<void, decltype(&g_free)> file(bytes, g_free);
  return WriteFileAtomically(path, std::string(static_cast<const char*>(bytes), size));
}

}  // namespace

Status DrawSideBySide(const SideBySideOptions& options) {
  NSIC_ASSIGN_OR_RETURN(DecodedPicture decoded, DecodePicture(options.picture));
  Rgb8 original{{decoded.width, decoded.height}, std::move(decoded.rgb)};
  NSIC_ASSIGN_OR_RETURN(const Rgb8 spoilt, Spoil(options.spoiling, &original));
  const Rect& piece = options.piece;
  if (piece.empty() || !Rect{0, 0, spoilt.size.width, spoilt.size.height}.Contains(piece)) {
    return InvalidArgumentError("the piece is not in " + options.picture + ", which has " + std::to_string(spoilt.size.width) + "x" +
                                std::to_string(spoilt.size.height) + " pixels after spoiling");
  }
  std::vector<Rgb8> restored;
  std::vector<std::string> names;
  for (const std::string& folder : options.packs) {
    NSIC_ASSIGN_OR_RETURN(const ModelPack pack, ReadEnhancerToMeasure(folder));
    NSIC_ASSIGN_OR_RETURN(const std::unique_ptr<Enhancer> enhancer, LoadEnhancer(pack, EngineOptions()));
    NSIC_ASSIGN_OR_RETURN(Rgb8 picture, Restore(enhancer.get(), spoilt));
    restored.push_back(std::move(picture));
    names.push_back(pack.card.name);
  }
  std::vector<Column> columns = {{SpoilingName(options.spoiling), PieceOf(spoilt, piece)}};
  for (size_t i = 0; i < restored.size(); ++i) columns.push_back({names[i], PieceOf(restored[i], piece)});
  columns.push_back({"original", PieceOf(original, piece)});
  return WritePng(Draw(columns), options.out);
}

}  // namespace nsic
