// The charts of the report as inline SVG, drawn by ourselves: no Debian package
// draws SVG from C++, and the page may load nothing. Colours are CSS classes of
// the page, so that they follow the reader's light or dark scheme. All text is
// escaped here.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace mobe {

// Text for HTML and SVG, in elements and in quoted attributes. What is no valid
// UTF-8, or a character that HTML forbids, becomes U+FFFD.
std::string Escape(std::string_view text);

struct Axis {
  std::string label;  // with its unit
  bool log = false;
  // Range of the data; a logarithmic axis needs positive ends.
  double low = 0;
  double high = 1;
};

struct Curve {
  std::string name;   // for the tooltip
  std::string style;  // classes of the page's CSS
  std::vector<double> x;
  std::vector<double> y;
};

// Curves in one frame. A logarithmic axis leaves out what is not positive.
std::string LineChart(const std::string& title, const Axis& x, const Axis& y,
                      const std::vector<Curve>& curves);

// For each category (a layer) one bar of each series, and a tick at `mark`.
// A negative value is a gap.
struct BarSeries {
  std::string name;
  std::string style;
  std::vector<double> value;
  std::vector<double> mark;
};
std::string BarChart(const std::string& title, const std::string& x_label,
                     const std::string& y_label,
                     const std::vector<std::string>& categories,
                     const std::vector<BarSeries>& series);

// Signed values [rows, cols] as cells coloured in 15 steps from -limit to limit
// (classes d0 to d14, d7 being zero).
std::string HeatMap(const std::string& title, const std::string& x_label,
                    const std::string& y_label, int64_t rows, int64_t cols,
                    const float* values, double limit);
// The key to its colours.
std::string HeatKey(double limit);

}  // namespace mobe
