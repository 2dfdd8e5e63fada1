// The CPU's fast path: a stack of 3x3 convolutions with bias and a cheap activation, computed by Winograd's minimal filtering.
//
// F(4x4, 3x3): 36 multiplications give 16 outputs that cost 144 directly. Transforms from Lavin and Gray, "Fast Algorithms for
// Convolutional Neural Networks" (arXiv 1509.09308), with the interpolation points 0, 1, -1, 2, -2. Vectors through Google Highway: one
// source serves SSE4, AVX2, AVX-512 and NEON, chosen at run time. No LibTorch; BuildNetwork wraps it.
#ifndef NSIC_MODELS_ARCH_CONV_STACK_H_
#define NSIC_MODELS_ARCH_CONV_STACK_H_

#include <cstdint>
#include <memory>
#include <vector>

namespace nsic {

// One 3x3 convolution, stride 1, zero padding 1, and then x < 0 ? slope * x : x for each output channel (PReLU; slope 0 is ReLU, slope 1
// nothing).
struct ConvLayer {
  int in_channels = 0;
  int out_channels = 0;
  std::vector<float> weights;  // out x in x 3 x 3
  std::vector<float> bias;     // out
  std::vector<float> slope;    // out
};

// Immutable: Run may be called from several threads at once, each with a Workspace of its own.
class ConvStack {
 public:
  // Transforms the weights. At least one layer; each takes as many channels as the one before gives.
  explicit ConvStack(const std::vector<ConvLayer>& layers);
  ~ConvStack();
  ConvStack(ConvStack&&) noexcept;
  ConvStack& operator=(ConvStack&&) noexcept;

  // Memory that Run works in: grows to the largest picture it has seen and stays, so that no call after that allocates.
  class Workspace {
   public:
    Workspace();
    ~Workspace();
    Workspace(Workspace&&) noexcept;
    Workspace& operator=(Workspace&&) noexcept;

   private:
    friend class ConvStack;
    struct Buffers;
    std::unique_ptr<Buffers> buffers_;
  };

  // How a picture of height x width cells lies in memory: as channels x height x width, or as height x width x channels. Folded (planar
  // only) it is channels / fold^2 planes of (fold height) x (fold width) pixels, as PyTorch's pixel_unshuffle takes it and pixel_shuffle
  // gives it.
  enum class Layout { kPlanar, kInterleaved };
  struct Input {
    const float* samples = nullptr;
    Layout layout = Layout::kPlanar;
    int fold = 1;
    int pixel = 0;  // interleaved: floats from one pixel to the next; 0: as many as it has channels
  };
  struct Output {
    float* samples = nullptr;
    Layout layout = Layout::kPlanar;
    int fold = 1;
    const float* base = nullptr;  // lies as `samples` do, which become the sum of both; null: nothing is added
    int pixel = 0;                // as above
  };

  // All layers, in fp32; height and width at least 1. The bits of the output depend neither on `threads` (at least 1) nor on the layouts.
  void Run(const Input& in, int height, int width, const Output& out, int threads, Workspace* workspace) const;

  int64_t WorkspaceBytes(int height, int width, int threads) const;

 private:
  struct Layer;
  std::vector<Layer> layers_;
  int widest_ = 0;  // channels of the widest layer, padded
};

}  // namespace nsic

#endif  // NSIC_MODELS_ARCH_CONV_STACK_H_
