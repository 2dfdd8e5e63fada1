// A training run, whatever it trains: steps over the shards of a batch, progress lines, validations, checkpoints and going on from them.
#ifndef NSIC_MODELS_TRAIN_FIT_TRAINING_RUN_H_
#define NSIC_MODELS_TRAIN_FIT_TRAINING_RUN_H_

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>

#include <atomic>
#include <cstdint>
#include <future>
#include <memory>
#include <nlohmann/json.hpp>
#include <ostream>
#include <string>
#include <vector>

#include "core/base/clock.h"
#include "core/base/status.h"
#include "models/arch/trainable_net.h"
#include "models/train/fit/checkpoint.h"
#include "models/train/fit/optimiser.h"
#include "models/train/samples/pairs.h"

namespace nsic {

struct RunOptions {
  std::string state;              // folder of the checkpoint, the log and packed folders; training resumes from what is there
  std::string out;                // folder of the pack
  std::vector<std::string> from;  // folders of packs to start from, as StartFrom takes them, the mean of those of one network; may be empty
  std::string name;               // of the pack
  std::string source;             // for the card: where data without sources of its own is from, and under which licences
  std::string licence = "Apache-2.0";  // of the pack
  int64_t steps = 0;                   // the learning rate falls to zero over so many steps,
  double minutes = 0;                  // or over so many minutes of training, resumed runs included. One of the two.
  int64_t batch = 8;                   // samples a step
  double learning_rate = 1e-3;         // the highest
  int64_t warm_up = 500;               // steps until it is reached
  uint64_t seed = 1;
  std::string device = "cpu";   // or "cuda:0"
  int64_t threads = 1;          // each works on its part of the batch; 1 on a GPU
  bool bfloat16 = false;        // run the convolutions in bf16; weights and optimiser stay in fp32
  double validate_minutes = 5;  // between validations
};

// What is trained, and on what, is for derived classes to say. One Run an object. Not thread-safe.
class TrainingRun {
 public:
  // Keeps references to all.
  TrainingRun(const RunOptions& options, const Clock& clock, const std::atomic<bool>& stop, std::ostream& progress);
  virtual ~TrainingRun() = default;
  TrainingRun(const TrainingRun&) = delete;
  TrainingRun& operator=(const TrainingRun&) = delete;

  // As Fit (fit.h) says.
  Status Run();

 protected:
  struct Validation {
    std::string cells;    // of the log's row: "26.05,26.95"
    std::string line;     // for people
    nlohmann::json card;  // an object, for the pack's card
  };

  // Opens the data. Called first, once.
  virtual Status Open() = 0;
  virtual Result<std::unique_ptr<TrainableNet>> MakeNet() const = 0;
  // The sum of the losses of samples `first` to `last` (not included) of the endless sequence that the seed stands for. Called from several
  // threads at once, each with a network of its own.
  virtual at::Tensor LossOf(TrainableNet* net, int64_t first, int64_t last) = 0;
  virtual Validation Validate(TrainableNet* net) = 0;
  // What must not change between runs, and is not in RunOptions: "architecture", "parameters", "data" and more.
  virtual nlohmann::json Settings() const = 0;
  virtual std::vector<std::string> Columns() const = 0;  // of the log, for Validation::cells
  virtual std::string CurveTitle() const = 0;            // of its drawing
  virtual std::string SpeedText(double samples_per_second) const = 0;

  // Data to learn from, none smaller than `smallest` a side: INVALID_ARGUMENT unless it says where it is from, or the options do.
  Result<TrainingData> OpenToLearn(const std::vector<std::string>& paths, int64_t smallest) const;

  // Runs `work(shard)` for each shard, at once, one thread each, and gives the results in order. LibTorch's own threads meet at a barrier
  // in every operation, which on a machine with other work costs up to twenty times the work itself; these meet once.
  template <typename Work>
  auto InShards(Work work) const {
    std::vector<std::future<decltype(work(int64_t{0}))>> futures;
    for (int64_t shard = 1; shard < options_.threads; ++shard) futures.push_back(std::async(std::launch::async, work, shard));
    std::vector<decltype(work(int64_t{0}))> results = {work(0)};
    for (auto& future : futures) results.push_back(future.get());
    return results;
  }

  at::ScalarType compute_type() const { return options_.bfloat16 ? at::kBFloat16 : at::kFloat; }
  const at::Device& device() const { return device_; }
  std::ostream& progress() const { return progress_; }

 private:
  Status Begin();
  Status Train();
  double Done() const;
  double Learn(int64_t shard);
  void Move(const std::string& name);
  double Step();
  void Report(double steps_per_second);
  std::string AllSettings() const;
  Status Resume();
  Checkpoint Now();
  Status Save();
  Status Publish();

  const RunOptions& options_;
  const Clock& clock_;
  const std::atomic<bool>& stop_;
  std::ostream& progress_;
  const at::Device device_;
  std::vector<std::unique_ptr<TrainableNet>> replicas_;  // one a shard, all with the first one's weights
  std::unique_ptr<Optimiser> optimiser_;
  nlohmann::json from_;  // an array: the packs that the run started from, and how they were trained otherwise; null without one
  std::string log_;
  nlohmann::json validated_ = nlohmann::json::object();  // what the last validation measured, for the card
  int64_t step_ = 0;
  int64_t elapsed_us_ = 0;
  int64_t started_us_ = 0;
  double rate_ = 0;
  double recent_loss_ = 0;
};

// Overwrites `to` with `from`; FAILED_PRECONDITION unless names and shapes agree.
Status CopyInto(const NamedTensors& from, const NamedTensors& to);

}  // namespace nsic

#endif  // NSIC_MODELS_TRAIN_FIT_TRAINING_RUN_H_
