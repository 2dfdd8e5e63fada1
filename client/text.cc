#include "client/text.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <ctime>

namespace nsic {
namespace {

// The length in bytes of the UTF-8 character that `text` starts with and its code point; 0 when it starts with none (overlong forms,
// surrogates and values over U+10FFFF are none).
size_t DecodeUtf8(std::string_view text, uint32_t* code_point) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char lead = byte(0);
  if (lead < 0x80) {
    *code_point = lead;
    return 1;
  }
  const size_t length = lead >= 0xf0 && lead < 0xf5 ? 4 : lead >= 0xe0 && lead < 0xf0 ? 3 : lead >= 0xc2 && lead < 0xe0 ? 2 : 0;
  if (length == 0 || text.size() < length) return 0;
  uint32_t value = lead & (0xffu >> (length + 1));
  for (size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return 0;
    value = value << 6 | (byte(i) & 0x3f);
  }
  static constexpr std::array<uint32_t, 5> kLeast = {0, 0, 0x80, 0x800, 0x10000};
  if (value < kLeast[length] || value > 0x10ffff || (value >= 0xd800 && value < 0xe000)) return 0;
  *code_point = value;
  return length;
}

size_t CountCodePoints(std::string_view utf8) {
  return static_cast<size_t>(
      std::count_if(utf8.begin(), utf8.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; }));
}

template <typename... Values>
std::string Print(const char* format, Values... values) {
  char buffer[64];
  const int length = std::snprintf(buffer, sizeof buffer, format, values...);
  return std::string(buffer, static_cast<size_t>(length));
}

}  // namespace

std::string ForTerminal(std::string_view bytes) {
  std::string shown;
  shown.reserve(bytes.size());
  while (!bytes.empty()) {
    uint32_t code_point = 0;
    const size_t length = DecodeUtf8(bytes, &code_point);
    if (code_point == '\n' && length == 1) {
      shown += "\\n";
    } else if (code_point == '\t' && length == 1) {
      shown += "\\t";
    } else if (length == 0 || code_point < 0x20 || (code_point >= 0x7f && code_point < 0xa0)) {
      for (size_t i = 0; i < std::max<size_t>(length, 1); ++i) shown += Print("\\x%02x", static_cast<unsigned char>(bytes[i]));
    } else {
      shown += bytes.substr(0, length);
    }
    bytes.remove_prefix(std::max<size_t>(length, 1));
  }
  return shown;
}

bool IsUtf8(std::string_view bytes) {
  uint32_t ignored = 0;
  while (!bytes.empty()) {
    const size_t length = DecodeUtf8(bytes, &ignored);
    if (length == 0) return false;
    bytes.remove_prefix(length);
  }
  return true;
}

std::string FormatBytes(int64_t bytes) {
  static constexpr std::array<const char*, 5> kUnits = {"B", "KiB", "MiB", "GiB", "TiB"};
  double value = static_cast<double>(bytes);
  size_t unit = 0;
  while (value >= 1023.95 && unit + 1 < kUnits.size()) {
    value /= 1024;
    ++unit;
  }
  return Print(unit == 0 ? "%.0f %s" : "%.1f %s", value, kUnits[unit]);
}

std::string FormatDuration(double seconds) {
  if (seconds < 9.95) return Print("%.1f s", std::max(0.0, seconds));
  const int64_t whole = std::llround(std::min(seconds, 1e12));
  const auto i = [](int64_t value) { return static_cast<long long>(value); };
  if (whole < 60) return Print("%lld s", i(whole));
  if (whole < 3600) return Print("%lld min %02lld s", i(whole / 60), i(whole % 60));
  if (whole < 48 * 3600) return Print("%lld h %02lld min", i(whole / 3600), i(whole / 60 % 60));
  return Print("%lld d %lld h", i(whole / 86400), i(whole / 3600 % 24));
}

std::string FormatTime(int64_t unix_ms) {
  const std::time_t seconds = static_cast<std::time_t>(unix_ms / 1000);
  std::tm local{};
  localtime_r(&seconds, &local);
  char buffer[32];
  return std::string(buffer, std::strftime(buffer, sizeof buffer, "%Y-%m-%d %H:%M:%S", &local));
}

std::string Count(int64_t count, std::string_view noun) {
  return std::to_string(count) + " " + std::string(noun) + (count == 1 ? "" : "s");
}

std::string FormatTable(const std::vector<std::vector<std::string>>& rows) {
  std::vector<std::vector<std::string>> cells;
  std::vector<size_t> widths;
  for (const auto& row : rows) {
    std::vector<std::string>& shown = cells.emplace_back();
    for (size_t i = 0; i < row.size(); ++i) {
      shown.push_back(ForTerminal(row[i]));
      if (widths.size() <= i) widths.push_back(0);
      widths[i] = std::max(widths[i], CountCodePoints(shown[i]));
    }
  }
  std::string table;
  for (const auto& row : cells) {
    std::string line;
    for (size_t i = 0; i < row.size(); ++i) {
      line += row[i];
      line.append(widths[i] - CountCodePoints(row[i]) + 2, ' ');
    }
    line.erase(line.find_last_not_of(' ') + 1);
    table += line + "\n";
  }
  return table;
}

}  // namespace nsic
