#include "eval/text.h"

#include <algorithm>

#include "base/error.h"
#include "base/file.h"
#include "base/text_file.h"
#include "text/tokenizer.h"

namespace mobe {

EvalText ReadEvalText(const std::filesystem::path& model_folder,
                      const std::filesystem::path& file, int64_t max_tokens) {
  const Tokenizer tokenizer = Tokenizer::Load(model_folder);
  EvalText text{file.string(), tokenizer.Encode(ReadTextFile(file)), {}};
  const std::vector<int32_t>& before = tokenizer.affixes().before;
  if (!before.empty()) text.bos = before.front();
  const auto limit = static_cast<size_t>(max_tokens);
  text.tokens.resize(std::min(text.tokens.size(), limit));
  return text;
}

void CheckSameTokenizer(const std::filesystem::path& base_folder,
                        const std::filesystem::path& other_folder) {
  const std::filesystem::path base = Tokenizer::FileIn(base_folder);
  const std::filesystem::path other = Tokenizer::FileIn(other_folder);
  if (ReadSmallFile(base) == ReadSmallFile(other)) return;
  Fail(ErrorKind::kUserInput,
       "{} and {} differ; only models with one tokenizer can be compared",
       base.string(), other.string());
}

}  // namespace mobe
