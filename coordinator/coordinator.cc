#include "coordinator/coordinator.h"

#include <fcntl.h>
#include <grpcpp/grpcpp.h>
#include <spdlog/spdlog.h>
#include <sys/file.h>
#include <sys/stat.h>

#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "coordinator/bench_workers.h"
#include "coordinator/collect_blobs.h"
#include "coordinator/db/audit.h"
#include "coordinator/db/blobs.h"
#include "coordinator/db/database.h"
#include "coordinator/executor.h"
#include "coordinator/metrics.h"
#include "coordinator/receive_blob.h"
#include "coordinator/register_models.h"
#include "coordinator/serve_call.h"
#include "coordinator/services.h"
#include "coordinator/sweep_leases.h"
#include "coordinator/wait_for_work.h"
#include "coordinator/watch_job.h"
#include "core/base/files.h"
#include "core/farm/blob_store.h"
#include "core/rpc/channel.h"

namespace nsic {
namespace {

constexpr int kCallThreads = 16;     // mostly waiting for the writer's disk: so many share a commit
constexpr int kTransferThreads = 8;  // hashing and disk
constexpr std::chrono::seconds kTick{1};
constexpr int kTicksPerWatch = 2;
constexpr int kTicksPerCollection = 600;
constexpr std::chrono::seconds kGrace{3};  // for running calls when stopping
// Clients ping every 20 s; anything much faster is a fault.
constexpr int kMinPingMs = 5'000;
constexpr int kKeepaliveMs = 30'000;
constexpr int kKeepaliveTimeoutMs = 10'000;

Status CheckExposure(const Coordinator::Options& options) {
  if (IsLoopback(options.listen) || !options.token.empty() || options.insecure) return OkStatus();
  return FailedPreconditionError("listening at " + options.listen +
                                 " lets other machines in: give --token-file FILE, whose first line every client and worker must present, "
                                 "or --insecure if you trust everyone who can reach this machine");
}

// "host" of "host:port".
std::string HostOf(const std::string& address) { return address.substr(0, address.rfind(':')); }

}  // namespace

struct Coordinator::Impl {
  explicit Impl(Options given) : options(std::move(given)) {}

  ~Impl() { Stop(); }

  Status Open();
  Status Serve();
  void OnCommit(const Changes& changes);
  void KeepHouse();
  void Stop();

  const Options options;
  UniqueFd lock;
  Metrics metrics;
  BenchBoard bench;
  std::unique_ptr<Database> database;
  std::unique_ptr<DatabaseBlobIndex> index;
  std::unique_ptr<BlobStore> blobs;
  Farm farm{};
  std::unique_ptr<BlobReceiver> receiver;
  std::unique_ptr<Executor> calls;
  std::unique_ptr<Executor> transfers;
  std::unique_ptr<CallGate> gate;
  std::unique_ptr<JobWatchers> watchers;
  std::unique_ptr<WorkQueue> queue;
  std::vector<std::unique_ptr<grpc::Service>> services;
  std::unique_ptr<grpc::Server> server;
  std::string address;
  int metrics_port = 0;

  std::mutex mutex;
  std::condition_variable woken;
  bool garbage = true;    // guarded by mutex: at the start there may be some left
  bool stopping = false;  // guarded by mutex
  std::thread housekeeper;
};

Status Coordinator::Impl::Open() {
  NSIC_RETURN_IF_ERROR(CheckExposure(options));
  NSIC_RETURN_IF_ERROR(MakeFolders(options.state_folder));
  // Pictures and tokens of others are in it: nobody else on this machine needs to look.
  if (::chmod(options.state_folder.c_str(), 0700) != 0) return ErrnoError(errno, "cannot protect " + options.state_folder);
  const std::string lock_path = options.state_folder + "/lock";
  lock = UniqueFd(::open(lock_path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666));
  if (!lock.valid()) return ErrnoError(errno, "cannot open " + lock_path);
  if (::flock(lock.get(), LOCK_EX | LOCK_NB) != 0) {
    return FailedPreconditionError("another coordinator is using " + options.state_folder + "; stop it, or give this one another --state");
  }

  NSIC_ASSIGN_OR_RETURN(database, Database::Open(options.state_folder + "/coordinator.db"));
  index = std::make_unique<DatabaseBlobIndex>(database.get(), options.clock);
  farm.database = database.get();
  farm.clock = options.clock;
  farm.metrics = &metrics;
  farm.bench = &bench;
  farm.options = options.farm;
  BlobStore::Options store;
  store.folder = options.state_folder;
  store.quota = options.quota;
  store.make_room = [this](int64_t bytes) {
    if (const Status status = MakeRoom(farm, bytes); !status.ok()) spdlog::error("cannot make room: {}", status.ToString());
  };
  NSIC_ASSIGN_OR_RETURN(blobs, BlobStore::Open(std::move(store), index.get()));
  farm.blobs = blobs.get();

  NSIC_RETURN_IF_ERROR(database->Read([](Transaction& transaction) { return Audit(transaction); }));
  NSIC_RETURN_IF_ERROR(ExtendLeasesAfterStart(farm));
  if (!options.models_folder.empty()) NSIC_RETURN_IF_ERROR(RegisterShippedModels(farm, options.models_folder));
  return OkStatus();
}

Status Coordinator::Impl::Serve() {
  receiver = std::make_unique<BlobReceiver>(&farm);
  calls = std::make_unique<Executor>(kCallThreads);
  transfers = std::make_unique<Executor>(kTransferThreads);
  gate = std::make_unique<CallGate>(options.token, &metrics, calls.get(), transfers.get());
  watchers = std::make_unique<JobWatchers>(&farm);
  queue = std::make_unique<WorkQueue>(&farm);
  services.push_back(MakeJobsService(&farm, gate.get(), watchers.get()));
  services.push_back(MakeBlobsService(&farm, gate.get(), receiver.get()));
  services.push_back(MakeWorkService(&farm, gate.get(), queue.get()));
  services.push_back(MakeModelsService(&farm, gate.get()));
  services.push_back(MakeAdminService(&farm, gate.get()));
  database->SetListener([this](const Changes& changes) { OnCommit(changes); });

  grpc::ServerBuilder builder;
  int port = 0;
  builder.AddListeningPort(options.listen, grpc::InsecureServerCredentials(), &port);
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);  // a taken port must be an error
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, kKeepaliveMs);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kKeepaliveTimeoutMs);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, kMinPingMs);
  builder.SetMaxReceiveMessageSize(kMaxMessageBytes);
  builder.SetMaxSendMessageSize(kMaxMessageBytes);
  for (const std::unique_ptr<grpc::Service>& service : services) builder.RegisterService(service.get());
  server = builder.BuildAndStart();
  if (server == nullptr || port == 0) return UnavailableError("cannot listen at " + options.listen + "; is the port taken?");
  address = HostOf(options.listen) + ":" + std::to_string(port);
  if (!options.metrics.empty()) {
    NSIC_ASSIGN_OR_RETURN(metrics_port, metrics.Serve(options.metrics, &farm));
  }
  housekeeper = std::thread([this] { KeepHouse(); });
  return OkStatus();
}

// On the database's writer thread: only hands on.
void Coordinator::Impl::OnCommit(const Changes& changes) {
  if (!changes.jobs.empty()) watchers->Notify(changes.jobs);
  if (changes.work) queue->Wake();
  if (changes.garbage) {
    std::lock_guard<std::mutex> guard(mutex);
    garbage = true;
    woken.notify_one();
  }
}

void Coordinator::Impl::KeepHouse() {
  const auto log = [](std::string_view what, const Status& status) {
    if (!status.ok()) spdlog::error("{}: {}", what, status.ToString());
  };
  for (int64_t tick = 0;; ++tick) {
    bool collect = false;
    {
      std::unique_lock<std::mutex> guard(mutex);
      woken.wait_for(guard, kTick, [this] { return stopping || garbage; });
      if (stopping) return;
      collect = std::exchange(garbage, false);
    }
    log("sweeping leases", SweepLeases(farm));
    if (collect) {
      log("removing blobs", CollectGivenUp(farm));
      // Workers are given nothing while there is no room for results.
      if (const int64_t missing = blobs->MissingForMargin(); missing > 0) log("making room", MakeRoom(farm, missing));
      if (blobs->HasRoom()) queue->Wake();
    }
    if (tick % kTicksPerCollection == 0) log("removing old blobs", CollectOld(farm));
    if (tick % kTicksPerWatch == 0) watchers->NotifyAll();
  }
}

void Coordinator::Impl::Stop() {
  {
    std::lock_guard<std::mutex> guard(mutex);
    if (std::exchange(stopping, true)) return;
  }
  woken.notify_all();
  if (queue) queue->Stop();
  if (watchers) watchers->Stop();
  if (server) {
    server->Shutdown(std::chrono::system_clock::now() + kGrace);
    server->Wait();
  }
  if (housekeeper.joinable()) housekeeper.join();
}

Coordinator::Coordinator(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Coordinator::~Coordinator() = default;

Result<std::unique_ptr<Coordinator>> Coordinator::Start(Options options) {
  auto impl = std::make_unique<Impl>(std::move(options));
  NSIC_RETURN_IF_ERROR(impl->Open());
  NSIC_RETURN_IF_ERROR(impl->Serve());
  return std::unique_ptr<Coordinator>(new Coordinator(std::move(impl)));
}

const std::string& Coordinator::address() const { return impl_->address; }
int Coordinator::metrics_port() const { return impl_->metrics_port; }
void Coordinator::Stop() { impl_->Stop(); }
const Farm& Coordinator::farm() const { return impl_->farm; }

}  // namespace nsic
