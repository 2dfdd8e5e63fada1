// Turns bytes, sizes and times into what a person reads on a terminal.
#ifndef NSIC_CLIENT_TEXT_H_
#define NSIC_CLIENT_TEXT_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace nsic {

// `bytes` (a file name, a message from the wire) on one line and without power over the terminal: control characters, the C1 range and
// bytes that are no UTF-8 become "\n", "\x1b", ...; everything else stays.
std::string ForTerminal(std::string_view bytes);

bool IsUtf8(std::string_view bytes);

std::string FormatBytes(int64_t bytes);                   // "512 B", "3.4 MiB"
std::string FormatDuration(double seconds);               // "0.4 s", "45 s", "2 min 10 s", "3 h 05 min", "2 d 4 h"
std::string FormatTime(int64_t unix_ms);                  // "2026-11-23 05:02:39" in local time
std::string Count(int64_t count, std::string_view noun);  // "1 picture", "2 pictures"

// Columns padded to their widest cell, two spaces between, no space at a line's end. The first row is the heading. Cells pass through
// ForTerminal.
std::string FormatTable(const std::vector<std::vector<std::string>>& rows);

}  // namespace nsic

#endif  // NSIC_CLIENT_TEXT_H_
