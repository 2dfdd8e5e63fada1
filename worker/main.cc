// nsic-worker: does the farm's tasks on this machine. Exit codes: 0 drained, 1 cannot start, 2 usage, 3 refused by the coordinator.
#include <malloc.h>
#include <spdlog/spdlog.h>
#include <sys/resource.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdlib>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/base/clock.h"
#include "core/base/program.h"
#include "core/base/status.h"
#include "core/infer/choose_precision.h"
#include "core/infer/engine.h"
#include "core/media/picture.h"
#include "core/rpc/channel.h"
#include "worker/describe_machine.h"
#include "worker/remember_precision.h"
#include "worker/work_loop.h"
#include "worker/worker_metrics.h"

namespace nsic {
namespace {

constexpr int kCannotStart = 1;
constexpr int kUsage = 2;
constexpr int kRefused = 3;
constexpr int kInterrupted = 130;

struct Flags {
  std::string coordinator;
  std::string name = HostName();
  std::string device = "auto";
  std::string precision = "auto";
  int threads = 0;
  int64_t max_memory = MemoryBytes() / 2;
  std::string token_file;
  std::string metrics;
  std::string cache;
  std::vector<std::string> media_roots;
};

void AddFlags(CLI::App* run, Flags* flags) {
  run->add_option("--coordinator", flags->coordinator, "Where the coordinator listens (port 7420 if none is given)")
      ->type_name("HOST:PORT")
      ->required();
  run->add_option("--name", flags->name, "This worker's name in the farm; each needs its own (default " + flags->name + ")");
  run->add_option("--device", flags->device, "auto, cpu, or a CUDA device such as cuda:0 (default auto)");
  run->add_option("--precision", flags->precision,
                  "auto, which measures each model once and remembers, fp32, tf32, bf16 or fp16 (default auto)")
      ->check(CLI::IsMember({"auto", "fp32", "tf32", "bf16", "fp16"}));
  run->add_option("--threads", flags->threads, "CPU threads to use; 0, the default, means all cores")->check(CLI::Range(0, 1024));
  AddSizeOption(run, "--max-memory", &flags->max_memory, "Memory to keep to, such as 4G (default half of the machine's)");
  run->add_option("--token-file", flags->token_file, "File whose first line is the farm's token")->type_name("FILE");
  run->add_option("--metrics", flags->metrics, "Serve Prometheus metrics here")->type_name("HOST:PORT");
  run->add_option("--cache", flags->cache, "Folder for sources, models and results under way (default $XDG_CACHE_HOME/nsic/worker-NAME)")
      ->type_name("DIR");
  run->add_option("--media-root", flags->media_roots, "A folder whose files this worker reads in place, under the id that clients use")
      ->type_name("ID=DIR");
}

// A name ends up in a folder's name, in logs and in metrics.
Status CheckName(const std::string& name) {
  const bool bad = name.empty() || name.size() > 100 || name[0] == '.' || name[0] == '-' ||
                   std::any_of(name.begin(), name.end(), [](unsigned char c) { return c < 0x20 || c == 0x7f || c == '/'; });
  if (!bad) return OkStatus();
  return InvalidArgumentError("'" + name + "' is no name for a worker: up to 100 characters without '/', not starting with '.' or '-'");
}

Result<std::map<std::string, std::string>> ParseMediaRoots(const std::vector<std::string>& arguments) {
  std::map<std::string, std::string> roots;
  for (const std::string& argument : arguments) {
    const size_t equals = argument.find('=');
    if (equals == std::string::npos || equals == 0 || equals + 1 == argument.size()) {
      return InvalidArgumentError("--media-root wants ID=DIR, not '" + argument + "'");
    }
    if (!roots.emplace(argument.substr(0, equals), argument.substr(equals + 1)).second) {
      return InvalidArgumentError("--media-root names the id '" + argument.substr(0, equals) + "' twice");
    }
  }
  return roots;
}

Result<std::string> DefaultCache(const std::string& name) {
  const char* cache = std::getenv("XDG_CACHE_HOME");
  if (cache != nullptr && *cache == '/') return std::string(cache) + "/nsic/worker-" + name;
  const char* home = std::getenv("HOME");
  if (home != nullptr && *home != '\0') return std::string(home) + "/.cache/nsic/worker-" + name;
  return InvalidArgumentError("neither XDG_CACHE_HOME nor HOME is set; name a folder with --cache");
}

Result<WorkerOptions> ToOptions(const Flags& flags) {
  NSIC_RETURN_IF_ERROR(CheckName(flags.name));
  if (flags.max_memory < kLeastMaxMemory) {
    return InvalidArgumentError("--max-memory must be at least " + std::to_string(kLeastMaxMemory >> 20) + "M");
  }
  WorkerOptions options;
  options.coordinator = WithDefaultPort(flags.coordinator);
  options.name = flags.name;
  options.version = VersionString();
  NSIC_ASSIGN_OR_RETURN(options.media_roots, ParseMediaRoots(flags.media_roots));
  NSIC_ASSIGN_OR_RETURN(options.device, ResolveDevice(flags.device));
  options.device_name = DeviceName(options.device);
  options.cores = CoreCount();
  options.threads = flags.threads > 0 ? flags.threads : options.cores;
  options.memory_bytes = MemoryBytes();
  options.max_memory = flags.max_memory;
  options.cache = flags.cache;
  if (options.cache.empty()) {
    NSIC_ASSIGN_OR_RETURN(options.cache, DefaultCache(flags.name));
  }
  return options;
}

// Loads models in the precision that the flag names, or else in the one that this machine has measured for each.
Result<EnhancerLoader> MakeLoader(const std::string& precision, const EngineOptions& engine, const WorkerOptions& worker,
                                  const Clock* clock) {
  if (precision != "auto") {
    EngineOptions forced = engine;
    NSIC_ASSIGN_OR_RETURN(forced.precision, ParsePrecision(precision));
    const Status status = CheckPrecision(engine.device, forced.precision);
    if (!status.ok()) return status.WithContext("--precision");
    return EnhancerLoader([forced](const ModelPack& pack) { return LoadEnhancer(pack, forced); });
  }
  const std::string machine = worker.device_name + ", " + EngineSoftware(engine.device) + ", nsic " + worker.version;
  const auto book = std::make_shared<PrecisionBook>(worker.cache + "/precisions.json", machine);
  return EnhancerLoader([engine, book, clock](const ModelPack& pack) -> Result<std::unique_ptr<Enhancer>> {
    EngineOptions chosen = engine;
    NSIC_ASSIGN_OR_RETURN(chosen.precision, book->Choose(PackIdentity(pack.card), [&]() -> Result<PrecisionChoice> {
      NSIC_ASSIGN_OR_RETURN(const std::unique_ptr<PrecisionProbe> probe, MakeNetworkProbe(pack, engine, clock));
      return ChoosePrecision(probe.get());
    }));
    return LoadEnhancer(pack, chosen);
  });
}

int Fail(int code, const Status& status) {
  spdlog::error("{}", status.message());
  return code;
}

int Run(const Flags& flags) {
  // Pictures are large blocks that come and go: they are mapped and unmapped singly, so that the process shrinks after each, and few
  // arenas keep the rest together. The samples of a tile are smaller: new pages for each would cost a twentieth of the time.
  ::mallopt(M_ARENA_MAX, 4);
  ::mallopt(M_MMAP_THRESHOLD, 8 << 20);
  ::mallopt(M_TRIM_THRESHOLD, 64 << 20);

  Result<WorkerOptions> options = ToOptions(flags);
  if (!options.ok()) return Fail(kUsage, options.status());
  if (!flags.token_file.empty()) {
    Result<std::string> token = ReadTokenFile(flags.token_file);
    if (!token.ok()) return Fail(kCannotStart, token.status());
    options->token = *std::move(token);
  }

  SetEngineThreads(flags.threads);
  const MediaLibrary media(flags.threads);
  const SystemClock clock;
  WorkerMetrics metrics;
  if (!flags.metrics.empty()) {
    const Result<int> port = metrics.Serve(flags.metrics);
    if (!port.ok()) return Fail(kCannotStart, port.status());
    spdlog::info("metrics on port {}", *port);
  }
  EngineOptions engine;
  engine.device = options->device;
  engine.threads = flags.threads;
  engine.memory_budget = ShareMemory(options->max_memory).engine;
  spdlog::info("nsic-worker {} '{}' on {} ({}, {} cores), keeping to {} MiB, cache {}", VersionString(), options->name, options->device,
               options->device_name, options->cores, options->max_memory >> 20, options->cache);

  Result<EnhancerLoader> load = MakeLoader(flags.precision, engine, *options, &clock);
  if (!load.ok()) return Fail(kUsage, load.status());
  ModelLoaders loaders;
  loaders.enhancer = *std::move(load);
  loaders.scorer = [engine](const ModelPack& pack) { return LoadScorer(pack, engine); };
  // Workers must agree on what a file is: all look in the same way, whatever they compute on.
  EngineOptions common = engine;
  common.device = "cpu";
  loaders.classifier = [common](const ModelPack& pack) { return LoadClassifier(pack, common); };
  Result<std::unique_ptr<WorkLoop>> loop = WorkLoop::Make(*options, std::move(loaders), &clock, &metrics);
  if (!loop.ok()) return Fail(kCannotStart, loop.status());

  Status status;
  {
    const SignalWatcher signals([&loop](int count) {
      if (count > 1) {
        spdlog::warn("leaving at once; the coordinator gives this worker's tasks to others when their leases end");
        std::_Exit(kInterrupted);
      }
      spdlog::info("finishing what has begun and giving back the rest; a second signal leaves at once");
      (*loop)->Drain();
    });
    status = (*loop)->Run();
  }
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  spdlog::info("peak memory: {} MiB of {} MiB", usage.ru_maxrss >> 10, options->max_memory >> 20);
  return status.ok() ? 0 : Fail(kRefused, status);
}

}  // namespace
}  // namespace nsic

int main(int argc, char** argv) {
  // OpenMP's threads spin while they wait unless told not to, which halves the speed as soon as another program wants a core. Those that go
  // to sleep at once come too late for the next layer, which costs a tenth: they spin for about a millisecond. The library reads this when
  // it is loaded, so it must stand in the environment before the program starts. Without /proc the worker is only slower.
  if (std::getenv("OMP_WAIT_POLICY") == nullptr && ::setenv("GOMP_SPINCOUNT", "20000", /*overwrite=*/0) == 0 &&
      ::setenv("OMP_WAIT_POLICY", "passive", /*overwrite=*/0) == 0) {
    ::execv("/proc/self/exe", argv);
  }
  CLI::App app("Does the tasks of an NSIC farm on this machine", "nsic-worker");
  nsic::Flags flags;
  CLI::App* run = app.add_subcommand("run", "Work for a coordinator until told to stop (SIGTERM)");
  nsic::AddFlags(run, &flags);
  if (const std::optional<int> code = nsic::ParseCommandLine(&app, argc, argv)) return *code;
  return nsic::Run(flags);
}
