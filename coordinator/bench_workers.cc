#include "coordinator/bench_workers.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "coordinator/check_manifest.h"
#include "coordinator/db/database.h"
#include "coordinator/farm.h"

namespace nsic {
namespace {

// Nobody has asked for so long: the client has gone.
constexpr int64_t kForgottenMs = 60'000;
// What a worker holds when it is told may take it a while; then a network that is slow on it, too.
constexpr int64_t kAnswerLimitMs = 30 * 60'000;
constexpr size_t kMaxError = 4096;

void Fail(const std::string& error, v1::WorkerBench* bench) {
  bench->set_state(v1::BENCH_STATE_FAILED);
  bench->set_error(error);
}

bool IsNumber(double value) { return std::isfinite(value) && value >= 0; }

Status CheckReport(const v1::ReportRequest& report) {
  if (!report.error().empty()) {
    return report.error().size() <= kMaxError ? OkStatus() : InvalidArgumentError("the error is too long");
  }
  const v1::Measurement& measurement = report.measurement();
  const bool good = std::all_of(measurement.frames().begin(), measurement.frames().end(),
                                [](const v1::FrameSpeed& frame) {
                                  return frame.width() > 0 && frame.height() > 0 && IsNumber(frame.frames_per_second());
                                }) &&
                    IsNumber(measurement.gflops()) && IsNumber(measurement.peak_gflops()) && measurement.peak_memory_bytes() >= 0;
  if (good && measurement.frames_size() > 0 && measurement.frames_size() <= 16 && measurement.precision().size() <= 64) return OkStatus();
  return InvalidArgumentError("a measurement has a speed for frames of each size");
}

}  // namespace

v1::BenchResponse BenchBoard::Ask(const Farm& farm, const std::string& bench_id, const ModelRow& model,
                                  const std::vector<WorkerRow>& workers) {
  std::lock_guard<std::mutex> lock(mutex_);
  DropForgotten(farm);
  Bench* bench = Find(bench_id);
  if (bench == nullptr) {
    bench = &benches_.emplace_back();
    bench->measure.set_bench_id(bench_id);
    bench->measure.set_model_id(model.id);
    bench->measure.set_model_blob(model.bundle_sha256);
    bench->measure.set_model_blob_size(model.bundle_size);
    bench->begun_ms = farm.steady_ms();
    for (const WorkerRow& worker : workers) {
      v1::WorkerBench& entry = bench->workers[worker.name].bench;
      entry.set_worker(worker.name);
      entry.set_device(worker.device);
      entry.set_device_name(worker.device_name);
      entry.set_cores(worker.cores);
      const bool connected = worker.last_seen_ms >= farm.seen_since_ms();
      entry.set_state(connected && !worker.draining ? v1::BENCH_STATE_WAITING : v1::BENCH_STATE_AWAY);
      if (entry.state() == v1::BENCH_STATE_AWAY) entry.set_error(connected ? "it is draining" : "it is not connected");
    }
  }
  bench->asked_ms = farm.steady_ms();

  std::map<std::string, const WorkerRow*> rows;
  for (const WorkerRow& worker : workers) rows[worker.name] = &worker;
  v1::BenchResponse response;
  for (auto& [name, entry] : bench->workers) {
    if (entry.bench.state() == v1::BENCH_STATE_WAITING) {
      const auto row = rows.find(name);
      if (row == rows.end() || row->second->last_seen_ms < farm.seen_since_ms()) {
        Fail("it fell silent before it had answered; look whether it runs, and at its log", &entry.bench);
      } else if (entry.told_session.empty() && row->second->draining) {
        Fail("it was told to drain before its turn came", &entry.bench);
      } else if (farm.steady_ms() - bench->begun_ms > kAnswerLimitMs) {
        Fail("it has not answered for " + std::to_string(kAnswerLimitMs / 60'000) + " minutes; its log says what it is doing",
             &entry.bench);
      }
    }
    *response.add_workers() = entry.bench;
  }
  return response;
}

bool BenchBoard::waiting(const Farm& farm) const {
  std::lock_guard<std::mutex> lock(mutex_);
  const int64_t since = farm.steady_ms() - kForgottenMs;
  return std::any_of(benches_.begin(), benches_.end(), [&](const Bench& bench) {
    return bench.asked_ms >= since && std::any_of(bench.workers.begin(), bench.workers.end(),
                                                  [](const auto& entry) { return entry.second.bench.state() == v1::BENCH_STATE_WAITING; });
  });
}

std::optional<v1::Measure> BenchBoard::Next(const Farm& farm, const WorkerRow& worker) {
  std::lock_guard<std::mutex> lock(mutex_);
  DropForgotten(farm);
  for (Bench& bench : benches_) {
    const auto entry = bench.workers.find(worker.name);
    if (entry == bench.workers.end() || entry->second.bench.state() != v1::BENCH_STATE_WAITING) continue;
    std::string& told = entry->second.told_session;
    if (told.empty()) told = worker.session;
    if (told == worker.session) return bench.measure;
    // What has ended one session would end the next one too.
    Fail("it started anew while it measured; its log may say why", &entry->second.bench);
  }
  return std::nullopt;
}

Status BenchBoard::Report(const Farm& farm, const WorkerRow& worker, const v1::ReportRequest& report) {
  NSIC_RETURN_IF_ERROR(CheckReport(report));
  std::lock_guard<std::mutex> lock(mutex_);
  DropForgotten(farm);
  Bench* const bench = Find(report.bench_id());
  if (bench == nullptr || bench->workers.count(worker.name) == 0) return OkStatus();
  v1::WorkerBench& result = bench->workers.at(worker.name).bench;
  if (report.error().empty()) {
    *result.mutable_measurement() = report.measurement();
    result.set_state(v1::BENCH_STATE_DONE);
    result.clear_error();
  } else if (result.state() != v1::BENCH_STATE_DONE) {
    Fail(report.error(), &result);
  }
  return OkStatus();
}

BenchBoard::Bench* BenchBoard::Find(const std::string& bench_id) {
  const auto bench =
      std::find_if(benches_.begin(), benches_.end(), [&](const Bench& other) { return other.measure.bench_id() == bench_id; });
  return bench == benches_.end() ? nullptr : &*bench;
}

void BenchBoard::DropForgotten(const Farm& farm) {
  const int64_t since = farm.steady_ms() - kForgottenMs;
  benches_.remove_if([&](const Bench& bench) { return bench.asked_ms < since; });
}

Result<v1::BenchResponse> BenchWorkers(const Farm& farm, const v1::BenchRequest& request) {
  if (!IsId(request.bench_id())) return InvalidArgumentError("a bench_id is 32 lower-case hexadecimal digits");
  std::optional<ModelRow> model;
  std::vector<WorkerRow> workers;
  NSIC_RETURN_IF_ERROR(farm.database->Read([&](Transaction& transaction) {
    model = FindModel(transaction, request.model_id());
    workers = ListWorkers(transaction);
    return OkStatus();
  }));
  if (!model) return NotFoundError("no model has this identity; 'nsic-client models list' lists those there are");
  if (model->task != "enhance") {
    return InvalidArgumentError("the model " + model->name + " restores nothing (its task is " + model->task + "): name one that does");
  }
  return farm.bench->Ask(farm, request.bench_id(), *model, workers);
}

}  // namespace nsic
