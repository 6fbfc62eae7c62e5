#include "compress/model_card.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cctype>
#include <set>
#include <string_view>

#include "base/file.h"
#include "base/progress.h"
#include "base/visible.h"
#include "compress/options_text.h"
#include "compress/worst_expert.h"

namespace mobe {
namespace {

namespace fs = std::filesystem;

// The value of a top-level key in the YAML front matter of a card, or nothing
// unless it is a plain word on one line. What is copied goes into another
// YAML text and into a page, so no more than that is let through: that is why
// no YAML library is asked.
std::string FrontMatterWord(std::string_view card, std::string_view key) {
  bool inside = false;
  while (!card.empty()) {
    std::string_view line = card.substr(0, card.find('\n'));
    card.remove_prefix(std::min(line.size() + 1, card.size()));
    while (!line.empty() &&
           std::isspace(static_cast<unsigned char>(line.back()))) {
      line.remove_suffix(1);
    }
    const bool fence = line == "---";
    if (inside == fence) return "";  // it ends, or never began
    inside = true;
    if (!line.starts_with(key) || !line.substr(key.size()).starts_with(':')) {
      continue;
    }
    std::string_view value = line.substr(key.size() + 1);
    const auto is_wrapping = [](char c) {
      return c == ' ' || c == '\t' || c == '"' || c == '\'';
    };
    while (!value.empty() && is_wrapping(value.front())) value.remove_prefix(1);
    while (!value.empty() && is_wrapping(value.back())) value.remove_suffix(1);
    const bool plain = std::ranges::all_of(value, [](unsigned char c) {
      return std::isalnum(c) ||
             std::string_view("._:/+-").find(static_cast<char>(c)) !=
                 std::string_view::npos;
    });
    return plain ? std::string(value) : "";
  }
  return "";
}

// JSON's strings are YAML's.
std::string Quoted(const std::string& text) {
  return Json(text).dump(-1, ' ', false, Json::error_handler_t::replace);
}

// Text that Markdown shows as it is.
std::string Plain(std::string_view text) {
  std::string escaped;
  for (const char c : text) {
    if (std::string_view("\\`*_{}[]<>#|&~").find(c) != std::string_view::npos) {
      escaped += '\\';
    }
    escaped += c;
  }
  return escaped;
}

std::string FrontMatter(const Recipe& recipe, const char* library,
                        const std::string& original_card) {
  std::string text = fmt::format(
      "---\nbase_model: {}\nlibrary_name: {}\ntags:\n- mobe\n- moe\n"
      "- mixture-of-experts\n- compression\n",
      Quoted(recipe.source), library);
  for (const char* key : {"license", "license_name", "license_link"}) {
    const std::string value = FrontMatterWord(original_card, key);
    if (!value.empty()) text += fmt::format("{}: {}\n", key, Quoted(value));
  }
  return text + "---\n\n";
}

std::string Percent(double share) {
  return fmt::format("{:.1f}%", 100 * share);
}

std::string Sizes(const Recipe& recipe) {
  const Ratios ratios = recipe.ratios();
  std::string text =
      "| parameters | original | this model | kept |\n"
      "|---|---:|---:|---:|\n";
  const auto row = [&](const char* name, int64_t in, int64_t out) {
    if (in == 0 && out == 0) return;
    const double kept =
        in == 0 ? 1 : static_cast<double>(out) / static_cast<double>(in);
    text += fmt::format("| {} | {} | {} | {} |\n", name, FormatCount(in),
                        FormatCount(out), Percent(kept));
  };
  for (const PartRow& part : kParts) {
    row(part.name, recipe.parameters_in.*part.size,
        recipe.parameters_out.*part.size);
  }
  row("total", recipe.parameters_in.total(), recipe.parameters_out.total());
  return text + fmt::format(
                    "\nTensors: {} in the original, {} here. Kept of the "
                    "expert weights: {}, of the whole model: {}.\n",
                    FormatBytes(static_cast<double>(recipe.bytes_in)),
                    FormatBytes(static_cast<double>(recipe.bytes_out)),
                    Percent(ratios.experts), Percent(ratios.model));
}

// A row for each layer, a column for each kind of matrix.
std::string Errors(const Recipe& recipe) {
  std::vector<std::string> kinds;
  std::map<int64_t, std::map<std::string, FitError>> layers;
  for (const RecipeMatrix& matrix : recipe.matrices) {
    if (std::ranges::find(kinds, matrix.kind) == kinds.end()) {
      kinds.push_back(matrix.kind);
    }
    layers[matrix.layer][matrix.kind] = matrix.error;
  }
  std::string text =
      "Relative error of each layer's matrices, the Frobenius norm of the "
      "difference\nover that of the original; in brackets, that of the worst "
      "expert.\n\n| layer |";
  for (const std::string& kind : kinds) {
    text += fmt::format(" {} |", Plain(kind));
  }
  text += "\n|---:|";
  for (size_t i = 0; i < kinds.size(); ++i) text += "---:|";
  for (const auto& [layer, errors] : layers) {
    text += fmt::format("\n| {} |", layer);
    for (const std::string& kind : kinds) {
      const auto found = errors.find(kind);
      text += found == errors.end()
                  ? " |"
                  : fmt::format(" {:.4f} ({:.4f}) |", found->second.relative,
                                found->second.worst_expert);
    }
  }
  text += fmt::format("\n\nMean scaled MSE, ((W - W') / std W)^2: {:.5f}\n",
                      recipe.mean_mse_scaled());
  const MatrixReport* worst = FindWorst(recipe.matrices);
  if (worst == nullptr) return text;
  return text + fmt::format(
                    "\nThe worst expert's relative error: {:.4f} (layer "
                    "{} {}, expert {})\n",
                    worst->error.worst_expert, worst->layer, Plain(worst->kind),
                    worst->error.worst_expert_index);
}

// Sizes and errors by part of what was stored in few bits; empty without.
std::string Quantized(const Recipe& recipe) {
  if (recipe.packed.empty()) return "";
  std::string text =
      "\n## Quantised\n\n"
      "Matrices stored as integers with common scales, by part: bytes before "
      "and after, and\nthe error of that, the Frobenius norm of the difference "
      "over that of what was\nrounded; last, that of the worst tensor.\n\n"
      "| part | format | matrices | before | after | error | worst |\n"
      "|---|---|---:|---:|---:|---:|---:|\n";
  for (const PackedPart& part : recipe.packed) {
    text += fmt::format("| {} | {} | {} | {} | {} | {:.4f} | {:.4f} |\n",
                        Plain(part.part), Plain(part.format),
                        FormatCount(part.matrices), FormatCount(part.bytes_in),
                        FormatCount(part.bytes_out), part.loss.relative(),
                        part.worst_relative);
  }
  return text;
}

// How the factors were fitted that quantize stores.
std::string FitsText(const Recipe& recipe) {
  std::string text;
  for (const auto& [layers, options] : FitTexts(recipe.options)) {
    text += fmt::format("Factors of layers {} are of a fit with {}.\n\n",
                        Plain(layers), Plain(options));
  }
  return text;
}

// How it came to be: the options, and where to find more.
std::string Making(const Recipe& recipe) {
  return fmt::format(
      "\n## How it was made\n\n"
      "By mobe {}, kernels {}. Options: {}.\n\n{}"
      "`{}` holds them all, {}and the "
      "SHA-256\nof every file and factor:\n\n"
      "```sh\nmobe verify MODEL --against ORIGINAL\n```\n",
      Plain(recipe.mobe),
      Plain(fmt::format("{}", fmt::join(recipe.kernels, ", "))),
      Plain(OptionsText(recipe.options)), FitsText(recipe), kRecipeFile,
      recipe.matrices.empty() ? ""
                              : "the error of each matrix against passes, ");
}

std::string OriginalCardLine(const std::string& original_card) {
  return original_card.empty()
             ? ""
             : fmt::format("\nThe original's card: [{0}]({0}).\n",
                           kOriginalCardFile);
}

constexpr char kUse[] =
    "\n## Use\n\n"
    "Read by mobe as it is:\n\n"
    "```sh\nmobe generate MODEL --prompt \"Once upon a time\"\n```\n\n"
    "By transformers, too, 4.57 and 5, where these have the original:\n\n"
    "```python\nAutoModelForCausalLM.from_pretrained(\"MODEL\", "
    "trust_remote_code=True)\n```\n\n"
    "As a standard checkpoint for transformers, vLLM or SGLang, with all "
    "matrices\nmultiplied out:\n\n"
    "```sh\nmobe reconstruct MODEL STANDARD\n```\n";

constexpr char kMethod[] =
    "MoBE, Mixture-of-Basis-Experts\n"
    "([arXiv 2508.05257](https://arxiv.org/abs/2508.05257)): in each layer, "
    "expert\nmatrices are written as `W = A f(sum_i alpha_i B_i)`, with A the "
    "expert's own and\nthe bases B shared by the layer's experts, or by those "
    "of a group.\n";

}  // namespace

std::string ReadCard(const fs::path& path) {
  constexpr int64_t kMaxBytes = 16 << 20;
  if (!IsFile(path) || StampOf(path).bytes > kMaxBytes) return "";
  return ReadSmallFile(path, kMaxBytes);
}

std::string ModelCard(const Recipe& recipe, const std::string& original_card) {
  std::string text = FrontMatter(recipe, "mobe", original_card);
  text += fmt::format("# {}, compressed with MoBE\n\n", Plain(recipe.source));
  text += fmt::format("{} with the experts of its layers compressed by {}",
                      Plain(recipe.source), kMethod);
  text += OriginalCardLine(original_card);
  text += "\n## Size\n\n" + Sizes(recipe);
  text += recipe.packed.empty() ? "\n## Errors\n\n"
                                : "\n## Errors before quantising\n\n";
  text += Errors(recipe) + Quantized(recipe) + kUse;
  // The reference can't say what is under the key "mobe" (mobe/format.h).
  const bool ours = recipe.options.value("activation", Json()) == "identity" ||
                    !recipe.packed.empty();
  text += ours ? "\nThe paper's own code can't load this variant.\n"
               : "\nThe paper's own code loads it when config.json has the key "
                 "`num_B`.\n";
  return text + Making(recipe);
}

std::string QuantizedCard(const Recipe& recipe,
                          const std::string& original_card) {
  std::string text = FrontMatter(recipe, "mobe", original_card);
  const bool factored = !recipe.matrices.empty();
  text += fmt::format(
      "# {0}, {1}quantised\n\n{0} with matrices in few bits: {2} of tensors in "
      "place of {3}.\n",
      Plain(recipe.source), factored ? "compressed with MoBE and " : "",
      FormatBytes(static_cast<double>(recipe.bytes_out)),
      FormatBytes(static_cast<double>(recipe.bytes_in)));
  text += OriginalCardLine(original_card) + Quantized(recipe);
  if (factored) {
    std::set<int64_t> layers;
    for (const RecipeMatrix& matrix : recipe.matrices) {
      layers.insert(matrix.layer);
    }
    text += fmt::format(
        "\n## Errors before quantising\n\nThe experts of {} of its layers had "
        "been compressed by\n{}\n",
        layers.size(), kMethod);
    text += Errors(recipe);
  }
  return text + kUse + Making(recipe);
}

std::string ReconstructedCard(const Recipe& recipe,
                              const std::string& original_card,
                              bool needs_own_code) {
  std::string text = FrontMatter(recipe, "transformers", original_card);
  const bool factored = !recipe.matrices.empty();
  text += fmt::format("# {}, {} and reconstructed\n\n", Plain(recipe.source),
                      factored ? "compressed with MoBE" : "quantised");
  text += fmt::format(
      "A standard checkpoint that behaves as the compressed model: each "
      "factored matrix was\nmultiplied out, so it has as many parameters as "
      "{}.",
      Plain(recipe.source));
  text +=
      factored
          ? fmt::format(" The experts of its layers had been\ncompressed by {}",
                        kMethod)
          : "\n";
  if (needs_own_code) {
    text +=
        "\nIt has code of its own, as the original: transformers loads it with "
        "`trust_remote_code=True`.\n";
  }
  text += OriginalCardLine(original_card);
  const Ratios ratios = recipe.ratios();
  text += fmt::format(
      "\nThe compressed model kept {} of the expert weights, {} of the whole "
      "model. It was made\nby mobe {}. Options: {}.\n",
      Percent(ratios.experts), Percent(ratios.model), Plain(recipe.mobe),
      Plain(OptionsText(recipe.options)));
  if (factored) text += "\n## Errors\n\n" + Errors(recipe);
  return text + Quantized(recipe);
}

std::string BaselineCard(const Recipe& recipe,
                         const std::string& original_card) {
  const std::string command =
      Plain(recipe.options.value("command", std::string()));
  std::string text = FrontMatter(recipe, "transformers", original_card);
  text += fmt::format(
      "# {0}, approximated to compare with MoBE\n\n"
      "A standard checkpoint, made by `mobe {1}`: gate and up of the experts "
      "are\nreplaced by what that method makes of them in as many bytes as "
      "MoBE would take,\nmultiplied out. So it has as many parameters as {0}, "
      "and behaves as the compressed\nmodel would.\n",
      Plain(recipe.source), command);
  text += OriginalCardLine(original_card) + "\n## Errors\n\n";
  return text + Errors(recipe) + Making(recipe);
}

}  // namespace mobe
