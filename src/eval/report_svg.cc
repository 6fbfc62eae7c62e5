#include "eval/report_svg.h"

#include <fmt/format.h>
#include <unicode/utf8.h>

#include <algorithm>
#include <cmath>

namespace mobe {
namespace {

// Characters that HTML documents may not hold, in any form.
bool IsForbidden(int32_t c) {
  return (c < 0x20 && c != '\t' && c != '\n') || (c >= 0x7f && c < 0xa0) ||
         (c >= 0xfdd0 && c <= 0xfdef) || (c & 0xfffe) == 0xfffe;
}

void AppendUtf8(int32_t c, std::string* out) {
  char bytes[U8_MAX_LENGTH];
  int32_t size = 0;
  U8_APPEND_UNSAFE(bytes, size, c);
  out->append(bytes, size);
}

std::string TickText(double value) { return fmt::format("{:.4g}", value); }

// 1, 2 or 5 times a power of ten, at least `least`.
double RoundStep(double least) {
  const double power = std::pow(10, std::floor(std::log10(least)));
  for (const double step : {1.0, 2.0, 5.0}) {
    if (step * power >= least * (1 - 1e-9)) return step * power;
  }
  return 10 * power;
}

std::vector<double> Ticks(const Axis& axis) {
  std::vector<double> ticks;
  if (!axis.log) {
    const double step = RoundStep((axis.high - axis.low) / 5);
    const auto first = static_cast<int64_t>(std::ceil(axis.low / step - 1e-9));
    const auto last = static_cast<int64_t>(std::floor(axis.high / step + 1e-9));
    for (int64_t i = first; i <= last; ++i) {
      ticks.push_back(static_cast<double>(i) * step);
    }
    return ticks;
  }
  const double decades = std::log10(axis.high / axis.low);
  const bool few = decades > 2.5;  // powers of ten will do
  const int every = std::max(1, static_cast<int>(decades / 6));
  for (int power = static_cast<int>(std::floor(std::log10(axis.low)));
       power <= static_cast<int>(std::ceil(std::log10(axis.high)));
       power += every) {
    for (const double digit : {1.0, 1.5, 2.0, 3.0, 5.0, 7.0}) {
      const double tick = digit * std::pow(10, power);
      if (few && digit > 1) continue;
      // 1, 2, 5, and more where these would be too few.
      if (decades > 1.2 && (digit == 1.5 || digit == 3 || digit == 7)) continue;
      if (tick >= axis.low * (1 - 1e-9) && tick <= axis.high * (1 + 1e-9)) {
        ticks.push_back(tick);
      }
    }
  }
  return ticks;
}

// A frame with axes, and where a value lies in it. Lengths in pixels.
struct Frame {
  double width = 420;
  double height = 260;
  double left = 56;
  double right = 12;
  double top = 28;
  double bottom = 44;
  Axis x;
  Axis y;

  static double Share(const Axis& axis, double value) {
    return axis.log
               ? std::log(value / axis.low) / std::log(axis.high / axis.low)
               : (value - axis.low) / (axis.high - axis.low);
  }
  double X(double value) const {
    return left + Share(x, value) * (width - left - right);
  }
  double Y(double value) const {
    return height - bottom - Share(y, value) * (height - top - bottom);
  }

  std::string Open(const std::string& title) const {
    return fmt::format(
        "<svg class=\"chart\" role=\"img\" viewBox=\"0 0 {0:.0f} {1:.0f}\" "
        "width=\"{0:.0f}\" height=\"{1:.0f}\"><title>{2}</title>"
        "<text class=\"title\" x=\"{3}\" y=\"16\">{2}</text>",
        width, height, Escape(title), left);
  }
  std::string YAxis() const {
    std::string svg;
    for (const double tick : Ticks(y)) {
      svg += fmt::format(
          "<path class=\"grid\" d=\"M{:.1f} {:.1f}H{:.1f}\"/>"
          "<text class=\"tick\" text-anchor=\"end\" x=\"{:.1f}\" y=\"{:.1f}\">"
          "{}</text>",
          left, Y(tick), width - right, left - 6, Y(tick) + 4, TickText(tick));
    }
    return svg + fmt::format(
                     "<text class=\"label\" text-anchor=\"middle\" "
                     "transform=\"translate(13 {:.1f}) rotate(-90)\">{}</text>",
                     (top + height - bottom) / 2, Escape(y.label));
  }
  std::string XLabel() const {
    return fmt::format(
        "<text class=\"label\" text-anchor=\"middle\" x=\"{:.1f}\" "
        "y=\"{:.1f}\">{}</text>",
        (left + width - right) / 2, height - 8, Escape(x.label));
  }
  std::string XTick(double at, const std::string& text) const {
    return fmt::format(
        "<text class=\"tick\" text-anchor=\"middle\" x=\"{:.1f}\" "
        "y=\"{:.1f}\">{}</text>",
        at, height - bottom + 16, Escape(text));
  }
};

// An axis needs some length.
Axis Widened(Axis axis) {
  if (axis.log) {
    axis.low = std::max(axis.low, 1e-300);
    if (axis.high < axis.low * 1.01) axis.high = axis.low * 2;
  } else if (!(axis.high > axis.low)) {
    axis.high = axis.low + 1;
  }
  return axis;
}

}  // namespace

std::string Escape(std::string_view text) {
  std::string escaped;
  const auto size = static_cast<int32_t>(
      std::min(text.size(), static_cast<size_t>(INT32_MAX)));
  for (int32_t i = 0; i < size;) {
    int32_t c = 0;
    U8_NEXT_OR_FFFD(text.data(), i, size, c);
    switch (c) {
      case '&':
        escaped += "&amp;";
        break;
      case '<':
        escaped += "&lt;";
        break;
      case '>':
        escaped += "&gt;";
        break;
      case '"':
        escaped += "&quot;";
        break;
      case '\'':
        escaped += "&#39;";
        break;
      default:
        AppendUtf8(IsForbidden(c) ? 0xfffd : c, &escaped);
    }
  }
  return escaped;
}

std::string LineChart(const std::string& title, const Axis& x, const Axis& y,
                      const std::vector<Curve>& curves) {
  Frame frame;
  frame.x = Widened(x);
  frame.y = Widened(y);
  std::string svg = frame.Open(title) + frame.YAxis() + frame.XLabel();
  for (const double tick : Ticks(frame.x)) {
    svg += frame.XTick(frame.X(tick), TickText(tick));
    svg += fmt::format("<path class=\"grid\" d=\"M{:.1f} {:.1f}V{:.1f}\"/>",
                       frame.X(tick), frame.top, frame.height - frame.bottom);
  }
  for (const Curve& curve : curves) {
    std::string points;
    for (size_t i = 0; i < std::min(curve.x.size(), curve.y.size()); ++i) {
      if ((frame.x.log && curve.x[i] <= 0) ||
          (frame.y.log && curve.y[i] <= 0)) {
        continue;
      }
      points += fmt::format("{}{:.1f} {:.1f}", points.empty() ? "M" : "L",
                            frame.X(curve.x[i]), frame.Y(curve.y[i]));
    }
    if (points.empty()) continue;
    svg += fmt::format(
        "<path class=\"curve {}\" d=\"{}\"><title>{}</title></path>",
        Escape(curve.style), points, Escape(curve.name));
  }
  return svg + "</svg>\n";
}

std::string BarChart(const std::string& title, const std::string& x_label,
                     const std::string& y_label,
                     const std::vector<std::string>& categories,
                     const std::vector<BarSeries>& series) {
  Frame frame;
  frame.width = 880;
  frame.height = 280;
  frame.x.label = x_label;
  frame.y.label = y_label;
  double high = 0;
  for (const BarSeries& bars : series) {
    for (const double value : bars.value) high = std::max(high, value);
    for (const double mark : bars.mark) high = std::max(high, mark);
  }
  frame.y.high = high > 1e-100 ? high * 1.05 : 1;
  std::string svg = frame.Open(title) + frame.YAxis() + frame.XLabel();
  const auto count =
      static_cast<double>(std::max<size_t>(categories.size(), 1));
  const double slot =
      std::min((frame.width - frame.left - frame.right) / count, 120.0);
  const double bar =
      0.8 * slot / static_cast<double>(std::max<size_t>(series.size(), 1));
  const size_t every = static_cast<size_t>(std::ceil(24 / slot));
  for (size_t i = 0; i < categories.size(); ++i) {
    const double begin = frame.left + static_cast<double>(i) * slot;
    if (i % every == 0) svg += frame.XTick(begin + slot / 2, categories[i]);
    for (size_t k = 0; k < series.size(); ++k) {
      const double value = series[k].value[i];
      const double mark = series[k].mark[i];
      if (value < 0) continue;
      const double at = begin + 0.1 * slot + static_cast<double>(k) * bar;
      svg += fmt::format(
          "<g class=\"{}\"><title>{} {}: {:.3g}, worst {:.3g}</title>"
          "<rect class=\"bar\" x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" "
          "height=\"{:.1f}\"/><path class=\"mark\" d=\"M{:.1f} "
          "{:.1f}h{:.1f}\"/></g>",
          Escape(series[k].style), Escape(categories[i]),
          Escape(series[k].name), value, mark, at, frame.Y(value), 0.94 * bar,
          frame.Y(0) - frame.Y(value), at, frame.Y(mark), 0.94 * bar);
    }
  }
  return svg + "</svg>\n";
}

std::string HeatMap(const std::string& title, const std::string& x_label,
                    const std::string& y_label, int64_t rows, int64_t cols,
                    const float* values, double limit) {
  constexpr int kSteps = 15;
  const auto step_of = [&](float value) {
    const double share = std::clamp(value / limit, -1.0, 1.0);
    return std::isfinite(value)
               ? static_cast<int>(std::lround((share + 1) / 2 * (kSteps - 1)))
               : kSteps / 2;
  };
  // One path for each colour, of runs of cells: a tenth of the size of
  // rectangles.
  std::vector<std::string> paths(kSteps);
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t col = 0; col < cols;) {
      const int64_t begin = col;
      const int step = step_of(values[row * cols + col]);
      while (col < cols && step_of(values[row * cols + col]) == step) ++col;
      paths[step] += fmt::format("M{} {}.5h{}", begin, row, col - begin);
    }
  }
  const double width = 190;
  const double height = 190;
  std::string svg = fmt::format(
      "<svg class=\"chart\" role=\"img\" viewBox=\"0 0 {0:.0f} {1:.0f}\" "
      "width=\"{0:.0f}\" height=\"{1:.0f}\"><title>{2}</title>"
      "<text class=\"title\" x=\"24\" y=\"16\">{2}</text>"
      "<text class=\"label\" text-anchor=\"middle\" x=\"{3:.0f}\" "
      "y=\"{4:.0f}\">{5}</text>"
      "<text class=\"label\" text-anchor=\"middle\" "
      "transform=\"translate(16 {6:.0f}) rotate(-90)\">{7}</text>"
      "<svg class=\"cells\" x=\"24\" y=\"24\" width=\"{8:.0f}\" "
      "height=\"{9:.0f}\" viewBox=\"0 0 {10} {11}\" "
      "preserveAspectRatio=\"none\">",
      width + 34, height + 44, Escape(title), 24 + width / 2, height + 38,
      Escape(x_label), 24 + height / 2, Escape(y_label), width, height, cols,
      rows);
  for (int step = 0; step < kSteps; ++step) {
    if (paths[step].empty()) continue;
    svg += fmt::format("<path class=\"d{}\" d=\"{}\"/>", step, paths[step]);
  }
  return svg + "</svg></svg>\n";
}

std::string HeatKey(double limit) {
  std::string svg =
      "<svg class=\"chart cells\" role=\"img\" viewBox=\"0 0 330 40\" "
      "width=\"330\" height=\"40\"><title>Colours of alpha</title>";
  for (int step = 0; step < 15; ++step) {
    svg += fmt::format(
        "<path class=\"d{}\" style=\"stroke-width:14\" d=\"M{} 10h20\"/>", step,
        15 + 20 * step);
  }
  const auto text = [&](int x, const std::string& label) {
    svg += fmt::format(
        "<text class=\"tick\" text-anchor=\"middle\" x=\"{}\" "
        "y=\"34\">{}</text>",
        x, label);
  };
  text(25, fmt::format("\u2264 \u2212{:.2g}", limit));
  text(165, "0");
  text(305, fmt::format("\u2265 {:.2g}", limit));
  return svg + "</svg>\n";
}

}  // namespace mobe
