#include "core/base/program.h"

#include <fcntl.h>
#include <signal.h>
#include <toml++/toml.h>
#include <unistd.h>

#include <atomic>
#include <cctype>
#include <cerrno>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <memory>
#include <system_error>
#include <utility>

#include "core/base/log.h"

extern char** environ;

namespace nsic {
namespace {

// Where the handler writes; -1 outside a SignalWatcher's life. A handler can reach nothing but a global, and dispositions are global too.
std::atomic<int> g_signal_fd{-1};
static_assert(std::atomic<int>::is_always_lock_free, "a signal handler may use lock-free atomics only");

// A handler, not a blocked mask with signalfd: libraries (OpenBLAS) start threads before main runs, whose masks we cannot set, and one
// thread that does not block SIGTERM is enough to kill the process.
extern "C" void ForwardSignal(int) {
  const int saved = errno;
  const char byte = 1;
  const int fd = g_signal_fd.load();
  // The pipe does not block; when 64 Ki signals wait already, one more tells nothing new.
  if (fd >= 0 && ::write(fd, &byte, 1) < 0) errno = saved;
  errno = saved;
}

void SetAction(int signal_number, void (*handler)(int)) {
  struct sigaction action {};
  action.sa_handler = handler;
  action.sa_flags = SA_RESTART;
  sigemptyset(&action.sa_mask);
  sigaction(signal_number, &action, nullptr);
}

// "--token-file" is NSIC_TOKEN_FILE.
std::string EnvironmentName(const std::string& long_name) {
  std::string name = "NSIC_";
  for (const char c : long_name) name += c == '-' ? '_' : static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  return name;
}

bool IsSetting(const CLI::Option& option) { return option.get_configurable() && !option.get_lnames().empty(); }

void NameEnvironment(CLI::App* command) {
  for (CLI::Option* option : command->get_options()) {
    if (IsSetting(*option)) option->envname(EnvironmentName(option->get_lnames().front()));
  }
  for (CLI::App* sub : command->get_subcommands({})) {
    sub->fallthrough();
    NameEnvironment(sub);
  }
}

bool IsSetInEnvironment(const CLI::Option& option) {
  const char* value = std::getenv(option.get_envname().c_str());
  return value != nullptr && *value != '\0';
}

// CLI11 asks this class for the settings of a file, and gives them to options that were not on the command line before it looks at the
// environment. That is the wrong way round, so settings whose variable is set are left out here.
class SettingsFile : public CLI::ConfigBase {
 public:
  explicit SettingsFile(const CLI::App* app) : app_(app) {}

  std::vector<CLI::ConfigItem> from_config(std::istream& input) const override {
    const std::string path = app_->get_config_ptr()->as<std::string>();
    try {
      const toml::table file = toml::parse(input, path);
      std::vector<CLI::ConfigItem> items;
      // The tables of all commands that were given, then what holds for every command and was not in a command's own table.
      CollectCommand(*app_, file, &file, {}, path, &items);
      return items;
    } catch (const toml::parse_error& error) {
      throw CLI::ConfigError(path + ":" + std::to_string(error.source().begin.line) + ": " + std::string(error.description()));
    }
  }

 private:
  // `own` is the value of the command's name in the file, or null.
  static void CollectCommand(const CLI::App& command, const toml::table& file, const toml::node* own,
                             const std::vector<std::string>& parents, const std::string& path, std::vector<CLI::ConfigItem>* items) {
    const toml::table* table = own != nullptr ? own->as_table() : nullptr;
    if (own != nullptr && table == nullptr) throw CLI::ConfigError(path + ": '" + CLI::detail::join(parents, ".") + "' must be a table");
    for (const CLI::Option* option : command.get_options()) {
      if (!IsSetting(*option) || IsSetInEnvironment(*option)) continue;
      const std::string& key = option->get_lnames().front();
      const toml::node* value = table != nullptr ? table->get(key) : nullptr;
      if (value == nullptr) value = file.get(key);
      if (value == nullptr || value->is_table()) continue;  // [coordinator] at the top would be a command's table
      items->push_back({parents, key, Inputs(*value, path, key)});
    }
    if (table != nullptr && !parents.empty()) RefuseUnknown(command, *table, parents, path);
    for (const CLI::App* sub : command.get_subcommands()) {  // those on the command line
      std::vector<std::string> below = parents;
      below.push_back(sub->get_name());
      const toml::node* node = table != nullptr ? table->get(sub->get_name()) : nullptr;
      CollectCommand(*sub, file, node, below, path, items);
    }
  }

  static void RefuseUnknown(const CLI::App& command, const toml::table& table, const std::vector<std::string>& parents,
                            const std::string& path) {
    for (const auto& [key, value] : table) {
      const std::string name(key.str());
      if (value.is_table() && !command.get_subcommands([&](const CLI::App* sub) { return sub->get_name() == name; }).empty()) continue;
      const CLI::Option* option = command.get_option_no_throw("--" + name);
      if (option == nullptr || !IsSetting(*option)) {
        throw CLI::ConfigError(path + ":" + std::to_string(value.source().begin.line) + ": [" + CLI::detail::join(parents, ".") +
                               "] has no setting '" + name + "'");
      }
    }
  }

  static std::vector<std::string> Inputs(const toml::node& value, const std::string& path, const std::string& key) {
    if (const toml::array* array = value.as_array()) {
      std::vector<std::string> inputs;
      for (const toml::node& element : *array) inputs.push_back(Input(element, path, key));
      return inputs;
    }
    return {Input(value, path, key)};
  }

  static std::string Input(const toml::node& value, const std::string& path, const std::string& key) {
    if (const auto* text = value.as_string()) return text->get();
    if (const auto* number = value.as_integer()) return std::to_string(number->get());
    if (const auto* flag = value.as_boolean()) return flag->get() ? "true" : "false";
    if (const auto* number = value.as_floating_point()) {
      char buffer[32];
      const auto end = std::to_chars(buffer, buffer + sizeof buffer, number->get());
      return std::string(buffer, end.ptr);
    }
    throw CLI::ConfigError(path + ":" + std::to_string(value.source().begin.line) + ": '" + key +
                           "' must be a string, a number or true/false");
  }

  const CLI::App* app_;
};

// Empty when neither XDG_CONFIG_HOME nor HOME is set.
std::string DefaultConfigPath() {
  if (const char* folder = std::getenv("XDG_CONFIG_HOME"); folder != nullptr && *folder == '/')
    return std::string(folder) + "/nsic/config.toml";
  if (const char* home = std::getenv("HOME"); home != nullptr && *home != '\0') return std::string(home) + "/.config/nsic/config.toml";
  return "";
}

}  // namespace

SignalWatcher::SignalWatcher(std::function<void(int)> on_signal) : on_signal_(std::move(on_signal)) {
  int ends[2];
  // Without a pipe (no descriptors left at the start of main) the program could not be stopped in order: end it.
  if (::pipe2(ends, O_CLOEXEC) != 0) std::abort();
  read_end_ = UniqueFd(ends[0]);
  write_end_ = UniqueFd(ends[1]);
  ::fcntl(write_end_.get(), F_SETFL, O_NONBLOCK);
  int expected = -1;
  if (!g_signal_fd.compare_exchange_strong(expected, write_end_.get())) std::abort();  // a second watcher: a bug
  thread_ = std::thread([this] { Run(); });
  SetAction(SIGPIPE, SIG_IGN);
  SetAction(SIGINT, ForwardSignal);
  SetAction(SIGTERM, ForwardSignal);
}

SignalWatcher::~SignalWatcher() {
  SetAction(SIGINT, SIG_DFL);
  SetAction(SIGTERM, SIG_DFL);
  g_signal_fd.store(-1);
  write_end_.reset();
  thread_.join();
}

void SignalWatcher::Run() {
  int count = 0;
  char byte = 0;
  while (true) {
    const ssize_t got = ::read(read_end_.get(), &byte, 1);
    if (got == 1) {
      on_signal_(++count);
    } else if (got == 0 || errno != EINTR) {
      return;
    }
  }
}

Result<int64_t> ParseSize(std::string_view text) {
  const auto refuse = [&] {
    return InvalidArgumentError("'" + std::string(text) +
                                "' is not a size: write bytes, or a number with K, M, G or T, such as 512M or 4G");
  };
  double value = 0;
  const char* end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, value, std::chars_format::fixed);
  if (error != std::errc() || text.front() == '-' || !std::isfinite(value)) return refuse();
  if (rest != end) {
    static constexpr std::string_view kSuffixes = "KMGT";
    const size_t power = kSuffixes.find(static_cast<char>(std::toupper(static_cast<unsigned char>(*rest))));
    if (power == std::string_view::npos || rest + 1 != end) return refuse();
    value = std::ldexp(value, 10 * static_cast<int>(power + 1));
  }
  if (value >= 0x1p62) return refuse();
  return static_cast<int64_t>(value);
}

CLI::Option* AddSizeOption(CLI::App* command, const std::string& flags, int64_t* bytes, const std::string& help) {
  return command
      ->add_option_function<std::string>(
          flags,
          [bytes, flags](const std::string& text) {
            Result<int64_t> size = ParseSize(text);
            if (!size.ok()) throw CLI::ValidationError(flags, size.status().message());
            *bytes = *size;
          },
          help)
      ->type_name("SIZE");
}

std::string VersionString() { return NSIC_VERSION; }

Result<std::string> ProgramFolder() {
  std::error_code error;
  const std::filesystem::path program = std::filesystem::read_symlink("/proc/self/exe", error);
  if (error) return ErrnoError(error.value(), "cannot read /proc/self/exe");
  return program.parent_path().string();
}

std::optional<int> ParseCommandLine(CLI::App* app, int argc, char** argv, const std::string& log_level) {
  SetUpLog(app->get_name());
  const auto set_level = [](const std::string& level) {
    const Status status = SetLogLevel(level);
    if (!status.ok()) throw CLI::ValidationError("--log-level", status.message());
  };
  set_level(log_level);
  app->add_option_function<std::string>("--log-level", set_level, "trace, debug, info, warning or error (default " + log_level + ")")
      ->type_name("LEVEL");
  app->set_version_flag("--version", app->get_name() + " " + VersionString())->configurable(false);
  if (!app->get_subcommands({}).empty()) app->require_subcommand(1);
  NameEnvironment(app);

  // CLI11 passes over a file of settings that it cannot read, unless it was asked for. One that is there must be read.
  const std::string path = DefaultConfigPath();
  std::error_code ignored;
  const bool there = !path.empty() && std::filesystem::exists(path, ignored);
  app->set_config("--config", path, "File of settings (TOML)", there)->type_name("FILE");
  app->config_formatter(std::make_shared<SettingsFile>(app));

  try {
    app->parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app->exit(error) == 0 ? 0 : 2;
  }
  return std::nullopt;
}

std::vector<std::string> EnvironmentWithoutSettings() {
  std::vector<std::string> kept;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    if (std::string_view(*entry).substr(0, 5) != "NSIC_") kept.emplace_back(*entry);
  }
  return kept;
}

}  // namespace nsic
