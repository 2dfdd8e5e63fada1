#include "worker/describe_machine.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <optional>
#include <sstream>
#include <string_view>
#include <system_error>
#include <thread>
#include <vector>

#include "core/base/files.h"
#include "core/base/status.h"

namespace nsic {
namespace {

// The text after "key", spaces and a colon in the first line of `text` that starts so; empty if there is none.
std::string Field(const std::string& text, std::string_view key) {
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    if (line.compare(0, key.size(), key) != 0) continue;
    const size_t start = line.find_first_not_of(" \t:", key.size());
    if (start != std::string::npos) return line.substr(start);
  }
  return "";
}

std::string Machine() {
  utsname name{};
  return ::uname(&name) == 0 ? name.machine : "unknown";
}

// The smallest memory.max of this process's control group (version 2) and those above it.
std::optional<int64_t> ControlGroupLimit() {
  const Result<std::string> groups = ReadFile("/proc/self/cgroup");
  if (!groups.ok()) return std::nullopt;
  const std::filesystem::path root = "/sys/fs/cgroup";
  std::filesystem::path group = Field(*groups, "0:");  // "0::/user.slice/x"
  std::optional<int64_t> least;
  while (true) {
    const Result<std::string> text = ReadFile(root / group.relative_path() / "memory.max");
    int64_t limit = 0;
    if (text.ok() && std::from_chars(text->data(), text->data() + text->size(), limit).ec == std::errc()) {
      least = std::min(least.value_or(limit), limit);
    }
    if (!group.has_relative_path()) return least;
    group = group.parent_path();
  }
}

}  // namespace

std::string HostName() {
  char name[256] = {};
  if (::gethostname(name, sizeof name - 1) != 0 || name[0] == '\0') return "worker";
  return std::string(name).substr(0, std::string_view(name).find('.'));
}

int CoreCount() {
  cpu_set_t mine;
  if (::sched_getaffinity(0, sizeof mine, &mine) == 0) return std::max(1, CPU_COUNT(&mine));
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

int64_t MemoryBytes() {
  const int64_t machine = int64_t{::sysconf(_SC_PHYS_PAGES)} * ::sysconf(_SC_PAGESIZE);
  return std::min(machine, ControlGroupLimit().value_or(machine));
}

int64_t PeakMemoryBytes() {
  const Result<std::string> status = ReadFile("/proc/self/status");
  const std::string text = status.ok() ? Field(*status, "VmHWM") : "";
  int64_t kibibytes = 0;
  std::from_chars(text.data(), text.data() + text.size(), kibibytes);
  return kibibytes << 10;
}

bool ResetPeakMemory() {
  const UniqueFd file(::open("/proc/self/clear_refs", O_WRONLY | O_CLOEXEC));
  return file.valid() && ::write(file.get(), "5", 1) == 1;
}

std::string DeviceName(const std::string& device) {
  if (device.compare(0, 5, "cuda:") == 0) {
    // The driver lists its cards by bus address, the order that CUDA uses with CUDA_DEVICE_ORDER=PCI_BUS_ID. Where the cards differ and
    // the order is another, the name is of another card: it is for display only.
    std::vector<std::filesystem::path> cards;
    std::error_code error;
    for (const auto& entry : std::filesystem::directory_iterator("/proc/driver/nvidia/gpus", error)) cards.push_back(entry.path());
    std::sort(cards.begin(), cards.end());
    size_t index = 0;
    std::from_chars(device.data() + 5, device.data() + device.size(), index);
    if (index < cards.size()) {
      const Result<std::string> text = ReadFile(cards[index] / "information");
      const std::string model = text.ok() ? Field(*text, "Model") : "";
      if (!model.empty()) return model;
    }
    return device;
  }
  const Result<std::string> cpu = ReadFile("/proc/cpuinfo");
  std::string name;
  if (cpu.ok()) {
    name = Field(*cpu, "model name");
    if (name.empty()) name = Field(*cpu, "Model");  // ARM boards: "Raspberry Pi 4 Model B Rev 1.4"
  }
  return name.empty() ? Machine() : name;
}

}  // namespace nsic
