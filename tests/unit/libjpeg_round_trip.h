// libjpeg itself, for the tests of what imitates it.
#ifndef NSIC_TESTS_UNIT_LIBJPEG_ROUND_TRIP_H_
#define NSIC_TESTS_UNIT_LIBJPEG_ROUND_TRIP_H_

#include <torch/torch.h>

// jpeglib.h needs size_t and FILE declared before it.
#include <jpeglib.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "models/train/samples/jpeg_simulation.h"

namespace nsic {

// A picture with smooth shading, an edge, fine texture and saturated colour, as h x w x 3 bytes.
inline std::vector<uint8_t> MakePicture(int width, int height) {
  std::vector<uint8_t> rgb;
  uint32_t noise = 12345;
  for (int y = 0; y < height; ++y) {
    for (int x = 0; x < width; ++x) {
      noise = noise * 1664525u + 1013904223u;
      const int texture = static_cast<int>(noise >> 27) - 16;
      const int edge = (x + 2 * y) % 37 < 12 ? 60 : 0;
      rgb.push_back(static_cast<uint8_t>(std::clamp(3 * x % 256 + texture, 0, 255)));
      rgb.push_back(static_cast<uint8_t>(std::clamp(2 * y % 256 + edge, 0, 255)));
      rgb.push_back(static_cast<uint8_t>(std::clamp(200 - x + edge + texture, 0, 255)));
    }
  }
  return rgb;
}

struct DecodedJpeg {
  std::vector<uint8_t> rgb;
  std::vector<int> luminance;  // the quantisation tables of the file, in row order
  std::vector<int> chrominance;
};

inline DecodedJpeg ThroughLibjpeg(const std::vector<uint8_t>& rgb, int width, int height, int quality, ChromaSampling sampling) {
  jpeg_compress_struct encoder;
  jpeg_error_mgr errors;
  encoder.err = jpeg_std_error(&errors);
  jpeg_create_compress(&encoder);
  unsigned char* buffer = nullptr;
  unsigned long size = 0;
  jpeg_mem_dest(&encoder, &buffer, &size);
  encoder.image_width = static_cast<JDIMENSION>(width);
  encoder.image_height = static_cast<JDIMENSION>(height);
  encoder.input_components = 3;
  encoder.in_color_space = JCS_RGB;
  jpeg_set_defaults(&encoder);
  jpeg_set_quality(&encoder, quality, TRUE);
  const int factor = sampling == ChromaSampling::k420 ? 2 : 1;
  encoder.comp_info[0].h_samp_factor = encoder.comp_info[0].v_samp_factor = factor;
  jpeg_start_compress(&encoder, TRUE);
  while (encoder.next_scanline < encoder.image_height) {
    JSAMPROW row = const_cast<JSAMPROW>(rgb.data() + static_cast<size_t>(encoder.next_scanline) * static_cast<size_t>(width) * 3);
    jpeg_write_scanlines(&encoder, &row, 1);
  }
  jpeg_finish_compress(&encoder);

  DecodedJpeg decoded;
  for (int i = 0; i < 64; ++i) {
    decoded.luminance.push_back(encoder.quant_tbl_ptrs[0]->quantval[i]);
    decoded.chrominance.push_back(encoder.quant_tbl_ptrs[1]->quantval[i]);
  }
  jpeg_destroy_compress(&encoder);

  jpeg_decompress_struct decoder;
  decoder.err = jpeg_std_error(&errors);
  jpeg_create_decompress(&decoder);
  jpeg_mem_src(&decoder, buffer, size);
  jpeg_read_header(&decoder, TRUE);
  jpeg_start_decompress(&decoder);
  decoded.rgb.resize(rgb.size());
  while (decoder.output_scanline < decoder.output_height) {
    JSAMPROW row = decoded.rgb.data() + static_cast<size_t>(decoder.output_scanline) * static_cast<size_t>(width) * 3;
    jpeg_read_scanlines(&decoder, &row, 1);
  }
  jpeg_finish_decompress(&decoder);
  jpeg_destroy_decompress(&decoder);
  std::free(buffer);
  return decoded;
}

inline at::Tensor ToPlanes(const std::vector<uint8_t>& rgb, int width, int height) {
  return torch::from_blob(const_cast<uint8_t*>(rgb.data()), {1, height, width, 3}, at::kByte)
      .permute({0, 3, 1, 2})
      .to(at::kFloat)
      .contiguous();
}

}  // namespace nsic

#endif  // NSIC_TESTS_UNIT_LIBJPEG_ROUND_TRIP_H_
