// BLEU (Papineni et al. 2002) of a corpus, equal to sacrebleu's (Post 2018,
// arXiv 1804.08771; version 2.5.1): corpus_bleu with one reference, smoothing
// "exp", no lowercasing.
#pragma once

#include <string_view>

#include "eval/statistics.h"

namespace mobe {

// sacrebleu's tokenizers "13a" and "zh".
enum class BleuTokens { k13a, kZh };
// What sacrebleu takes for a language: "zh", "de".
BleuTokens BleuTokensOf(std::string_view language);

// What BLEU is made of, of a sentence: length, length of the reference, then of
// each order from 1 to 4 how many n-grams are in the reference, and how many
// there are.
Sums BleuSums(std::string_view text, std::string_view reference,
              BleuTokens tokens);

// BLEU, 0 to 100, of the sums over sentences.
double BleuOfSums(const Sums& sums);

}  // namespace mobe
