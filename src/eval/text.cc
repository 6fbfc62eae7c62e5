#include "eval/text.h"

#include <algorithm>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "text/tokenizer.h"

namespace mobe {
namespace {

std::optional<int32_t> AddedBos(const std::filesystem::path& folder,
                                const Tokenizer& tokenizer) {
  const std::filesystem::path path = folder / "tokenizer_config.json";
  if (!std::filesystem::exists(path)) return std::nullopt;
  const Json config = ParseJson(ReadSmallFile(path), path.string());
  if (!config.is_object()) {
    Fail(ErrorKind::kCorruptFile, "{}: {}, expected an object", path.string(),
         Excerpt(config));
  }
  if (config.value("add_bos_token", Json()) != Json(true)) return std::nullopt;
  // Written as the token, or as an object that describes it.
  Json bos = config.value("bos_token", Json());
  if (bos.is_object()) bos = bos.value("content", Json());
  const auto id = bos.is_string()
                      ? tokenizer.TokenId(bos.get_ref<const std::string&>())
                      : std::nullopt;
  if (!id) {
    Fail(ErrorKind::kCorruptFile,
         "{}: add_bos_token is true, but bos_token {} is no token of "
         "tokenizer.json",
         path.string(), Excerpt(bos));
  }
  return id;
}

}  // namespace

EvalText ReadEvalText(const std::filesystem::path& model_folder,
                      const std::filesystem::path& file, int64_t max_tokens) {
  const Tokenizer tokenizer = Tokenizer::Load(model_folder);
  EvalText text{file.string(), tokenizer.Encode(ReadSmallFile(file)),
                AddedBos(model_folder, tokenizer)};
  const auto limit = static_cast<size_t>(max_tokens);
  text.tokens.resize(std::min(text.tokens.size(), limit));
  return text;
}

void CheckSameTokenizer(const std::filesystem::path& base_folder,
                        const std::filesystem::path& other_folder) {
  const std::filesystem::path base = base_folder / "tokenizer.json";
  const std::filesystem::path other = other_folder / "tokenizer.json";
  if (ReadSmallFile(base) == ReadSmallFile(other)) return;
  Fail(ErrorKind::kUserInput,
       "{} and {} differ; only models with one tokenizer can be compared",
       base.string(), other.string());
}

}  // namespace mobe
