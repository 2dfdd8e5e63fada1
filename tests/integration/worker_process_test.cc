// The program nsic-worker as its users run it, against a fake coordinator on loopback.
#include <arpa/inet.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <string>
#include <vector>

#include "core/base/files.h"
#include "core/media/picture.h"
#include "tests/fakes/fake_coordinator.h"
#include "tests/fakes/identity_task.h"
#include "tests/unit/media_pictures.h"

extern char** environ;

namespace nsic {
namespace {

class WorkerProcess : public PictureTest {
 protected:
  ~WorkerProcess() override {
    if (pid_ > 0) {
      ::kill(pid_, SIGKILL);
      ::waitpid(pid_, nullptr, 0);
    }
  }

  void Start(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), std::string(NSIC_BIN) + "/nsic-worker");
    std::vector<char*> argv;
    for (std::string& argument : arguments) argv.push_back(argument.data());
    argv.push_back(nullptr);
    posix_spawn_file_actions_t actions;
    ::posix_spawn_file_actions_init(&actions);
    ::posix_spawn_file_actions_addopen(&actions, 2, Path("log").c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
    ASSERT_EQ(::posix_spawn(&pid_, argv[0], &actions, nullptr, argv.data(), environ), 0) << argv[0];
    ::posix_spawn_file_actions_destroy(&actions);
  }
  void StartWorker(std::vector<std::string> more = {}) {
    std::vector<std::string> arguments = {
        "run", "--coordinator", coordinator_.address(), "--name",   "w1",       "--device", "cpu", "--threads", "1", "--max-memory",
        "1G",  "--cache",       Path("cache"),          "--config", "/dev/null"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    Start(arguments);
  }
  // The exit code; 1000 and the signal when one ended it.
  int Wait() {
    int state = 0;
    EXPECT_TRUE(WaitUntil([&] { return ::waitpid(pid_, &state, WNOHANG) == pid_; })) << Log();
    pid_ = -1;
    return WIFEXITED(state) ? WEXITSTATUS(state) : 1000 + WTERMSIG(state);
  }
  std::string Log() const { return Slurp(Path("log")); }
  bool Logged(const std::string& text) const { return Log().find(text) != std::string::npos; }

  std::string Png(int width, int height) {
    Noise(width, height, 3, VIPS_FORMAT_UCHAR).pngsave(Path("made.png").c_str());
    return Slurp(Path("made.png"));
  }

  FakeCoordinator coordinator_;
  pid_t pid_ = -1;
};

std::string HttpGet(int port, const std::string& path) {
  const UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (::connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) return "";
  EXPECT_TRUE(WriteAll(fd.get(), "GET " + path + " HTTP/1.0\r\n\r\n", "socket").ok());
  std::string answer;
  char buffer[4096];
  while (true) {
    const Result<size_t> got = ReadSome(fd.get(), buffer, sizeof buffer, "socket");
    if (!got.ok() || *got == 0) return answer;
    answer.append(buffer, *got);
  }
}

TEST_F(WorkerProcess, RestoresAPictureServesMetricsAndDrains) {
  const std::string png = Png(200, 150);
  coordinator_.Add(IdentityTask(&coordinator_, "good", png, 200, 150));
  coordinator_.Add(IdentityTask(&coordinator_, "bad", "no picture", 200, 150));
  StartWorker({"--metrics", "127.0.0.1:0"});
  ASSERT_TRUE(WaitUntil([&] { return coordinator_.Completed("good") && coordinator_.Failed("bad"); })) << Log();
  Spill(Path("output.png"), coordinator_.Output("good"));
  Spill(Path("source.png"), png);
  EXPECT_TRUE(DecodeFile(Path("output.png")) == DecodeFile(Path("source.png")));

  const std::string log = Log();
  const std::string mark = "metrics on port ";
  ASSERT_NE(log.find(mark), std::string::npos) << log;
  const int port = std::stoi(log.substr(log.find(mark) + mark.size()));
  const std::string metrics = HttpGet(port, "/metrics");
  for (const char* line :
       {"nsic_worker_tasks_total{model=\"identity\",result=\"done\"} 1", "nsic_worker_megapixels_total{model=\"identity\"} 0.03",
        "nsic_worker_task_seconds_count{model=\"identity\"} 1", "nsic_worker_stage_seconds_total{stage=\"fetch\"}",
        "nsic_worker_stage_seconds_total{stage=\"upload\"}", "nsic_worker_busy 0", "nsic_worker_device_seconds_total{state=\"busy\"}",
        "nsic_worker_device_seconds_total{state=\"idle\"}", "nsic_worker_errors_total{class=\"bad_input\",model=\"identity\"} 1",
        "nsic_worker_tiles_redone_total{model=\"identity\"} 0"}) {
    EXPECT_NE(metrics.find(line), std::string::npos) << line << "\n" << metrics;
  }

  ::kill(pid_, SIGTERM);
  EXPECT_EQ(Wait(), 0);
  EXPECT_TRUE(Logged("peak memory: ")) << Log();
}

TEST_F(WorkerProcess, SigtermLosesNoTask) {
  const std::string png = Png(1500, 1000);
  {
    std::lock_guard<std::mutex> lock(coordinator_.work.mutex);
    for (int i = 0; i < 12; ++i) {
      coordinator_.work.tasks.push_back(IdentityTask(&coordinator_, "t" + std::to_string(i), png, 1500, 1000));
    }
  }
  StartWorker();
  ASSERT_TRUE(WaitUntil([&] { return coordinator_.Completed("t0"); })) << Log();
  ::kill(pid_, SIGTERM);
  EXPECT_EQ(Wait(), 0);
  EXPECT_EQ(coordinator_.work.failed.size(), 0u);
  for (int i = 0; i < 12; ++i) {
    const std::string token = "t" + std::to_string(i);
    EXPECT_NE(coordinator_.Completed(token), coordinator_.Released(token)) << token << "\n" << Log();
  }
}

TEST_F(WorkerProcess, ASecondSignalLeavesAtOnce) {
  coordinator_.work.hang = true;
  coordinator_.Add(IdentityTask(&coordinator_, "a", Png(50, 50), 50, 50));
  StartWorker();
  ASSERT_TRUE(WaitUntil([&] {
    std::lock_guard<std::mutex> lock(coordinator_.blobs.mutex);
    return coordinator_.blobs.uploads > 0;
  })) << Log();
  ::kill(pid_, SIGTERM);
  ASSERT_TRUE(WaitUntil([&] { return Logged("a second signal leaves at once"); })) << Log();
  EXPECT_EQ(::waitpid(pid_, nullptr, WNOHANG), 0) << "it waits to deliver the result\n" << Log();
  ::kill(pid_, SIGTERM);
  EXPECT_EQ(Wait(), 130);
}

TEST_F(WorkerProcess, EndsWithACodeAndAMessageWhenItCannotWork) {
  Spill(Path("short"), "secret\n");
  Spill(Path("file"), "");
  const struct {
    const char* name;
    std::vector<std::string> arguments;
    int code;
    std::string message;
  } kRows[] = {
      {"no command", {}, 2, "subcommand"},
      {"no coordinator", {"run"}, 2, "--coordinator"},
      {"no such device", {"run", "--coordinator", "x", "--device", "cuda:99"}, 2, "cuda:99"},
      {"too little memory", {"run", "--coordinator", "x", "--max-memory", "10M"}, 2, "--max-memory must be at least"},
      {"a name with a slash", {"run", "--coordinator", "x", "--name", "a/b"}, 2, "a/b"},
      {"root without a folder", {"run", "--coordinator", "x", "--media-root", "home"}, 2, "ID=DIR"},
      {"root twice", {"run", "--coordinator", "x", "--media-root", "a=/", "--media-root", "a=/tmp"}, 2, "twice"},
      {"missing root", {"run", "--coordinator", "x", "--media-root", "a=/no/such/folder"}, 1, "/no/such/folder"},
      {"no token", {"run", "--coordinator", "x", "--token-file", Path("missing")}, 1, Path("missing")},
      {"short token", {"run", "--coordinator", "x", "--token-file", Path("short")}, 1, "at least 16"},
      {"cache is a file", {"run", "--coordinator", "x", "--cache", Path("file") + "/cache"}, 1, Path("file")},
      {"metrics address", {"run", "--coordinator", "x", "--metrics", "127.0.0.1:99999"}, 1, "--metrics"},
  };
  for (const auto& row : kRows) {
    std::filesystem::remove(Path("log"));
    std::vector<std::string> arguments = row.arguments;
    if (!arguments.empty()) {
      arguments.insert(arguments.end(), {"--config", "/dev/null"});
      if (std::string(row.name) != "cache is a file") arguments.insert(arguments.end(), {"--cache", Path("cache")});
    }
    Start(arguments);
    EXPECT_EQ(Wait(), row.code) << row.name << "\n" << Log();
    EXPECT_TRUE(Logged(row.message)) << row.name << "\n" << Log();
  }
}

TEST_F(WorkerProcess, ACoordinatorOfAnotherVersionIsLeft) {
  coordinator_.work.refusal = grpc::Status(grpc::FAILED_PRECONDITION, "worker w1 has version 0.1.0, which does not fit 7.0.0");
  StartWorker();
  EXPECT_EQ(Wait(), 3);
  EXPECT_TRUE(Logged("does not fit 7.0.0")) << Log();
}

}  // namespace
}  // namespace nsic

int main(int argc, char** argv) {
  ::unsetenv("http_proxy");
  const nsic::MediaLibrary media(2);
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
