#include "models/train/samples/jpeg_simulation.h"

#include <torch/torch.h>

#include <algorithm>
#include <cmath>

namespace nsic {
namespace {

using at::Tensor;
using at::indexing::Slice;

// ITU-T T.81, annex K.1.
constexpr std::array<int, 64> kLuminance = {16, 11, 10, 16, 24,  40,  51,  61,  12, 12, 14, 19, 26,  58,  60,  55,  //
                                            14, 13, 16, 24, 40,  57,  69,  56,  14, 17, 22, 29, 51,  87,  80,  62,  //
                                            18, 22, 37, 56, 68,  109, 103, 77,  24, 35, 55, 64, 81,  104, 113, 92,  //
                                            49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99};
constexpr std::array<int, 64> kChrominance = {17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99,  //
                                              24, 26, 56, 99, 99, 99, 99, 99, 47, 66, 99, 99, 99, 99, 99, 99,  //
                                              99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99,  //
                                              99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99};

// jpeg_quality_scaling and jpeg_add_quant_table of libjpeg.
std::array<int, 64> Scaled(const std::array<int, 64>& base, int quality) {
  quality = std::clamp(quality, 1, 100);
  const int percent = quality < 50 ? 5000 / quality : 200 - 2 * quality;
  std::array<int, 64> table;
  for (size_t i = 0; i < 64; ++i) table[i] = std::clamp((base[i] * percent + 50) / 100, 1, 255);
  return table;
}

// N x 3 x 1 x 8 x 8: the tables of Y, Cb and Cr for each picture, with columns before rows.
Tensor QuantTables(const Tensor& quality, const at::Device& device) {
  const int64_t count = quality.size(0);
  Tensor tables = torch::empty({count, 3, 1, 8, 8}, at::kDouble);
  auto out = tables.accessor<double, 5>();
  auto in = quality.accessor<int64_t, 1>();
  for (int64_t n = 0; n < count; ++n) {
    const auto luminance = LuminanceTable(static_cast<int>(in[n]));
    const auto chrominance = ChrominanceTable(static_cast<int>(in[n]));
    for (int row = 0; row < 8; ++row) {
      for (int column = 0; column < 8; ++column) {
        out[n][0][0][column][row] = luminance[static_cast<size_t>(row * 8 + column)];
        out[n][1][0][column][row] = out[n][2][0][column][row] = chrominance[static_cast<size_t>(row * 8 + column)];
      }
    }
  }
  return tables.to(device);
}

// The one-dimensional DCT of jfdctislow.c: fixed point with 13 fractional bits, before it is rounded. The inverse in jidctint.c is its
// transpose.
std::array<double, 8> IntegerDct(const std::array<double, 8>& x) {
  const double s0 = x[0] + x[7], s1 = x[1] + x[6], s2 = x[2] + x[5], s3 = x[3] + x[4];
  const double d0 = x[0] - x[7], d1 = x[1] - x[6], d2 = x[2] - x[5], d3 = x[3] - x[4];
  const double even = 4433 * ((s0 - s3) + (s1 - s2));
  const double z1 = -7373 * (d3 + d0), z2 = -20995 * (d2 + d1), z5 = 9633 * (d3 + d1 + d2 + d0);
  const double z3 = -16069 * (d3 + d1) + z5, z4 = -3196 * (d2 + d0) + z5;
  return {8192 * (s0 + s1 + s2 + s3), 12299 * d0 + z1 + z4, even + 6270 * (s0 - s3),  25172 * d1 + z2 + z3,
          8192 * (s0 + s3 - s1 - s2), 16819 * d2 + z2 + z4, even - 15137 * (s1 - s2), 2446 * d3 + z1 + z3};
}

// IntegerDct as a matrix: row x, column u holds how much sample x adds to coefficient u.
Tensor DctMatrix(const at::Device& device) {
  Tensor matrix = torch::empty({8, 8}, at::kDouble);
  auto out = matrix.accessor<double, 2>();
  for (size_t x = 0; x < 8; ++x) {
    std::array<double, 8> unit = {};
    unit[x] = 1;
    const std::array<double, 8> column = IntegerDct(unit);
    for (size_t u = 0; u < 8; ++u) out[static_cast<int64_t>(x)][static_cast<int64_t>(u)] = column[u];
  }
  return matrix.to(device);
}

// The last dimension of `x` times `matrix`, shifted right by `bits` with rounding, as libjpeg's DESCALE does. All numbers are whole, so
// that fp64 is exact in whatever order it adds.
Tensor TransformAndDescale(const Tensor& x, const Tensor& matrix, int bits) {
  const Tensor half = torch::full({8}, 0.5, matrix.options());
  return at::addmm(half, x.reshape({-1, 8}), matrix * std::ldexp(1.0, -bits)).floor_().view(x.sizes());
}

// Repeats the last column and row until the sides are multiples of `width_multiple` and `height_multiple`.
Tensor PadTo(const Tensor& x, int64_t width_multiple, int64_t height_multiple) {
  const int64_t right = (width_multiple - x.size(3) % width_multiple) % width_multiple;
  const int64_t bottom = (height_multiple - x.size(2) % height_multiple) % height_multiple;
  return right == 0 && bottom == 0 ? x : at::replication_pad2d(x, {0, right, 0, bottom});
}

// Sample planes (N x C x h x w, whole numbers) through the DCT, quantisation with `tables` (N x C x 1 x 8 x 8) and back.
Tensor QuantiseAndBack(const Tensor& planes, const Tensor& tables) {
  const int64_t height = planes.size(2), width = planes.size(3);
  const Tensor padded = PadTo(planes, 8, 8);
  const int64_t n = padded.size(0), c = padded.size(1), rows = padded.size(2) / 8, columns = padded.size(3) / 8;
  const Tensor dct = DctMatrix(planes.device());
  const Tensor scaled = tables * 8.0;  // the transform's coefficients come out times 8

  Tensor x = padded.to(at::kDouble).sub_(128.0).reshape({n, c, rows, 8, columns, 8});
  x = TransformAndDescale(x, dct, 11);             // across a row
  x = x.permute({0, 1, 2, 4, 5, 3}).contiguous();  // N, C, block row, block column, u across, y
  x = TransformAndDescale(x, dct, 15);             // down a column
  x = x.view({n, c, rows * columns, 8, 8}).div(scaled);
  x = x.add_(x.sign(), 0.5).trunc_().mul_(tables);  // half away from zero
  x = TransformAndDescale(x, dct.t(), 11);          // back, columns first
  x = x.view({n, c, rows, columns, 8, 8}).permute({0, 1, 2, 5, 3, 4}).contiguous();
  x = TransformAndDescale(x, dct.t(), 18);
  return x.add_(128.0)
      .clamp_(0.0, 255.0)
      .to(at::kFloat)
      .view({n, c, rows * 8, columns * 8})
      .index({Slice(), Slice(), Slice(0, height), Slice(0, width)});
}

// jccolor.c: fixed point with 16 fractional bits.
Tensor RgbToYcc(const Tensor& rgb) {
  const Tensor r = rgb.select(1, 0), g = rgb.select(1, 1), b = rgb.select(1, 2);
  const Tensor y = r.mul(19595.0).add_(g, 38470.0).add_(b, 7471.0).add_(32768.0);
  const Tensor cb = r.mul(-11059.0).add_(g, -21709.0).add_(b, 32768.0).add_(8388608.0 + 32767.0);
  const Tensor cr = r.mul(32768.0).add_(g, -27439.0).add_(b, -5329.0).add_(8388608.0 + 32767.0);
  return at::stack({y, cb, cr}, 1).mul_(1.0 / 65536).floor_();
}

// jdcolor.c.
Tensor YccToRgb(const Tensor& ycc) {
  const Tensor y = ycc.select(1, 0), cb = ycc.select(1, 1) - 128.0, cr = ycc.select(1, 2) - 128.0;
  const double unit = 1.0 / 65536;
  const Tensor r = cr.mul(91881.0).add_(32768.0).mul_(unit).floor_().add_(y);
  const Tensor g = cb.mul(-22554.0).add_(cr, -46802.0).add_(32768.0).mul_(unit).floor_().add_(y);
  const Tensor b = cb.mul(116130.0).add_(32768.0).mul_(unit).floor_().add_(y);
  return at::stack({r, g, b}, 1).clamp_(0.0, 255.0);
}

// h2v2_downsample of jcsample.c: the mean of four, rounded down in even columns and up in odd ones. Columns are padded to whole blocks
// before, rows only to pairs: QuantiseAndBack repeats the last row of the result.
Tensor HalveChroma(const Tensor& chroma) {
  Tensor sums = at::avg_pool2d(PadTo(chroma, 16, 2), 2).mul_(4.0);
  Tensor bias = torch::ones({sums.size(3)}, sums.options());
  bias.index_put_({Slice(1, torch::indexing::None, 2)}, 2.0);
  return sums.add_(bias).mul_(0.25).floor_();
}

// h2v2_fancy_upsample of jdsample.c: a triangle filter, 3/4 of the nearer and 1/4 of the farther sample each way.
Tensor DoubleChroma(const Tensor& chroma, int64_t height, int64_t width) {
  const int64_t n = chroma.size(0), c = chroma.size(1), rows = chroma.size(2), columns = chroma.size(3);
  Tensor doubled;
  if (columns <= 2) {  // libjpeg repeats samples there
    doubled = at::repeat_interleave(at::repeat_interleave(chroma, 2, 2), 2, 3);
  } else {
    const Tensor tall = at::replication_pad2d(chroma, {0, 0, 1, 1});
    const Tensor above = tall.narrow(2, 0, rows), below = tall.narrow(2, 2, rows);
    const Tensor lines = at::stack({above.add(chroma, 3.0), below.add(chroma, 3.0)}, 3).reshape({n, c, rows * 2, columns});
    const Tensor wide = at::replication_pad2d(lines, {1, 1, 0, 0});
    const Tensor left = wide.narrow(3, 0, columns), right = wide.narrow(3, 2, columns);
    doubled = at::stack({left.add(lines, 3.0).add_(8.0), right.add(lines, 3.0).add_(7.0)}, 4).reshape({n, c, rows * 2, columns * 2});
    doubled.mul_(1.0 / 16).floor_();
  }
  return doubled.index({Slice(), Slice(), Slice(0, height), Slice(0, width)});
}

}  // namespace

std::array<int, 64> LuminanceTable(int quality) { return Scaled(kLuminance, quality); }
std::array<int, 64> ChrominanceTable(int quality) { return Scaled(kChrominance, quality); }

Tensor SimulateJpeg(const Tensor& rgb, const Tensor& quality, ChromaSampling sampling) {
  const at::NoGradGuard no_grad;
  const int64_t height = rgb.size(2), width = rgb.size(3);
  const Tensor tables = QuantTables(quality, rgb.device());
  const Tensor ycc = RgbToYcc(rgb);
  if (sampling == ChromaSampling::k444) return YccToRgb(QuantiseAndBack(ycc, tables));
  const Tensor luma = QuantiseAndBack(ycc.narrow(1, 0, 1), tables.narrow(1, 0, 1));
  Tensor chroma = HalveChroma(ycc.narrow(1, 1, 2));
  // The padding columns were needed for the last block only; what the decoder upsamples ends at the picture.
  chroma = QuantiseAndBack(chroma, tables.narrow(1, 1, 2)).narrow(3, 0, (width + 1) / 2).contiguous();
  return YccToRgb(at::cat({luma, DoubleChroma(chroma, height, width)}, 1));
}

}  // namespace nsic
