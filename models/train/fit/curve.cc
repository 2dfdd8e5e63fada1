#include "models/train/fit/curve.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <iomanip>
#include <sstream>
#include <utility>
#include <vector>

namespace nsic {
namespace {

constexpr double kWidth = 720, kPanel = 220, kLeft = 64, kRight = 150, kTop = 28, kGap = 52;
constexpr const char* kColours[] = {"#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#17becf", "#8c564b", "#7f7f7f"};

struct Line {
  std::string name;
  std::vector<double> values;  // one for each step
};

std::vector<std::string> Cells(const std::string& row) {
  std::vector<std::string> cells;
  std::istringstream in(row);
  for (std::string cell; std::getline(in, cell, ',');) cells.push_back(cell);
  return cells;
}

// 1, 2 or 5 times a power of ten, so that about four fit into `span`.
double TickStep(double span) {
  const double raw = span / 4, power = std::pow(10, std::floor(std::log10(raw)));
  for (double factor : {1.0, 2.0, 5.0}) {
    if (raw <= factor * power) return factor * power;
  }
  return 10 * power;
}

void Text(std::ostream& out, double x, double y, const char* anchor, const std::string& text) {
  out << "<text x=\"" << x << "\" y=\"" << y << "\" text-anchor=\"" << anchor << "\">" << text << "</text>\n";
}

void Panel(std::ostream& out, double top, const std::string& title, const std::vector<double>& steps, const std::vector<Line>& lines) {
  double low = lines[0].values[0], high = low;
  for (const Line& line : lines) {
    for (double value : line.values) {
      low = std::min(low, value);
      high = std::max(high, value);
    }
  }
  const double room = high > low ? 0.05 * (high - low) : std::max(0.1, 0.1 * std::abs(high));
  low -= room;
  high += room;
  const double right = kWidth - kRight, last = std::max(1.0, steps.back());
  const auto at_x = [&](double step) { return kLeft + (right - kLeft) * step / last; };
  const auto at_y = [&](double value) { return top + kPanel * (high - value) / (high - low); };
  out << "<rect x=\"" << kLeft << "\" y=\"" << top << "\" width=\"" << right - kLeft << "\" height=\"" << kPanel
      << "\" fill=\"none\" stroke=\"#888\"/>\n";
  Text(out, kLeft, top - 8, "start", title);
  const auto number = [](double value) {
    std::ostringstream text;
    text << std::setprecision(6) << (std::abs(value) < 1e-12 ? 0.0 : value);
    return text.str();
  };
  const double tick = TickStep(high - low);
  for (double i = std::ceil(low / tick); i * tick <= high; ++i) {
    const double y = at_y(i * tick);
    out << "<path d=\"M" << kLeft << " " << y << "H" << right << "\" stroke=\"#ddd\"/>\n";
    Text(out, kLeft - 6, y + 4, "end", number(i * tick));
  }
  const double step_tick = TickStep(last);
  for (double i = 0; i * step_tick <= last; ++i) Text(out, at_x(i * step_tick), top + kPanel + 16, "middle", number(i * step_tick));
  for (size_t n = 0; n < lines.size(); ++n) {
    const char* colour = kColours[n % std::size(kColours)];
    out << "<polyline fill=\"none\" stroke=\"" << colour << "\" stroke-width=\"1.5\" points=\"";
    for (size_t i = 0; i < steps.size(); ++i) out << (i == 0 ? "" : " ") << at_x(steps[i]) << "," << at_y(lines[n].values[i]);
    out << "\"/>\n";
    const double y = top + 12 + 16 * static_cast<double>(n);
    out << "<path d=\"M" << right + 8 << " " << y << "h14\" stroke=\"" << colour << "\" stroke-width=\"2\"/>\n";
    Text(out, right + 26, y + 4, "start", lines[n].name + " " + number(std::round(lines[n].values.back() * 1000) / 1000));
  }
}

}  // namespace

std::string CurveSvg(std::string_view log, const std::string& title) {
  std::istringstream in{std::string(log)};
  std::string row;
  std::getline(in, row);
  const std::vector<std::string> header = Cells(row);
  std::vector<double> steps;
  std::vector<Line> loss = {{"loss", {}}}, measured;
  std::vector<std::pair<size_t, bool>> columns;  // of each measure: where, and whether the next column is what it became
  constexpr std::string_view kBefore = "_before";
  for (size_t i = 4; i < header.size(); ++i) {
    const size_t end = header[i].rfind(kBefore);
    const bool pair = end != std::string::npos && end + kBefore.size() == header[i].size() && i + 1 < header.size();
    measured.push_back({header[i].substr(0, pair ? end : std::string::npos), {}});
    columns.emplace_back(i, pair);
    if (pair) ++i;
  }
  while (std::getline(in, row)) {
    const std::vector<std::string> cells = Cells(row);
    if (cells.size() != header.size()) continue;  // no row
    const auto value = [&cells](size_t i) { return std::atof(cells[i].c_str()); };
    steps.push_back(value(0));
    loss[0].values.push_back(value(3));
    for (size_t i = 0; i < measured.size(); ++i) {
      const auto [column, pair] = columns[i];
      measured[i].values.push_back(pair ? value(column + 1) - value(column) : value(column));
    }
  }
  std::ostringstream out;
  out << "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"" << kWidth << "\" height=\"" << kTop + 2 * kPanel + kGap + 40
      << "\" font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n";
  if (!steps.empty()) {
    Panel(out, kTop, "loss over steps", steps, loss);
    if (!measured.empty()) Panel(out, kTop + kPanel + kGap, title, steps, measured);
  }
  out << "</svg>\n";
  return out.str();
}

}  // namespace nsic
