// workers: the machines of the farm.
#include <cstdio>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "client/session.h"
#include "client/text.h"

namespace nsic {
namespace {

std::string Speed(double megapixels_per_second) {
  char buffer[32];
  std::snprintf(buffer, sizeof buffer, megapixels_per_second < 1 ? "%.3f MP/s" : "%.2f MP/s", megapixels_per_second);
  return buffer;
}

// Identities to names, for those that the coordinator still has.
std::map<std::string, std::string> ModelNames(const std::vector<v1::Model>& models) {
  std::map<std::string, std::string> names;
  for (const v1::Model& model : models) names[model.id()] = model.name();
  return names;
}

std::string NameOf(const std::map<std::string, std::string>& names, const std::string& id) {
  const auto name = names.find(id);
  return name == names.end() ? id.substr(0, 12) : name->second;
}

nlohmann::json ToJson(const v1::WorkerStatus& worker, const std::map<std::string, std::string>& names) {
  nlohmann::json speeds = nlohmann::json::array();
  for (const v1::ModelSpeed& speed : worker.speeds()) {
    speeds.push_back({{"model", NameOf(names, speed.model_id())},
                      {"model_id", speed.model_id()},
                      {"megapixels_per_second", speed.megapixels_per_second()},
                      {"precision", speed.precision()}});
  }
  nlohmann::json blocked = nlohmann::json::array();
  for (const std::string& id : worker.blocked_models()) blocked.push_back(NameOf(names, id));
  return {{"name", worker.name()},
          {"device", worker.device()},
          {"device_name", worker.device_name()},
          {"version", worker.version()},
          {"cores", worker.cores()},
          {"memory_bytes", worker.memory_bytes()},
          {"connected", worker.connected()},
          {"draining", worker.draining()},
          {"last_seen_ms", worker.last_seen_ms()},
          {"active_leases", worker.active_leases()},
          {"tasks_done", worker.tasks_done()},
          {"tasks_failed", worker.tasks_failed()},
          {"speeds", std::move(speeds)},
          {"blocked_models", std::move(blocked)}};
}

int RunWorkers(Session* session) {
  const Status status = session->Connect(Session::Need::kLook);
  if (!status.ok()) return session->Fail(status);
  const Result<std::vector<v1::WorkerStatus>> workers = session->farm().ListWorkers(session->cancel());
  if (!workers.ok()) return session->Fail(workers.status());
  const Result<std::vector<v1::Model>> models = session->farm().ListModels(session->cancel());
  if (!models.ok()) return session->Fail(models.status());
  const std::map<std::string, std::string> names = ModelNames(*models);
  if (session->options.json) {
    nlohmann::json list = nlohmann::json::array();
    for (const v1::WorkerStatus& worker : *workers) list.push_back(ToJson(worker, names));
    session->PrintJson(nlohmann::json({{"workers", std::move(list)}}).dump(2));
    return kExitDone;
  }
  if (session->local_farm() != nullptr) {
    session->progress().Notice("the farm of this machine works only while a submit or a fetch runs; this is what it last knew");
  }
  if (workers->empty()) {
    session->Print("no workers: start one with nsic-worker run --coordinator HOST:PORT\n");
    return kExitDone;
  }
  std::vector<std::vector<std::string>> rows = {{"WORKER", "STATE", "DEVICE", "CORES", "MEMORY", "RUNNING", "DONE", "FAILED", "SPEEDS"}};
  for (const v1::WorkerStatus& worker : *workers) {
    std::string speeds;
    for (const v1::ModelSpeed& speed : worker.speeds()) {
      speeds += (speeds.empty() ? "" : ", ") + NameOf(names, speed.model_id()) + " " + Speed(speed.megapixels_per_second()) + " " +
                speed.precision();
    }
    for (const std::string& id : worker.blocked_models()) speeds += (speeds.empty() ? "" : ", ") + NameOf(names, id) + " blocked";
    rows.push_back({worker.name(),
                    !worker.connected() ? "away"
                    : worker.draining() ? "draining"
                                        : "connected",
                    worker.device() + " (" + worker.device_name() + ")", std::to_string(worker.cores()), FormatBytes(worker.memory_bytes()),
                    std::to_string(worker.active_leases()), std::to_string(worker.tasks_done()), std::to_string(worker.tasks_failed()),
                    speeds});
  }
  session->Print(FormatTable(rows));
  return kExitDone;
}

}  // namespace

void AddWorkersCommand(CLI::App* app, Session* session) {
  app->add_subcommand("workers", "List the farm's workers: device, state, speed a model")->callback([session] {
    session->command = [session] { return RunWorkers(session); };
  });
}

}  // namespace nsic
