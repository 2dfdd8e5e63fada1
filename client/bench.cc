// bench: every worker of the farm measures itself.
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "client/session.h"
#include "client/submit.h"
#include "client/text.h"
#include "core/base/digest.h"

namespace nsic {
namespace {

constexpr std::chrono::milliseconds kAskEvery{300};
constexpr int64_t kReferenceHeight = 1080;  // of the frames that MP/s speaks of

std::string Number(double value, const char* unit = "") {
  char buffer[48];
  std::snprintf(buffer, sizeof buffer, value < 10 ? "%.2f%s" : value < 100 ? "%.1f%s" : "%.0f%s", value, unit);
  return buffer;
}

std::string_view StateName(v1::BenchState state) {
  switch (state) {
    case v1::BENCH_STATE_DONE: return "done";
    case v1::BENCH_STATE_AWAY: return "away";
    case v1::BENCH_STATE_WAITING: return "waiting";
    default: return "failed";
  }
}

// Of restored input at 1080p.
double MegapixelsPerSecond(const v1::Measurement& measurement) {
  for (const v1::FrameSpeed& speed : measurement.frames()) {
    if (speed.height() == kReferenceHeight) return speed.frames_per_second() * speed.width() * speed.height() * 1e-6;
  }
  return 0;
}

double FractionOfPeak(const v1::Measurement& measurement) {
  return measurement.peak_gflops() > 0 ? measurement.gflops() / measurement.peak_gflops() : 0;
}

nlohmann::json ToJson(const v1::WorkerBench& worker) {
  nlohmann::json json = {{"name", worker.worker()},
                         {"device", worker.device()},
                         {"device_name", worker.device_name()},
                         {"cores", worker.cores()},
                         {"state", StateName(worker.state())}};
  if (worker.state() != v1::BENCH_STATE_DONE) {
    json["error"] = worker.error();
    return json;
  }
  const v1::Measurement& measurement = worker.measurement();
  json["precision"] = measurement.precision();
  json["megapixels_per_second"] = MegapixelsPerSecond(measurement);
  json["gflops"] = measurement.gflops();
  json["peak_gflops"] = measurement.peak_gflops();
  json["fraction_of_peak"] = FractionOfPeak(measurement);
  json["peak_memory_bytes"] = measurement.peak_memory_bytes();
  json["frames"] = nlohmann::json::array();
  for (const v1::FrameSpeed& speed : measurement.frames()) {
    json["frames"].push_back({{"width", speed.width()},
                              {"height", speed.height()},
                              {"frames_per_second", speed.frames_per_second()},
                              {"estimated", speed.estimated()}});
  }
  return json;
}

std::vector<std::string> ToRow(const v1::WorkerBench& worker) {
  std::vector<std::string> row = {worker.worker(), worker.device() + " (" + worker.device_name() + ")"};
  if (worker.state() != v1::BENCH_STATE_DONE) {
    row.emplace_back(StateName(worker.state()));
    return row;
  }
  const v1::Measurement& measurement = worker.measurement();
  row.push_back(measurement.precision());
  row.push_back(Number(MegapixelsPerSecond(measurement)));
  for (const v1::FrameSpeed& speed : measurement.frames()) {
    row.push_back((speed.estimated() ? "~" : "") + Number(speed.frames_per_second(), " fps"));
  }
  const double fraction = FractionOfPeak(measurement);
  row.push_back(fraction > 0 ? Number(fraction) : "-");
  row.push_back(measurement.peak_memory_bytes() > 0 ? FormatBytes(measurement.peak_memory_bytes()) : "-");
  return row;
}

// A farm of our own has no worker yet when it starts.
Status WaitForWorker(Session* session) {
  while (true) {
    NSIC_ASSIGN_OR_RETURN(const std::vector<v1::WorkerStatus> workers, session->farm().ListWorkers(session->cancel()));
    if (std::any_of(workers.begin(), workers.end(), [](const v1::WorkerStatus& worker) { return worker.connected(); })) return OkStatus();
    NSIC_RETURN_IF_ERROR(session->local_farm()->health());
    if (session->cancel().WaitFor(kAskEvery)) return session->cancel().Check();
  }
}

Result<v1::BenchResponse> WaitForAnswers(Session* session, const std::string& model_id) {
  v1::BenchRequest request;
  request.set_bench_id(RandomHex(16));
  request.set_model_id(model_id);
  while (true) {
    NSIC_ASSIGN_OR_RETURN(v1::BenchResponse response, session->farm().Bench(request, session->cancel()));
    ProgressState state;
    state.activity = "measuring";
    state.noun = "worker";
    for (const v1::WorkerBench& worker : response.workers()) {
      if (worker.state() == v1::BENCH_STATE_AWAY) continue;
      ++state.files;
      if (worker.state() == v1::BENCH_STATE_WAITING) {
        state.remark += (state.remark.empty() ? "waiting for " : ", ") + ForTerminal(worker.worker());
      } else if (worker.state() == v1::BENCH_STATE_DONE) {
        ++state.files_done;
      } else {
        ++state.files_failed;
      }
    }
    if (state.remark.empty()) {
      session->progress().Clear();
      return response;
    }
    session->progress().Update(state);
    if (session->local_farm() != nullptr) NSIC_RETURN_IF_ERROR(session->local_farm()->health());
    if (session->cancel().WaitFor(kAskEvery)) return session->cancel().Check();
  }
}

int PrintBench(Session* session, const v1::Model& model, const v1::BenchResponse& bench) {
  nlohmann::json list = nlohmann::json::array();
  std::vector<std::vector<std::string>> rows = {{"WORKER", "DEVICE", "PRECISION", "MP/S", "720P", "1080P", "4K", "OF PEAK", "MEMORY"}};
  std::string missing;
  bool failed = false;
  for (const v1::WorkerBench& worker : bench.workers()) {
    list.push_back(ToJson(worker));
    rows.push_back(ToRow(worker));
    if (worker.state() == v1::BENCH_STATE_DONE) continue;
    missing += ForTerminal(worker.worker()) + " was not measured: " + ForTerminal(worker.error()) + "\n";
    failed = failed || worker.state() == v1::BENCH_STATE_FAILED;
  }
  if (session->options.json) {
    session->PrintJson(nlohmann::json({{"model", model.name()}, {"model_id", model.id()}, {"workers", std::move(list)}}).dump(2));
  } else {
    session->Print("Model " + ForTerminal(model.name()) + ", frames made on the spot, without decoding and encoding\n\n" +
                   FormatTable(rows) + (missing.empty() ? "" : "\n" + missing));
  }
  return failed ? kExitSomeFailed : kExitDone;
}

int RunBench(Session* session, const std::string& name) {
  Status status = session->Connect(Session::Need::kLook);
  if (!status.ok()) return session->Fail(status);
  const Result<v1::Model> model = session->farm().GetModel(name == "auto" ? kUsualModel : name, session->cancel());
  if (!model.ok()) return session->Fail(model.status());
  if (session->local_farm() != nullptr) {
    session->local_farm()->StartWorker();
    status = WaitForWorker(session);
    if (!status.ok()) return session->Fail(status);
  }
  const Result<v1::BenchResponse> bench = WaitForAnswers(session, model->id());
  if (!bench.ok()) return session->Fail(bench.status());
  const auto& workers = bench->workers();
  if (std::all_of(workers.begin(), workers.end(), [](const auto& worker) { return worker.state() == v1::BENCH_STATE_AWAY; })) {
    return session->Fail(UnavailableError("no worker is connected: start one with nsic-worker run --coordinator HOST:PORT"));
  }
  return PrintBench(session, *model, *bench);
}

}  // namespace

void AddBenchCommand(CLI::App* app, Session* session) {
  auto model = std::make_shared<std::string>("auto");
  CLI::App* const command = app->add_subcommand("bench", "Have every worker measure itself: megapixels and frames a second, memory");
  command->add_option("--model", *model, "Model, by name or id; auto (default): kairitsu-lite")->type_name("NAME");
  command->callback([session, model] { session->command = [session, model] { return RunBench(session, *model); }; });
}

}  // namespace nsic
