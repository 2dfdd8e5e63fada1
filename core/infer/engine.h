// The engine: runs a model pack's network over a picture of any size within a memory budget. No LibTorch type appears here.
#ifndef NSIC_CORE_INFER_ENGINE_H_
#define NSIC_CORE_INFER_ENGINE_H_

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/base/cancel.h"
#include "core/base/geometry.h"
#include "core/base/planar_image.h"
#include "core/base/status.h"
#include "models/io/model_pack.h"

namespace nsic {

// kTensorFloat32: numbers are kept as fp32, and CUDA's tensor cores multiply them with 10 bits of fraction.
enum class Precision { kFloat32, kTensorFloat32, kBFloat16, kFloat16 };
std::string_view PrecisionName(Precision precision);  // "fp32", "tf32", "bf16", "fp16"
Result<Precision> ParsePrecision(std::string_view name);

struct EngineOptions {
  std::string device = "auto";  // "auto", "cpu", "cuda:0"
  int threads = 0;              // CPU threads of one inference; 0 means what SetEngineThreads set
  Precision precision = Precision::kFloat32;
  int64_t memory_budget = int64_t{1} << 30;  // bytes that a tile in flight and the blend band may take
};

// The device that `options.device` names, resolved: "cpu" or "cuda:N". INVALID_ARGUMENT if it is not there.
Result<std::string> ResolveDevice(const std::string& device);

// What this device has hardware for besides fp32; whether a model is any faster in it, or right, choose_precision.h measures. `device` is
// resolved.
std::vector<Precision> FasterPrecisions(const std::string& device);

// INVALID_ARGUMENT when the device, resolved, has no hardware for this precision.
Status CheckPrecision(const std::string& device, Precision precision);

// The software that computes on this device, resolved, with the driver where there is one: "LibTorch 1.13.1".
std::string EngineSoftware(const std::string& device);

// Sets the process-wide CPU thread count of LibTorch (Debian's starts with one); 0 means all cores. Call once, before any engine.
void SetEngineThreads(int threads);

// Gives the engine the source pixels of `rect`: writes 3 x rect.height x rect.width planar floats in [0, 1].
using ReadPixels = std::function<Status(const Rect& rect, float* planar)>;
// Takes finished pixels of `rect`, in output coordinates (input coordinates times scale), planar as above, in [0, 1].
using WritePixels = std::function<Status(const Rect& rect, const float* planar)>;

struct EnhanceStats {
  int64_t tiles = 0;           // inferred
  int64_t tiles_redone = 0;    // redone in fp32 because of NaN, Inf or flat output
  int64_t tiles_repeated = 0;  // of a frame: taken from the frames before
  int64_t batches_halved = 0;  // because memory ended
  int64_t pixels = 0;          // input pixels of the region
};

// Enhances the frames of a video, one after the other. A tile whose input has not changed repeats the output that it had, in place of
// another inference. Not thread-safe; each call is one of its enhancer.
class FrameEnhancer {
 public:
  virtual ~FrameEnhancer() = default;
  // `before` has 3 x height x width planar floats in [0, 1]; writes 3 x (scale * height) x (scale * width) to `after`. Both must stay as
  // they are until the next call has returned, which compares with the one and repeats from the other.
  // Errors as Enhancer::Enhance has them; after one this is of no more use.
  virtual Result<EnhanceStats> Enhance(const float* before, float* after, const CancelToken& cancel) = 0;
  // What is kept from frame to frame besides these, at most.
  virtual int64_t memory_bytes() const = 0;
};

// An enhancer, loaded. One call at a time; other threads may call Enhance on other Enhancers.
class Enhancer {
 public:
  virtual ~Enhancer() = default;
  virtual const ModelCard& card() const = 0;
  virtual Precision precision() const = 0;

  // Enhances `region` of a picture of size `picture`. Reads come tile by tile of the pack's grid, each rect inside the picture; writes
  // cover the region (scaled) exactly once, each rect one tile's output or rows of blended ones. The pixels written depend only on the
  // picture, the pack, the precision and the device, not on the region or the thread count. RESOURCE_EXHAUSTED when one tile alone does not
  // fit the memory budget; DATA_LOSS when output stays NaN or Inf in fp32.
  virtual Result<EnhanceStats> Enhance(Size picture, const Rect& region, const ReadPixels& read, const WritePixels& write,
                                       const CancelToken& cancel) = 0;

  // For frames of this size. The pixels are those that Enhance gives for each, bit for bit, with a `threshold` of 0. With one above, a
  // tile repeats while no sample of its input differs by more from the input that its output was computed from, so that nothing drifts.
  // The enhancer must outlive what it returns.
  virtual std::unique_ptr<FrameEnhancer> ForFrames(Size frame, float threshold) = 0;
};

// INVALID_ARGUMENT when a tensor is missing, extra or of the wrong shape (named), the pack is no enhancer, or the device does not compute
// in options.precision.
Result<std::unique_ptr<Enhancer>> LoadEnhancer(const ModelPack& pack, const EngineOptions& options);

// How good a picture looks by itself, without the original beside it.
struct PictureQuality {
  double score = 0;  // 0 (worst) to 100 (best); 90 and above: no loss to be seen at the size it is shown
  int tile = 0;      // side of the squares that `map` scores, in pixels of the picture
  int columns = 0;   // of the map
  int rows = 0;
  std::vector<double> map;  // a score for each tile, row by row; the last of a row or column is shifted back to end at the border
};

// Looks at every pixel at its native size, tile by tile. The original NS-IQA sees the whole picture resized to 256x256 instead: its map is
// one tile, as long as the picture's longer side.
// One call at a time; other threads may use other Scorers. The scores do not depend on the number of threads.
class Scorer {
 public:
  virtual ~Scorer() = default;
  // INVALID_ARGUMENT unless the picture has three channels; DATA_LOSS when it has NaN or Inf.
  virtual Result<PictureQuality> Score(const PlanarImage& picture) = 0;
};
Result<std::unique_ptr<Scorer>> LoadScorer(const ModelPack& pack, const EngineOptions& options);

// The quantisation tables of a JPEG file, in row order (the zigzag undone). A grey one's chroma equals its luma.
struct JpegTables {
  std::array<uint16_t, 64> luma{};
  std::array<uint16_t, 64> chroma{};
};

// Says what a picture is and what was done to it, from what it sees in up to 16 crops of native resolution together; the original NS-C sees
// the whole picture resized to 256x256 instead, and no tables. One call at a time; other threads may use other Classifiers.
class Classifier {
 public:
  virtual ~Classifier() = default;
  // Label and probability for each class, most probable first; probabilities sum to 1. `jpeg`: of the file that the picture is from, where
  // it was a JPEG. Errors as Scorer::Score has them.
  virtual Result<std::vector<std::pair<std::string, double>>> Classify(const PlanarImage& picture,
                                                                       const std::optional<JpegTables>& jpeg) = 0;
};
Result<std::unique_ptr<Classifier>> LoadClassifier(const ModelPack& pack, const EngineOptions& options);

}  // namespace nsic

#endif  // NSIC_CORE_INFER_ENGINE_H_
