#include "core/base/program.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <future>
#include <mutex>
#include <regex>
#include <string>
#include <vector>

#include "core/base/files.h"
#include "core/base/log.h"

namespace nsic {
namespace {

namespace fs = std::filesystem;

TEST(SignalWatcherTest, CountsSignalsOfBothKinds) {
  std::mutex mutex;
  std::vector<int> counts;
  std::promise<void> two;
  {
    SignalWatcher watcher([&](int count) {
      std::lock_guard<std::mutex> lock(mutex);
      counts.push_back(count);
      if (count == 2) two.set_value();
    });
    raise(SIGPIPE);  // ignored: the test goes on
    raise(SIGTERM);
    // The kernel merges nothing here: each raise returns when its handler has run.
    raise(SIGINT);
    two.get_future().wait();
  }
  EXPECT_EQ(counts, (std::vector<int>{1, 2}));
  struct sigaction action {};
  sigaction(SIGTERM, nullptr, &action);
  EXPECT_EQ(action.sa_handler, SIG_DFL);
}

TEST(SignalWatcherTest, CanBeMadeAgain) {
  for (int i = 0; i < 3; ++i) {
    std::promise<int> got;
    SignalWatcher watcher([&got](int count) { got.set_value(count); });
    raise(SIGTERM);
    EXPECT_EQ(got.get_future().get(), 1) << "round " << i;
  }
}

TEST(ParseSizeTest, ReadsPowersOf1024) {
  const struct {
    std::string text;
    int64_t bytes;
  } kRows[] = {{"0", 0},
               {"1048576", 1048576},
               {"300k", 300 * 1024},
               {"512M", int64_t{512} << 20},
               {"4G", int64_t{4} << 30},
               {"1.5G", int64_t{3} << 29},
               {"2T", int64_t{2} << 40}};
  for (const auto& row : kRows) {
    const Result<int64_t> size = ParseSize(row.text);
    ASSERT_TRUE(size.ok()) << row.text << ": " << size.status();
    EXPECT_EQ(*size, row.bytes) << row.text;
  }
  for (const std::string text : {"", "M", "-1", "-0", "4X", "4GB", "4 G", "1e3", "nan", "inf", "99999999999T", "G4", "0x10"}) {
    const Status status = ParseSize(text).status();
    EXPECT_EQ(status.code(), StatusCode::kInvalidArgument) << "'" << text << "'";
    EXPECT_NE(status.message().find("512M"), std::string::npos) << status;
  }
}

TEST(ProgramTest, KnowsItsFolderAndVersion) {
  const Result<std::string> folder = ProgramFolder();
  ASSERT_TRUE(folder.ok()) << folder.status();
  EXPECT_TRUE(fs::exists(*folder + "/program_test")) << *folder;
  EXPECT_NE(VersionString().find('.'), std::string::npos);
}

// A program with two commands, as the real ones have, its settings from a file, the environment and the command line.
class ParseCommandLineTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = testing::TempDir() + "/program_test_XXXXXX";
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
    fs::create_directory(folder_ + "/nsic");
    Set("XDG_CONFIG_HOME", folder_);
  }
  void TearDown() override {
    for (const std::string& name : set_) unsetenv(name.c_str());
    fs::remove_all(folder_);
  }

  void Set(const std::string& name, const std::string& value) {
    setenv(name.c_str(), value.c_str(), 1);
    set_.push_back(name);
  }
  void WriteSettings(const std::string& toml) { ASSERT_TRUE(WriteFileAtomically(folder_ + "/nsic/config.toml", toml).ok()); }

  struct Parsed {
    std::optional<int> exit_code;
    std::string coordinator = "default";
    std::string model = "default";
    int priority = -1;
    bool json = false;
    int64_t quota = -1;
    std::vector<std::string> paths;
    std::vector<std::string> roots;
    std::string listen = "default";
    std::string output;  // what was printed
  };

  Parsed Parse(std::vector<std::string> arguments) {
    Parsed parsed;
    CLI::App app("A program", "nsic-test");
    app.add_option("--coordinator", parsed.coordinator);
    CLI::App* submit = app.add_subcommand("submit");
    submit->add_option("path", parsed.paths)->required();
    submit->add_option("--model", parsed.model);
    submit->add_option("--priority", parsed.priority);
    submit->add_option("--media-root", parsed.roots);
    submit->add_flag("--json", parsed.json);
    AddSizeOption(submit, "--quota", &parsed.quota, "room");
    CLI::App* serve = app.add_subcommand("serve");
    serve->add_option("--listen", parsed.listen);
    arguments.insert(arguments.begin(), "nsic-test");
    std::vector<char*> argv;
    for (std::string& argument : arguments) argv.push_back(argument.data());
    testing::internal::CaptureStdout();
    testing::internal::CaptureStderr();
    parsed.exit_code = ParseCommandLine(&app, static_cast<int>(argv.size()), argv.data());
    parsed.output = testing::internal::GetCapturedStdout() + testing::internal::GetCapturedStderr();
    return parsed;
  }

  std::string folder_;
  std::vector<std::string> set_;
};

TEST_F(ParseCommandLineTest, FlagsBeatEnvironmentBeatsFile) {
  const std::string kFile = "coordinator = 'file'\n";
  const struct {
    std::string what, file, environment, flag, expected;
  } kRows[] = {
      {"nothing", "", "", "", "default"},
      {"file", kFile, "", "", "file"},
      {"environment", "", "env", "", "env"},
      {"environment over file", kFile, "env", "", "env"},
      {"flag over file", kFile, "", "flag", "flag"},
      {"flag over environment", "", "env", "flag", "flag"},
      {"flag over both", kFile, "env", "flag", "flag"},
  };
  for (const auto& row : kRows) {
    WriteSettings(row.file);
    Set("NSIC_COORDINATOR", row.environment);  // empty counts as unset
    std::vector<std::string> arguments = {"submit", "photos"};
    if (!row.flag.empty()) arguments.insert(arguments.end(), {"--coordinator", row.flag});
    const Parsed parsed = Parse(arguments);
    EXPECT_EQ(parsed.exit_code, std::nullopt) << row.what << parsed.output;
    EXPECT_EQ(parsed.coordinator, row.expected) << row.what;
  }
}

TEST_F(ParseCommandLineTest, ReadsEveryKindOfValue) {
  WriteSettings(R"(
model = "for every command"
media-root = ["a=/a", "b=/b"]
[submit]
priority = 7
json = true
quota = "2M"
model = "for submit"
[serve]
listen = "0.0.0.0:1"
of-another-program = 1
)");
  const Parsed parsed = Parse({"submit", "photos"});
  EXPECT_EQ(parsed.exit_code, std::nullopt) << parsed.output;
  EXPECT_EQ(parsed.model, "for submit");
  EXPECT_EQ(parsed.priority, 7);
  EXPECT_TRUE(parsed.json);
  EXPECT_EQ(parsed.quota, 2 << 20);
  EXPECT_EQ(parsed.roots, (std::vector<std::string>{"a=/a", "b=/b"}));
  EXPECT_EQ(parsed.listen, "default") << "serve was not asked for";
}

TEST_F(ParseCommandLineTest, EnvironmentBeatsFileInACommandToo) {
  WriteSettings("[submit]\npriority = 7\njson = false\nquota = 5\n");
  Set("NSIC_PRIORITY", "8");
  Set("NSIC_JSON", "true");
  Set("NSIC_QUOTA", "1K");
  const Parsed parsed = Parse({"submit", "photos"});
  EXPECT_EQ(parsed.priority, 8);
  EXPECT_TRUE(parsed.json);
  EXPECT_EQ(parsed.quota, 1024);
}

TEST_F(ParseCommandLineTest, UsageErrorsExitWith2AndSayWhy) {
  const struct {
    std::string what, file;
    std::vector<std::string> arguments;
    std::string says;
  } kRows[] = {
      {"no command", "", {}, "subcommand"},
      {"unknown flag", "", {"submit", "a", "--frobnicate"}, "--frobnicate"},
      {"missing argument", "", {"submit"}, "path"},
      {"bad number", "", {"submit", "a", "--priority", "x"}, "--priority"},
      {"bad size", "", {"submit", "a", "--quota", "lots"}, "'lots' is not a size"},
      {"bad level", "", {"--log-level", "loud", "submit", "a"}, "no log level 'loud'"},
      {"two commands", "", {"serve", "submit"}, "submit"},
      {"file that is not there", "", {"--config", "/nonexistent.toml", "submit", "a"}, "/nonexistent.toml"},
      {"broken file", "coordinator = \n", {"submit", "a"}, "config.toml:1:"},
      {"unknown key in the command's table",
       "\n[submit]\nqualty = 3\n",
       {"submit", "a"},
       "config.toml:3: [submit] has no setting 'qualty'"},
      {"table that is a value", "submit = 3\n", {"submit", "a"}, "'submit' must be a table"},
      {"date", "coordinator = 2026-01-01\n", {"submit", "a"}, "'coordinator' must be a string"},
  };
  for (const auto& row : kRows) {
    WriteSettings(row.file);
    const Parsed parsed = Parse(row.arguments);
    EXPECT_EQ(parsed.exit_code, 2) << row.what;
    EXPECT_NE(parsed.output.find(row.says), std::string::npos) << row.what << ": " << parsed.output;
  }
}

TEST_F(ParseCommandLineTest, ProgramFlagsMayFollowTheCommand) {
  const Parsed parsed = Parse({"submit", "photos", "--coordinator", "box:7420", "--log-level", "error"});
  EXPECT_EQ(parsed.exit_code, std::nullopt) << parsed.output;
  EXPECT_EQ(parsed.coordinator, "box:7420");
  EXPECT_EQ(parsed.paths, (std::vector<std::string>{"photos"}));
  EXPECT_EQ(spdlog::get_level(), spdlog::level::err);
}

TEST_F(ParseCommandLineTest, ADoubleDashEndsTheFlags) {
  const Parsed parsed = Parse({"submit", "--json", "--", "-dash", "--model"});
  EXPECT_EQ(parsed.exit_code, std::nullopt) << parsed.output;
  EXPECT_EQ(parsed.paths, (std::vector<std::string>{"-dash", "--model"}));
}

TEST_F(ParseCommandLineTest, AFolderNamedLikeACommandIsAPath) {
  EXPECT_EQ(Parse({"submit", "serve"}).paths, (std::vector<std::string>{"serve"}));
}

TEST_F(ParseCommandLineTest, HelpAndVersionExitWith0) {
  const Parsed version = Parse({"--version"});
  EXPECT_EQ(version.exit_code, 0);
  EXPECT_EQ(version.output, "nsic-test " + VersionString() + "\n");
  const Parsed help = Parse({"submit", "--help"});
  EXPECT_EQ(help.exit_code, 0);
  EXPECT_NE(help.output.find("NSIC_PRIORITY"), std::string::npos) << help.output;
}

TEST_F(ParseCommandLineTest, ChildrenGetNoSettings) {
  Set("NSIC_METRICS", "127.0.0.1:1");
  bool path = false;
  for (const std::string& entry : EnvironmentWithoutSettings()) {
    EXPECT_NE(entry.rfind("NSIC_", 0), 0u) << entry;
    path = path || entry.rfind("PATH=", 0) == 0;
  }
  EXPECT_TRUE(path);
}

TEST(LogTest, OneLineAnEventInUtc) {
  SetUpLog("nsic-test");
  ASSERT_TRUE(SetLogLevel("info").ok());
  testing::internal::CaptureStderr();
  spdlog::debug("not shown");
  spdlog::warn("careful");
  const std::string text = testing::internal::GetCapturedStderr();
  EXPECT_TRUE(std::regex_match(text, std::regex("20[0-9][0-9]-[0-9]+-[0-9]+T[0-9]+:[0-9]+:[0-9]+\\.[0-9]+Z warning nsic-test: careful\n")))
      << text;
  EXPECT_EQ(SetLogLevel("loud").code(), StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace nsic
