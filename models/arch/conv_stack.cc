#include "models/arch/conv_stack.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "models/arch/conv_stack.cc"
#include <hwy/foreach_target.h>
// After foreach_target.
#include <hwy/aligned_allocator.h>
#include <hwy/highway.h>
#include <omp.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <utility>

#ifndef NSIC_MODELS_ARCH_CONV_STACK_SHARED_
#define NSIC_MODELS_ARCH_CONV_STACK_SHARED_
namespace nsic {
namespace {

constexpr int kOut = 4;  // outputs a tile, each way
constexpr int kIn = 6;   // inputs a tile, each way
constexpr int kPoints = kIn * kIn;
constexpr int kChannelAlign = 16;  // the widest vector: every channel count is padded to it
// Tiles that pass through transform, product and inverse together. With few channels, so many that what they are transformed to stays in
// the cache; with many, where the weights do not stay there either, more, so that those are read less often.
constexpr int kFewTiles = 16;
constexpr int kManyTiles = 64;
constexpr int kManyChannels = 128;

constexpr int RoundUp(int value, int multiple) { return (value + multiple - 1) / multiple * multiple; }

// One layer's work on one picture. The input is padded: pixel (x, y) lies at ((y + 1) * row_pixels + x + 1) * in_stride.
struct LayerJob {
  const float* input;
  float* output;         // pixel (0, 0)
  int64_t output_row;    // floats from one row to the next
  int64_t output_pixel;  // floats from one pixel to the next
  const float* weights;  // [point][in][out padded]
  const float* bias;     // [out padded]
  const float* slope;    // [out padded]
  int in_channels;
  int in_stride;   // in_channels padded
  int out_stride;  // out_channels padded
  int height;
  int width;
  int row_pixels;
  int block;  // tiles at once
};

// A tile's first pixel.
struct TilePlace {
  int y;
  int x;
  void Next(int width) {
    x += kOut;
    if (x < width) return;
    x = 0;
    y += kOut;
  }
};

// Where a thread keeps one block of tiles between the stages.
struct Scratch {
  float* transformed;  // [point][block][in_stride]
  float* products;     // [point][block][out_stride]
};

}  // namespace
}  // namespace nsic
#endif  // NSIC_MODELS_ARCH_CONV_STACK_SHARED_

HWY_BEFORE_NAMESPACE();
namespace nsic {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using D = hn::CappedTag<float, kChannelAlign>;
using V = hn::Vec<D>;

// B^T d, one column or row of six.
HWY_INLINE void InputTransform(const V& d0, const V& d1, const V& d2, const V& d3, const V& d4, const V& d5, V* r) {
  const D d;
  const V two = hn::Set(d, 2.0f), four = hn::Set(d, 4.0f), five = hn::Set(d, 5.0f);
  const V a = hn::NegMulAdd(four, d2, d4);  // d4 - 4 d2
  const V b = hn::NegMulAdd(four, d1, d3);  // d3 - 4 d1
  const V e = hn::Sub(d4, d2);
  const V f = hn::Mul(two, hn::Sub(d3, d1));
  r[0] = hn::MulAdd(four, d0, hn::NegMulAdd(five, d2, d4));
  r[1] = hn::Add(a, b);
  r[2] = hn::Sub(a, b);
  r[3] = hn::Add(e, f);
  r[4] = hn::Sub(e, f);
  r[5] = hn::MulAdd(four, d1, hn::NegMulAdd(five, d3, d5));
}

// A^T m, one column or row of six.
HWY_INLINE void OutputTransform(const V& m0, const V& m1, const V& m2, const V& m3, const V& m4, const V& m5, V* r) {
  const D d;
  const V two = hn::Set(d, 2.0f), four = hn::Set(d, 4.0f), eight = hn::Set(d, 8.0f);
  const V s12 = hn::Add(m1, m2), d12 = hn::Sub(m1, m2);
  const V s34 = hn::Add(m3, m4), d34 = hn::Sub(m3, m4);
  r[0] = hn::Add(hn::Add(m0, s12), s34);
  r[1] = hn::MulAdd(two, d34, d12);
  r[2] = hn::MulAdd(four, s34, s12);
  r[3] = hn::Add(hn::MulAdd(eight, d34, d12), m5);
}

// products[t][o] = sum over i of transformed[t][i] * weights[i][o], for kTiles tiles and kVectors vectors of outputs.
template <int kTiles, int kVectors>
HWY_INLINE void MultiplyBlock(const float* HWY_RESTRICT transformed, int in_stride, const float* HWY_RESTRICT weights, int out_stride,
                              int in_channels, float* HWY_RESTRICT products) {
  const D d;
  const int lanes = static_cast<int>(hn::Lanes(d));
  V sums[kTiles][kVectors];
  for (int t = 0; t < kTiles; ++t) {
    for (int v = 0; v < kVectors; ++v) sums[t][v] = hn::Zero(d);
  }
  for (int i = 0; i < in_channels; ++i) {
    V w[kVectors];
    for (int v = 0; v < kVectors; ++v) w[v] = hn::Load(d, weights + static_cast<ptrdiff_t>(i) * out_stride + v * lanes);
    for (int t = 0; t < kTiles; ++t) {
      const V x = hn::Set(d, transformed[static_cast<ptrdiff_t>(t) * in_stride + i]);
      for (int v = 0; v < kVectors; ++v) sums[t][v] = hn::MulAdd(x, w[v], sums[t][v]);
    }
  }
  for (int t = 0; t < kTiles; ++t) {
    for (int v = 0; v < kVectors; ++v) hn::Store(sums[t][v], d, products + static_cast<ptrdiff_t>(t) * out_stride + v * lanes);
  }
}

void Multiply(const LayerJob& job, const Scratch& scratch, int tiles) {
  const D d;
  const int lanes = static_cast<int>(hn::Lanes(d));
  constexpr int kTiles = HWY_TARGET <= HWY_AVX3 || HWY_ARCH_ARM_A64 ? 8 : 4;  // as many sums as the registers hold
  constexpr int kVectors = HWY_ARCH_ARM_A64 ? 2 : 3;
  const int vectors = job.out_stride / lanes;
  for (int p = 0; p < kPoints; ++p) {
    const float* weights = job.weights + static_cast<ptrdiff_t>(p) * job.in_channels * job.out_stride;
    for (int v = 0; v < vectors;) {
      const int step = vectors - v >= kVectors ? kVectors : 1;
      for (int t = 0; t < tiles; t += kTiles) {
        const float* in = scratch.transformed + (static_cast<ptrdiff_t>(p) * job.block + t) * job.in_stride;
        float* out = scratch.products + (static_cast<ptrdiff_t>(p) * job.block + t) * job.out_stride + v * lanes;
        if (step == kVectors) {
          MultiplyBlock<kTiles, kVectors>(in, job.in_stride, weights + v * lanes, job.out_stride, job.in_channels, out);
        } else {
          MultiplyBlock<kTiles, 1>(in, job.in_stride, weights + v * lanes, job.out_stride, job.in_channels, out);
        }
      }
      v += step;
    }
  }
}

// The tiles from `begin` to `end`, numbered row by row.
void RunTiles(const LayerJob& job, const Scratch& scratch, int begin, int end) {
  const D d;
  const int lanes = static_cast<int>(hn::Lanes(d));
  const ptrdiff_t in_row = static_cast<ptrdiff_t>(job.row_pixels) * job.in_stride;
  const int columns = (job.width + kOut - 1) / kOut;
  for (int first = begin; first < end; first += job.block) {
    const int tiles = std::min(job.block, end - first);
    const TilePlace start{first / columns * kOut, first % columns * kOut};
    TilePlace place = start;
    for (int t = 0; t < tiles; ++t, place.Next(job.width)) {
      const auto [y, x0] = place;
      const float* corner = job.input + y * in_row + static_cast<ptrdiff_t>(x0) * job.in_stride;
      for (int c = 0; c < job.in_stride; c += lanes) {
        V columns_done[kIn][kIn];  // [row of the transform][column]
        for (int x = 0; x < kIn; ++x) {
          const float* at = corner + static_cast<ptrdiff_t>(x) * job.in_stride + c;
          V r[kIn];
          InputTransform(hn::Load(d, at), hn::Load(d, at + in_row), hn::Load(d, at + 2 * in_row), hn::Load(d, at + 3 * in_row),
                         hn::Load(d, at + 4 * in_row), hn::Load(d, at + 5 * in_row), r);
          for (int k = 0; k < kIn; ++k) columns_done[k][x] = r[k];
        }
        for (int k = 0; k < kIn; ++k) {
          const V* row = columns_done[k];
          V r[kIn];
          InputTransform(row[0], row[1], row[2], row[3], row[4], row[5], r);
          for (int j = 0; j < kIn; ++j) {
            hn::Store(r[j], d, scratch.transformed + (static_cast<ptrdiff_t>(k * kIn + j) * job.block + t) * job.in_stride + c);
          }
        }
      }
    }

    Multiply(job, scratch, tiles);

    place = start;
    for (int t = 0; t < tiles; ++t, place.Next(job.width)) {
      const auto [y, x0] = place;
      const int rows = std::min(kOut, job.height - y);
      const int across = std::min(kOut, job.width - x0);
      float* corner = job.output + y * job.output_row + x0 * job.output_pixel;
      for (int c = 0; c < job.out_stride; c += lanes) {
        const V bias = hn::Load(d, job.bias + c);
        const V slope = hn::Load(d, job.slope + c);
        V rows_done[kOut][kIn];
        for (int j = 0; j < kIn; ++j) {
          const float* at = scratch.products + (static_cast<ptrdiff_t>(j) * job.block + t) * job.out_stride + c;
          const ptrdiff_t step = static_cast<ptrdiff_t>(kIn) * job.block * job.out_stride;
          V r[kOut];
          OutputTransform(hn::Load(d, at), hn::Load(d, at + step), hn::Load(d, at + 2 * step), hn::Load(d, at + 3 * step),
                          hn::Load(d, at + 4 * step), hn::Load(d, at + 5 * step), r);
          for (int k = 0; k < kOut; ++k) rows_done[k][j] = r[k];
        }
        for (int k = 0; k < rows; ++k) {
          const V* row = rows_done[k];
          V r[kOut];
          OutputTransform(row[0], row[1], row[2], row[3], row[4], row[5], r);
          for (int j = 0; j < across; ++j) {
            const V sum = hn::Add(r[j], bias);
            hn::Store(hn::IfThenElse(hn::Lt(sum, hn::Zero(d)), hn::Mul(sum, slope), sum), d,
                      corner + k * job.output_row + j * job.output_pixel + c);
          }
        }
      }
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace nsic
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace nsic {
HWY_EXPORT(RunTiles);

namespace {

using Floats = hwy::AlignedFreeUniquePtr<float[]>;

Floats ZeroFloats(int64_t count) {
  HWY_ASSERT(count > 0);
  Floats floats = hwy::AllocateAligned<float>(static_cast<size_t>(count));
  std::memset(floats.get(), 0, static_cast<size_t>(count) * sizeof(float));
  return floats;
}

int BlockOf(int channels) { return channels >= kManyChannels ? kManyTiles : kFewTiles; }
int PaddedLength(int length) { return RoundUp(length, kOut) + 2; }
int64_t PaddedPixels(int height, int width) { return int64_t{PaddedLength(height)} * PaddedLength(width); }

// The zeros around the picture that the convolution reads.
void ClearBorder(float* picture, int height, int width, int stride) {
  const int64_t row = int64_t{PaddedLength(width)} * stride;
  std::fill(picture, picture + row, 0.0f);
  for (int y = 1; y <= height; ++y) {
    float* at = picture + y * row;
    std::fill(at, at + stride, 0.0f);
    std::fill(at + int64_t{width + 1} * stride, at + row, 0.0f);
  }
  std::fill(picture + (height + 1) * row, picture + PaddedLength(height) * row, 0.0f);
}

// Where the samples of a picture are, by rows of cells.
struct Samples {
  bool interleaved;
  int fold;
  int pixel;  // as Input has it
  int channels;
  int height;
  int width;

  int64_t pixel_floats() const { return pixel > 0 ? pixel : channels; }

  // Calls visit(channel, at, step, count) for each run of `count` channels from `channel` on that lie side by side: those of the row's
  // first cell begin at `at`, those of each further one `step` behind.
  template <typename Visit>
  void ForEachRun(int y, const Visit& visit) const {
    if (interleaved) return visit(0, y * width * pixel_floats(), pixel_floats(), channels);
    for (int channel = 0; channel < channels; channel += fold) {
      const int plane = channel / (fold * fold), line = channel / fold % fold;
      visit(channel, ((int64_t{plane} * height + y) * fold + line) * width * fold, int64_t{fold}, fold);
    }
  }
};

// Quicker than a call for the two or three samples of a folded picture.
inline void CopySamples(const float* from, int count, float* to) {
  if (count >= kChannelAlign) {
    std::copy_n(from, count, to);
  } else {
    for (int c = 0; c < count; ++c) to[c] = from[c];
  }
}

}  // namespace

struct ConvStack::Layer {
  int in_channels;
  int out_channels;
  int in_stride;
  int out_stride;
  Floats weights;
  Floats bias;
  Floats slope;
};

struct ConvStack::Workspace::Buffers {
  int64_t picture_floats = 0;
  Floats pictures[2];
  int64_t block_floats = 0;  // of all threads
  Floats transformed;
  Floats products;

  void Reserve(int64_t picture, int64_t block) {
    if (picture_floats < picture) {
      for (Floats& floats : pictures) floats = ZeroFloats(picture);
      picture_floats = picture;
    }
    if (block_floats < block) {
      transformed = ZeroFloats(block);
      products = ZeroFloats(block);
      block_floats = block;
    }
  }
};

ConvStack::Workspace::Workspace() : buffers_(std::make_unique<Buffers>()) {}
ConvStack::Workspace::~Workspace() = default;
ConvStack::Workspace::Workspace(Workspace&&) noexcept = default;
ConvStack::Workspace& ConvStack::Workspace::operator=(Workspace&&) noexcept = default;

ConvStack::ConvStack(const std::vector<ConvLayer>& layers) {
  // G of the paper.
  static constexpr double kG[kIn][3] = {{1.0 / 4, 0, 0},
                                        {-1.0 / 6, -1.0 / 6, -1.0 / 6},
                                        {-1.0 / 6, 1.0 / 6, -1.0 / 6},
                                        {1.0 / 24, 1.0 / 12, 1.0 / 6},
                                        {1.0 / 24, -1.0 / 12, 1.0 / 6},
                                        {0, 0, 1}};
  for (const ConvLayer& from : layers) {
    Layer layer;
    layer.in_channels = from.in_channels;
    layer.out_channels = from.out_channels;
    layer.in_stride = RoundUp(from.in_channels, kChannelAlign);
    layer.out_stride = RoundUp(from.out_channels, kChannelAlign);
    widest_ = std::max({widest_, layer.in_stride, layer.out_stride});
    layer.weights = ZeroFloats(int64_t{kPoints} * layer.in_channels * layer.out_stride);
    layer.bias = ZeroFloats(layer.out_stride);
    layer.slope = ZeroFloats(layer.out_stride);
    std::copy(from.bias.begin(), from.bias.end(), layer.bias.get());
    std::copy(from.slope.begin(), from.slope.end(), layer.slope.get());
    for (int o = 0; o < layer.out_channels; ++o) {
      for (int i = 0; i < layer.in_channels; ++i) {
        const float* g = from.weights.data() + (int64_t{o} * layer.in_channels + i) * 9;
        double rows[kIn][3];
        for (int a = 0; a < kIn; ++a) {
          for (int x = 0; x < 3; ++x) rows[a][x] = kG[a][0] * g[x] + kG[a][1] * g[3 + x] + kG[a][2] * g[6 + x];
        }
        for (int a = 0; a < kIn; ++a) {
          for (int b = 0; b < kIn; ++b) {
            const double u = rows[a][0] * kG[b][0] + rows[a][1] * kG[b][1] + rows[a][2] * kG[b][2];
            layer.weights[(static_cast<size_t>(a * kIn + b) * layer.in_channels + i) * layer.out_stride + o] = static_cast<float>(u);
          }
        }
      }
    }
    layers_.push_back(std::move(layer));
  }
}

ConvStack::~ConvStack() = default;
ConvStack::ConvStack(ConvStack&&) noexcept = default;
ConvStack& ConvStack::operator=(ConvStack&&) noexcept = default;

int64_t ConvStack::WorkspaceBytes(int height, int width, int threads) const {
  return static_cast<int64_t>(sizeof(float)) * widest_ * 2 * (PaddedPixels(height, width) + int64_t{threads} * kPoints * BlockOf(widest_));
}

void ConvStack::Run(const Input& in, int height, int width, const Output& out, int threads, Workspace* workspace) const {
  Workspace::Buffers& buffers = *workspace->buffers_;
  const int64_t block = int64_t{kPoints} * BlockOf(widest_) * widest_;
  buffers.Reserve(PaddedPixels(height, width) * widest_, block * threads);
  const int row_pixels = PaddedLength(width);

  float* from = buffers.pictures[0].get();
  float* to = buffers.pictures[1].get();
  const Layer& first = layers_.front();
  ClearBorder(from, height, width, first.in_stride);
  const Samples source{in.layout == Layout::kInterleaved, in.fold, in.pixel, first.in_channels, height, width};
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int y = 0; y < height; ++y) {
    float* const row = from + ((y + 1) * int64_t{row_pixels} + 1) * first.in_stride;
    source.ForEachRun(y, [&](int channel, int64_t at, int64_t step, int count) {
      for (int x = 0; x < width; ++x) CopySamples(in.samples + at + x * step, count, row + int64_t{x} * first.in_stride + channel);
    });
  }

  const Layer& last = layers_.back();
  const Samples target{out.layout == Layout::kInterleaved, out.fold, out.pixel, last.out_channels, height, width};
  // The last layer writes to where its output belongs, if that has whole vectors.
  const bool direct = target.interleaved && out.base == nullptr && last.out_channels == last.out_stride &&
                      target.pixel_floats() % kChannelAlign == 0 &&
                      reinterpret_cast<uintptr_t>(out.samples) % (kChannelAlign * sizeof(float)) == 0;
  const int columns = (width + kOut - 1) / kOut;
  const int tiles = (height + kOut - 1) / kOut * columns;
  for (const Layer& layer : layers_) {
    const int64_t padded_row = int64_t{row_pixels} * layer.out_stride;
    LayerJob job{from,
                 to + padded_row + layer.out_stride,
                 padded_row,
                 layer.out_stride,
                 layer.weights.get(),
                 layer.bias.get(),
                 layer.slope.get(),
                 layer.in_channels,
                 layer.in_stride,
                 layer.out_stride,
                 height,
                 width,
                 row_pixels,
                 BlockOf(std::min(layer.in_stride, layer.out_stride))};
    if (direct && &layer == &last) {
      job.output = out.samples;
      job.output_row = width * target.pixel_floats();
      job.output_pixel = target.pixel_floats();
    } else {
      ClearBorder(to, height, width, layer.out_stride);
    }
#pragma omp parallel num_threads(threads)
    {
      const int64_t mine = block * omp_get_thread_num();
      const Scratch scratch{buffers.transformed.get() + mine, buffers.products.get() + mine};
      const int share = RoundUp(columns, job.block);
#pragma omp for schedule(dynamic, 1)
      for (int first = 0; first < tiles; first += share)
        HWY_DYNAMIC_DISPATCH(RunTiles)(job, scratch, first, std::min(first + share, tiles));
    }
    std::swap(from, to);
  }

  if (direct) return;
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int y = 0; y < height; ++y) {
    const float* const row = from + ((y + 1) * int64_t{row_pixels} + 1) * last.out_stride;
    target.ForEachRun(y, [&](int channel, int64_t at, int64_t step, int count) {
      for (int x = 0; x < width; ++x) {
        const float* const made = row + int64_t{x} * last.out_stride + channel;
        float* const result = out.samples + at + x * step;
        if (out.base == nullptr) {
          CopySamples(made, count, result);
        } else {
          const float* const base = out.base + at + x * step;
          for (int c = 0; c < count; ++c) result[c] = base[c] + made[c];
        }
      }
    });
  }
}

}  // namespace nsic
#endif  // HWY_ONCE
