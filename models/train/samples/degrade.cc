#include "models/train/samples/degrade.h"

#include <torch/torch.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <utility>

#include "models/train/samples/jpeg_simulation.h"
#include "models/train/samples/random.h"
#include "models/train/samples/video_simulation.h"

namespace nsic {
namespace {

using at::Tensor;

// The generators of the pictures of a batch, in order.
using Randoms = std::vector<Random*>;

double Draw(const Range& range, Random* random) { return range.low + (range.high - range.low) * random->Unit(); }

int64_t DrawWhole(const Range& range, Random* random) {
  const int64_t low = std::llround(range.low), high = std::llround(range.high);
  return low + random->Below(high - low + 1);
}

Tensor Round(const Tensor& x) { return x.add(0.5).floor_().clamp_(0.0, 255.0); }

Tensor IndexTensor(const std::vector<int64_t>& indices, const at::Device& device) { return torch::tensor(indices, at::kLong).to(device); }

// Replaces the pictures of `x` that `indices` name by what `change` makes of them, given as one batch.
void ChangeSome(Tensor* x, const std::vector<int64_t>& indices, const std::function<Tensor(const Tensor&)>& change) {
  if (indices.empty()) return;
  const Tensor index = IndexTensor(indices, x->device());
  x->index_copy_(0, index, change(x->index_select(0, index)));
}

// A linear map of rows or columns for each picture: N x to x from, applied as left * picture * right^T. Blur, resampling and mosaics are
// such maps, and as matrices pictures of different strengths make one batch.
Tensor Apply(const Tensor& left, const Tensor& x, const Tensor& right) {
  return at::matmul(at::matmul(left.unsqueeze(1), x), right.transpose(1, 2).unsqueeze(1));
}

double Kernel(Resampling resampling, double x) {
  x = std::abs(x);
  const auto sinc = [](double t) { return t == 0 ? 1.0 : std::sin(M_PI * t) / (M_PI * t); };
  switch (resampling) {
    case Resampling::kBox: return x <= 0.5 + 1e-6 ? 1 : 0;  // of two samples at the same distance, both
    case Resampling::kTriangle: return std::max(0.0, 1 - x);
    case Resampling::kCubic:  // a = -0.5
      return x < 1 ? (1.5 * x - 2.5) * x * x + 1 : x < 2 ? ((-0.5 * x + 2.5) * x - 4) * x + 2 : 0;
    case Resampling::kLanczos: return x < 3 ? sinc(x) * sinc(x / 3) : 0;
  }
  return 0;
}

double Reach(Resampling resampling) {
  switch (resampling) {
    case Resampling::kBox: return 0.5;
    case Resampling::kTriangle: return 1;
    case Resampling::kCubic: return 2;
    case Resampling::kLanczos: return 3;
  }
  return 0;
}

// Resamples `from` samples to `to`, into row `picture` of `matrices`; rows after the last repeat it, columns after the last stay zero.
void FillResampling(Resampling resampling, int64_t from, int64_t to, int64_t picture, Tensor* matrices) {
  auto matrix = matrices->accessor<float, 3>()[picture];
  const double step = static_cast<double>(from) / static_cast<double>(to), widen = std::max(1.0, step);
  const double reach = Reach(resampling) * widen;
  for (int64_t row = 0; row < matrices->size(1); ++row) {
    const double centre = (static_cast<double>(std::min(row, to - 1)) + 0.5) * step;
    const int64_t first = std::max(int64_t{0}, static_cast<int64_t>(std::floor(centre - reach)));
    const int64_t last = std::min(from - 1, static_cast<int64_t>(std::ceil(centre + reach)));
    double sum = 0;
    for (int64_t i = first; i <= last; ++i) sum += Kernel(resampling, (static_cast<double>(i) + 0.5 - centre) / widen);
    for (int64_t i = first; i <= last; ++i) {
      matrix[row][i] = static_cast<float>(Kernel(resampling, (static_cast<double>(i) + 0.5 - centre) / widen) / sum);
    }
  }
}

// To a size of its own for each picture, through `work`, and back. All lie at the top left of frames of the largest size, their last row
// and column repeated.
Tensor AtOtherSize(const Tensor& x, const Range& scale, const std::vector<Resampling>& choice, const Randoms& randoms,
                   const std::function<Tensor(const Tensor&)>& work) {
  const int64_t count = x.size(0), height = x.size(2), width = x.size(3);
  struct Size {
    int64_t height, width;
    Resampling there, back;
  };
  const auto scaled = [](int64_t side, double by) { return std::max<int64_t>(1, std::llround(by * static_cast<double>(side))); };
  const int64_t tallest = scaled(height, scale.high), widest = scaled(width, scale.high);
  std::vector<Size> sizes;
  for (Random* random : randoms) {
    const double factor = Draw(scale, random);
    const auto draw = [&] { return choice[static_cast<size_t>(random->Below(static_cast<int64_t>(choice.size())))]; };
    Size size{scaled(height, factor), scaled(width, factor), {}, {}};
    size.there = draw();
    size.back = draw();
    sizes.push_back(size);
  }
  Tensor there_rows = torch::zeros({count, tallest, height}), there_columns = torch::zeros({count, widest, width});
  Tensor back_rows = torch::zeros({count, height, tallest}), back_columns = torch::zeros({count, width, widest});
  for (int64_t n = 0; n < count; ++n) {
    const Size& size = sizes[static_cast<size_t>(n)];
    FillResampling(size.there, height, size.height, n, &there_rows);
    FillResampling(size.there, width, size.width, n, &there_columns);
    FillResampling(size.back, size.height, height, n, &back_rows);
    FillResampling(size.back, size.width, width, n, &back_columns);
  }
  const at::Device device = x.device();
  const Tensor there = Round(Apply(there_rows.to(device), x, there_columns.to(device)));
  return Round(Apply(back_rows.to(device), work(there), back_columns.to(device)));
}

// Moves each picture down by rows[n] and right by columns[n] in a frame larger by `room` each way; edges are repeated outwards. Negative
// numbers move up and left. The frame's size is the picture's plus `room`.
Tensor Move(const Tensor& x, const std::vector<int64_t>& rows, const std::vector<int64_t>& columns, int64_t room) {
  const at::Device device = x.device();
  const int64_t count = x.size(0), height = x.size(2), width = x.size(3);
  const auto sources = [&](const std::vector<int64_t>& by, int64_t side) {
    return at::arange(side + room, at::TensorOptions(at::kLong).device(device))
        .unsqueeze(0)
        .sub(IndexTensor(by, device).unsqueeze(1))
        .clamp(0, side - 1);
  };
  const Tensor from_row = sources(rows, height).view({count, 1, height + room, 1});
  const Tensor from_column = sources(columns, width).view({count, 1, 1, width + room});
  return x.gather(2, from_row.expand({count, 3, height + room, width}))
      .gather(3, from_column.expand({count, 3, height + room, width + room}));
}

struct Compression {
  std::vector<int64_t> quality;
  std::vector<bool> halved;  // 4:2:0
};

Tensor Compress(const Tensor& rgb, const Compression& compression) {
  Tensor x = rgb.clone();
  for (const bool halved : {false, true}) {
    std::vector<int64_t> indices, quality;
    for (size_t n = 0; n < compression.halved.size(); ++n) {
      if (compression.halved[n] != halved) continue;
      indices.push_back(static_cast<int64_t>(n));
      quality.push_back(compression.quality[n]);
    }
    ChangeSome(&x, indices, [&](const Tensor& some) {
      return SimulateJpeg(some, torch::tensor(quality, at::kLong), halved ? ChromaSampling::k420 : ChromaSampling::k444);
    });
  }
  return x;
}

Tensor Take(const JpegStep& step, const Tensor& rgb, const Randoms& randoms) {
  struct Twice {
    std::vector<int64_t> indices;
    Compression first;
    std::vector<int64_t> down, right;
    Randoms randoms;
  };
  Compression last;
  Twice shifted, resized;
  for (size_t n = 0; n < randoms.size(); ++n) {
    Random* random = randoms[n];
    const double range = step.quality.high - step.quality.low;
    last.quality.push_back(std::llround(step.quality.low + range * std::pow(random->Unit(), step.skew)));
    last.halved.push_back(random->Chance(step.halved_chroma));
    const double way = random->Unit();
    if (way >= step.shifted + step.resized) continue;
    Twice& twice = way < step.shifted ? shifted : resized;
    twice.indices.push_back(static_cast<int64_t>(n));
    twice.first.quality.push_back(DrawWhole(step.first_quality, random));
    twice.first.halved.push_back(random->Chance(step.halved_chroma));
    twice.down.push_back(DrawWhole(step.shift, random));
    twice.right.push_back(DrawWhole(step.shift, random));
    twice.randoms.push_back(random);
  }
  Tensor x = rgb.clone();
  ChangeSome(&x, shifted.indices, [&](const Tensor& some) {
    const Tensor first = Compress(Move(some, shifted.down, shifted.right, std::llround(step.shift.high)), shifted.first);
    std::vector<int64_t> up, left;
    for (int64_t by : shifted.down) up.push_back(-by);
    for (int64_t by : shifted.right) left.push_back(-by);
    return Move(first, up, left, 0).slice(2, 0, some.size(2)).slice(3, 0, some.size(3));
  });
  ChangeSome(&x, resized.indices, [&](const Tensor& some) {
    return AtOtherSize(some, step.scale, step.resampling, resized.randoms,
                       [&](const Tensor& there) { return Compress(there, resized.first); });
  });
  return Compress(x, last);
}

Tensor Take(const MosaicStep& step, const Tensor& x, const Randoms& randoms) {
  const int64_t count = x.size(0), height = x.size(2), width = x.size(3);
  // Row i, column j: 1 where samples i and j lie in one block.
  Tensor rows = torch::zeros({count, height, height}), columns = torch::zeros({count, width, width});
  const auto fill = [](Tensor* matrices, int64_t n, int64_t begin, int64_t end, int64_t offset, int64_t block) {
    auto matrix = matrices->accessor<float, 3>()[n];
    for (int64_t i = begin; i < end; ++i) {
      const int64_t start = i - (i - begin + offset) % block;
      for (int64_t j = std::max(begin, start); j < std::min(end, start + block); ++j) matrix[i][j] = 1;
    }
  };
  for (int64_t n = 0; n < count; ++n) {
    Random* random = randoms[static_cast<size_t>(n)];
    const int64_t block = DrawWhole(step.block, random);
    const bool region = random->Chance(step.region);
    const auto axis = [&](Tensor* matrices, int64_t side) {
      if (!region) return fill(matrices, n, 0, side, random->Below(block), block);
      const int64_t length = DrawWhole({static_cast<double>((side + 7) / 8), static_cast<double>(side)}, random);
      const int64_t begin = random->Below(side - length + 1);
      fill(matrices, n, begin, begin + length, 0, block);
    };
    axis(&rows, height);
    axis(&columns, width);
  }
  rows = rows.to(x.device());
  columns = columns.to(x.device());
  // The sums are whole numbers that fp32 holds exactly.
  const Tensor pixels = rows.sum(2).view({count, 1, height, 1}) * columns.sum(2).view({count, 1, 1, width});
  return at::where(pixels > 0, Round(Apply(rows, x, columns) / pixels.clamp_min(1.0)), x);
}

// A generator of the device's kind, to be seeded for each picture.
at::Generator NewGenerator(const at::Device& device) { return at::globalContext().defaultGenerator(device).clone(); }

Tensor Take(const GaussianNoiseStep& step, const Tensor& rgb, const Randoms& randoms) {
  Tensor x = rgb.clone();
  at::Generator generator = NewGenerator(x.device());
  for (size_t n = 0; n < randoms.size(); ++n) {
    Tensor picture = x.select(0, static_cast<int64_t>(n));
    const double sigma = Draw(step.sigma, randoms[n]);
    const int64_t channels = randoms[n]->Chance(step.grey) ? 1 : 3;
    generator.set_current_seed(randoms[n]->Next());
    picture.add_(torch::empty({channels, x.size(2), x.size(3)}, x.options()).normal_(0, sigma, generator));
  }
  return Round(x);
}

Tensor Take(const PoissonNoiseStep& step, const Tensor& rgb, const Randoms& randoms) {
  Tensor x = rgb.clone();
  at::Generator generator = NewGenerator(x.device());
  for (size_t n = 0; n < randoms.size(); ++n) {
    Tensor picture = x.select(0, static_cast<int64_t>(n));
    const double photons = std::exp(Draw({std::log(step.photons.low), std::log(step.photons.high)}, randoms[n]));
    generator.set_current_seed(randoms[n]->Next());
    picture.copy_(at::poisson(picture.mul(photons / 255), generator).mul_(255 / photons));
  }
  return Round(x);
}

Tensor Take(const BlurStep& step, const Tensor& x, const Randoms& randoms) {
  const int64_t count = x.size(0), height = x.size(2), width = x.size(3);
  Tensor rows = torch::zeros({count, height, height}), columns = torch::zeros({count, width, width});
  const auto fill = [](Tensor* matrices, int64_t n, double sigma) {
    auto matrix = matrices->accessor<float, 3>()[n];
    const int64_t radius = static_cast<int64_t>(std::ceil(4 * sigma)), side = matrices->size(1);
    std::vector<double> weights;
    double sum = 0;
    for (int64_t d = -radius; d <= radius; ++d) {
      weights.push_back(std::exp(-0.5 * static_cast<double>(d * d) / (sigma * sigma)));
      sum += weights.back();
    }
    for (int64_t i = 0; i < side; ++i) {
      for (int64_t d = -radius; d <= radius; ++d) {
        matrix[i][std::clamp<int64_t>(i + d, 0, side - 1)] += static_cast<float>(weights[static_cast<size_t>(d + radius)] / sum);
      }
    }
  };
  for (int64_t n = 0; n < count; ++n) {
    Random* random = randoms[static_cast<size_t>(n)];
    const double across = Draw(step.sigma, random), other = Draw(step.sigma, random);
    fill(&columns, n, across);
    fill(&rows, n, random->Chance(step.stretched) ? other : across);
  }
  return Round(Apply(rows.to(x.device()), x, columns.to(x.device())));
}

Tensor Take(const RescaleStep& step, const Tensor& x, const Randoms& randoms) {
  return AtOtherSize(x, step.scale, step.resampling, randoms, [](const Tensor& there) { return there; });
}

Tensor Take(const VideoStep& step, const Tensor& x, const Randoms& randoms) {
  std::vector<VideoSettings> settings;
  for (Random* random : randoms) {
    const int64_t quantiser = DrawWhole(step.quantiser, random);
    const int64_t block = int64_t{1} << DrawWhole({std::log2(step.block.low), std::log2(step.block.high)}, random);
    settings.push_back({quantiser, block, Draw(step.adaptive, random)});
  }
  return SimulateVideo(x, settings);
}

// The steps that a picture takes, one for each turn; -1 where it rests.
std::vector<int64_t> DrawOrder(const Degradation& degradation, Random* random) {
  std::vector<int64_t> order(degradation.steps.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = static_cast<int64_t>(i);
  if (degradation.shuffled) {
    for (size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[static_cast<size_t>(random->Below(static_cast<int64_t>(i)))]);
  }
  const bool clean = random->Chance(degradation.clean);
  for (int64_t& step : order) {
    if (!random->Chance(degradation.steps[static_cast<size_t>(step)].share) || clean) step = -1;
  }
  return order;
}

}  // namespace

Tensor Degrade(const Tensor& rgb, const std::vector<uint64_t>& seeds, const Degradation& degradation) {
  const at::NoGradGuard no_grad;
  TORCH_CHECK(rgb.dim() == 4 && rgb.size(0) == static_cast<int64_t>(seeds.size()), "a seed for each picture");
  std::vector<Random> randoms;
  std::vector<std::vector<int64_t>> orders;
  for (uint64_t seed : seeds) {
    randoms.emplace_back(seed);
    orders.push_back(DrawOrder(degradation, &randoms.back()));
  }
  Tensor x = rgb.clone();
  for (size_t turn = 0; turn < degradation.steps.size(); ++turn) {
    for (size_t step = 0; step < degradation.steps.size(); ++step) {
      std::vector<int64_t> indices;
      Randoms theirs;
      for (size_t n = 0; n < orders.size(); ++n) {
        if (orders[n][turn] != static_cast<int64_t>(step)) continue;
        indices.push_back(static_cast<int64_t>(n));
        theirs.push_back(&randoms[n]);
      }
      ChangeSome(&x, indices, [&](const Tensor& some) {
        return std::visit([&](const auto& kind) { return Take(kind, some, theirs); }, degradation.steps[step].kind);
      });
    }
  }
  return x;
}

}  // namespace nsic
