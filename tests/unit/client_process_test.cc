#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <future>
#include <string>
#include <thread>

#include "client/child_process.h"
#include "client/local_farm.h"
#include "core/base/files.h"

namespace nsic {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::HasSubstr;

class Processes : public testing::Test {
 protected:
  Processes() {
    std::string pattern = (fs::temp_directory_path() / "nsic-process-XXXXXX").string();
    if (::mkdtemp(pattern.data()) == nullptr) std::abort();
    folder_ = pattern;
  }
  ~Processes() override { fs::remove_all(folder_); }

  std::string Log() const { return folder_ + "/log"; }
  std::string WaitForEnd(ChildProcess* child) {
    while (!child->Poll()) std::this_thread::sleep_for(std::chrono::milliseconds(5));
    return *child->Poll();
  }
  void WriteScript(const std::string& name, const std::string& body) {
    const std::string path = folder_ + "/" + name;
    ASSERT_TRUE(WriteFileAtomically(path, "#!/bin/sh\n" + body).ok());
    fs::permissions(path, fs::perms::owner_all);
  }

  std::string folder_;
};

TEST_F(Processes, TellHowTheyEnded) {
  const struct {
    const char* script;
    const char* end;
  } rows[] = {{"exit 0", "ended with exit code 0"}, {"exit 3", "ended with exit code 3"}, {"kill -9 $$", "was killed by signal 9"}};
  for (const auto& row : rows) {
    Result<ChildProcess> child = ChildProcess::Start({"/bin/sh", "-c", row.script}, Log());
    ASSERT_TRUE(child.ok()) << child.status();
    EXPECT_EQ(WaitForEnd(&*child), row.end) << row.script;
  }
}

TEST_F(Processes, WriteIntoTheirLogWithoutOurSettings) {
  ASSERT_EQ(::setenv("NSIC_COORDINATOR", "elsewhere", 1), 0);
  Result<ChildProcess> child =
      ChildProcess::Start({"/bin/sh", "-c", "echo out; echo err >&2; env | grep -c NSIC_; read line; echo got:$line"}, Log());
  ::unsetenv("NSIC_COORDINATOR");
  ASSERT_TRUE(child.ok()) << child.status();
  WaitForEnd(&*child);
  EXPECT_EQ(*ReadFile(Log()), "out\nerr\n0\ngot:\n");
}

TEST_F(Processes, GetTheVariablesThatAreNotSet) {
  ASSERT_EQ(::setenv("SET_ALREADY", "ours", 1), 0);
  Result<ChildProcess> child =
      ChildProcess::Start({"/bin/sh", "-c", "echo $SET_ALREADY $SET_NEWLY"}, Log(), {"SET_ALREADY=theirs", "SET_NEWLY=theirs"});
  ::unsetenv("SET_ALREADY");
  ASSERT_TRUE(child.ok()) << child.status();
  WaitForEnd(&*child);
  EXPECT_EQ(*ReadFile(Log()), "ours theirs\n");
}

TEST_F(Processes, ThatCannotStartSaySo) {
  const Result<ChildProcess> child = ChildProcess::Start({folder_ + "/nothing"}, Log());
  EXPECT_EQ(child.status().code(), StatusCode::kNotFound);
  EXPECT_THAT(child.status().message(), HasSubstr("/nothing"));
}

TEST_F(Processes, AreStoppedEvenWhenTheyRefuse) {
  Result<ChildProcess> child = ChildProcess::Start({"/bin/sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.05; done"}, Log());
  ASSERT_TRUE(child.ok()) << child.status();
  while (ReadFile(Log()).value().empty()) std::this_thread::sleep_for(std::chrono::milliseconds(5));
  child->Stop(std::chrono::milliseconds(50));
  EXPECT_EQ(*child->Poll(), "was killed by signal 9");
}

TEST_F(Processes, DieWithTheThreadThatStartedThem) {
  std::promise<pid_t> started;
  std::promise<void> leave;
  std::thread parent([&] {
    Result<ChildProcess> child = ChildProcess::Start({"/bin/sleep", "1000"}, Log());
    ASSERT_TRUE(child.ok()) << child.status();
    started.set_value(child->pid());
    leave.get_future().wait();
    static ChildProcess* left = nullptr;  // as if nobody stopped it; still known, so that it is no leak
    left = new ChildProcess(*std::move(child));
    ASSERT_GT(left->pid(), 0);
  });
  const pid_t pid = started.get_future().get();
  EXPECT_EQ(::kill(pid, 0), 0);
  leave.set_value();
  parent.join();
  int status = 0;
  ASSERT_EQ(::waitpid(pid, &status, 0), pid);
  EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

TEST_F(Processes, LocksExcludeEachOther) {
  const std::string path = folder_ + "/lock";
  {
    const Result<FileLock> lock = FileLock::Take(path);
    ASSERT_TRUE(lock.ok()) << lock.status();
    EXPECT_EQ(FileLock::Take(path).status().code(), StatusCode::kAborted);
  }
  EXPECT_TRUE(FileLock::Take(path).ok());
}

TEST_F(Processes, LastLinesAreTheLast) {
  ASSERT_TRUE(WriteFileAtomically(Log(), "one\ntwo\nthree\n").ok());
  EXPECT_EQ(LastLines(Log(), 2), "two | three");
  EXPECT_EQ(LastLines(Log(), 9), "one | two | three");
  ASSERT_TRUE(WriteFileAtomically(Log(), "").ok());
  EXPECT_EQ(LastLines(Log(), 2), "(nothing)");
  EXPECT_THAT(LastLines(folder_ + "/nothing", 2), HasSubstr("No such file"));
}

// Programs that stand in for the farm's: a coordinator that writes its address and stays, and one that never comes up.
TEST_F(Processes, AFarmStartsAndStopsItsPrograms) {
  WriteScript("nsic-coordinator",
              "while [ $# -gt 0 ]; do case $1 in --address-file) out=$2;; esac; shift; done\n"
              "echo $$ > " +
                  folder_ + "/pid; echo 127.0.0.1:12345 > $out.new; mv $out.new $out; exec sleep 1000\n");
  WriteScript("nsic-worker", "exec sleep 1000\n");
  const SystemClock clock;
  const CancelToken cancel;
  const LocalFarmOptions options{folder_ + "/state", folder_};
  pid_t pid = 0;
  {
    Result<std::unique_ptr<LocalFarm>> farm = LocalFarm::Start(options, &clock, cancel);
    ASSERT_TRUE(farm.ok()) << farm.status();
    EXPECT_EQ((*farm)->place().address, "127.0.0.1:12345");
    EXPECT_EQ((*farm)->place().token.size(), 64u);
    EXPECT_EQ((*farm)->root_id().size(), 32u);
    EXPECT_EQ(fs::status(folder_ + "/state/token").permissions(), fs::perms::owner_read | fs::perms::owner_write);
    EXPECT_EQ(LocalFarm::Start(options, &clock, cancel).status().code(), StatusCode::kAborted) << "a second farm in the same folder";
    EXPECT_EQ(LocalFarm::FindRunning(folder_ + "/state")->address, "127.0.0.1:12345");
    pid = static_cast<pid_t>(std::stol(*ReadFile(folder_ + "/pid")));
    EXPECT_EQ(::kill(pid, 0), 0);

    // It is started again when it dies.
    ASSERT_EQ(::kill(pid, SIGKILL), 0);
    while (true) {
      const Result<std::string> text = ReadFile(folder_ + "/pid");
      if (text.ok() && !text->empty() && std::stol(*text) != pid) break;
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    pid = static_cast<pid_t>(std::stol(*ReadFile(folder_ + "/pid")));
    EXPECT_TRUE((*farm)->health().ok());
  }
  EXPECT_NE(::kill(pid, 0), 0) << "stopped with its farm";
  EXPECT_FALSE(fs::exists(folder_ + "/state/address"));
}

TEST_F(Processes, AFarmGivesUpOnAProgramThatKeepsEnding) {
  WriteScript("nsic-coordinator", "echo cannot open the database >&2; exit 7\n");
  WriteScript("nsic-worker", "exit 0\n");
  const SystemClock clock;
  const CancelToken cancel;
  const Status status = LocalFarm::Start({folder_ + "/state", folder_}, &clock, cancel).status();
  EXPECT_EQ(status.code(), StatusCode::kUnavailable);
  EXPECT_THAT(status.message(), AllOf(HasSubstr("exit code 7"), HasSubstr("cannot open the database"), HasSubstr("coordinator.log")));
}

TEST_F(Processes, AFarmNeedsItsPrograms) {
  const SystemClock clock;
  const CancelToken cancel;
  const Status status = LocalFarm::Start({folder_ + "/state", folder_ + "/empty"}, &clock, cancel).status();
  EXPECT_EQ(status.code(), StatusCode::kNotFound);
  EXPECT_THAT(status.message(), HasSubstr("nsic-coordinator"));
}

}  // namespace
}  // namespace nsic
