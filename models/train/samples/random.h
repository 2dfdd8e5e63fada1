// The random numbers of training. Every crop has a generator of its own, so that what is drawn for it depends neither on where a run was
// broken and resumed nor on how many threads share a batch.
#ifndef NSIC_MODELS_TRAIN_SAMPLES_RANDOM_H_
#define NSIC_MODELS_TRAIN_SAMPLES_RANDOM_H_

#include <cstdint>

namespace nsic {

// SplitMix64 (Steele, Lea, Flood 2014).
class Random {
 public:
  explicit Random(uint64_t seed, int64_t index = 0)
      : state_(seed * 0xd1342543de82ef95ull ^ static_cast<uint64_t>(index) * 0x2545f4914f6cdd1dull) {
    Next();
  }
  uint64_t Next() {
    uint64_t z = (state_ += 0x9e3779b97f4a7c15ull);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
  }
  int64_t Below(int64_t bound) { return static_cast<int64_t>(Next() % static_cast<uint64_t>(bound)); }
  double Unit() { return static_cast<double>(Next() >> 11) * 0x1p-53; }  // [0, 1)
  bool Chance(double share) { return Unit() < share; }

 private:
  uint64_t state_;
};

}  // namespace nsic

#endif  // NSIC_MODELS_TRAIN_SAMPLES_RANDOM_H_
