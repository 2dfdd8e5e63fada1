#include "models/train/measure/measured.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string_view>
#include <system_error>

#include "core/base/digest.h"

namespace nsic {
namespace {

using nlohmann::json;

Result<std::string> DigestOf(const std::string& subject, const std::vector<std::string>& pictures) {
  json all = json::array({subject});
  for (const std::string& path : pictures) {
    std::error_code error;
    const uintmax_t size = std::filesystem::file_size(path, error);
    if (error) return NotFoundError("cannot examine " + path + ": " + error.message());
    const auto changed = std::filesystem::last_write_time(path, error).time_since_epoch();
    if (error) return NotFoundError("cannot examine " + path + ": " + error.message());
    all.push_back({path, size, std::chrono::duration_cast<std::chrono::nanoseconds>(changed).count()});
  }
  return Sha256Hex(all.dump(-1, ' ', false, json::error_handler_t::replace));
}

// One line without its end.
bool ReadLine(std::string_view line, std::map<std::string, std::vector<double>>* known) {
  const json entry = json::parse(line, nullptr, /*allow_exceptions=*/false);
  if (!entry.is_array() || entry.size() != 2 || !entry[0].is_string() || !entry[1].is_array()) return false;
  std::vector<double> values;
  for (const json& value : entry[1]) {
    if (!value.is_number()) return false;
    values.push_back(value.get<double>());
  }
  (*known)[entry[0].get<std::string>()] = std::move(values);
  return true;
}

}  // namespace

Result<Measured> Measured::Open(const std::string& folder, const std::string& name, const std::string& subject,
                                const std::vector<std::string>& pictures) {
  Measured measured;
  if (folder.empty()) return measured;
  NSIC_RETURN_IF_ERROR(MakeFolders(folder));
  NSIC_ASSIGN_OR_RETURN(const std::string digest, DigestOf(subject, pictures));
  measured.path_ = (std::filesystem::path(folder) / (name + "-" + digest.substr(0, 16) + ".measured")).string();
  measured.fd_ = UniqueFd(::open(measured.path_.c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0666));
  if (!measured.fd_.valid()) return ErrnoError(errno, "cannot open " + measured.path_);
  if (::flock(measured.fd_.get(), LOCK_EX | LOCK_NB) != 0) {
    return FailedPreconditionError(measured.path_ + ": another process is measuring the same; wait for it, or give another --state");
  }
  NSIC_ASSIGN_OR_RETURN(const std::string bytes, ReadFile(measured.path_));
  std::string_view rest = bytes;
  for (size_t end; (end = rest.find('\n')) != std::string_view::npos; rest.remove_prefix(end + 1)) {
    if (!ReadLine(rest.substr(0, end), &measured.known_)) {
      return DataLossError(measured.path_ + " has a line that is not ours; delete the file to measure again");
    }
  }
  if (::ftruncate(measured.fd_.get(), static_cast<off_t>(bytes.size() - rest.size())) != 0) {
    return ErrnoError(errno, "cannot shorten " + measured.path_);
  }
  return measured;
}

Result<std::vector<double>> Measured::Remember(const std::string& key, size_t count,
                                               const std::function<Result<std::vector<double>>()>& measure) {
  const auto known = known_.find(key);
  if (known == known_.end()) {
    NSIC_ASSIGN_OR_RETURN(std::vector<double> values, measure());
    if (fd_.valid()) {
      const std::string line = json::array({key, values}).dump(-1, ' ', false, json::error_handler_t::replace) + "\n";
      NSIC_RETURN_IF_ERROR(WriteAll(fd_.get(), line, path_));
      known_[key] = values;
    }
    return values;
  }
  if (known->second.size() != count) return DataLossError(path_ + " has other values of " + key + "; delete the file to measure again");
  return known->second;
}

}  // namespace nsic
