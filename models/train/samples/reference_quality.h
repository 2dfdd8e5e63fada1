// What the scorer learns to see without the original: how much worse a picture looks than its original, from 0 to 100.
//
// The error is 1 - SSIM, on luma at four scales (1:1 to 1:8) and on the two colour differences from the second on, each scale counting the
// same. Scales, because what is lost at one viewing distance is not what is lost at another (Wang, Simoncelli, Bovik, "Multi-Scale
// Structural Similarity for Image Quality Assessment", 2003); their published weights all but leave out 1:1, where the farm's users look,
// so the scales weigh the same here. It was preferred to metrics with a deviation or a high norm over the picture (GMSD, Butteraugli),
// because a mean over pixels is also the mean over tiles: a tile has a value of its own, and the map of tiles adds up to the picture.
// Learnt metrics (LPIPS, DISTS) would bring in networks trained on pictures of unknown licences.
//
// The score is 100 / (1 + (error / 0.036)^1.2): never negative, without ties at the bottom, where 100 means equal. The constants put JPEGs
// about where the people asked for SSIMULACRA 2 put them (its README: quality 95 at 90, "likely impossible to distinguish from the original
// when viewed at 1:1", 70 at 70, 40 at 50): of bsds500's photographs through libjpeg at 4:2:0, quality 90 comes to 87, 70 to 67, 40 to 50
// and 10 to 18.
#ifndef NSIC_MODELS_TRAIN_SAMPLES_REFERENCE_QUALITY_H_
#define NSIC_MODELS_TRAIN_SAMPLES_REFERENCE_QUALITY_H_

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace nsic {

// N x 3 x h x w each, R, G, B from 0 to 255, at least 11x11; scales at which the picture is smaller than that are left out. N scores.
at::Tensor ReferenceQuality(const at::Tensor& original, const at::Tensor& picture);

// The error that the score is of.
at::Tensor ReferenceError(const at::Tensor& original, const at::Tensor& picture);

// The same for one pair of pictures: width * height * 3 bytes each, interleaved.
double ReferenceQualityOf(const uint8_t* original, const uint8_t* picture, int width, int height);

}  // namespace nsic

#endif  // NSIC_MODELS_TRAIN_SAMPLES_REFERENCE_QUALITY_H_
