// What `mobe bench` times: every combination of its lists of options.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace mobe {

// A prompt at once, then text a token at a time; either may be 0 tokens.
struct BenchText {
  int64_t prompt = 0;
  int64_t generate = 0;

  int64_t tokens() const { return prompt + generate; }
  std::string Name() const;  // "pp512", "tg128", "pp512+tg128", as llama-bench
};

struct BenchCase {
  BenchText text;
  int64_t depth = 0;  // tokens in the cache before
  int64_t batch = 1;  // sequences
  int threads = 0;    // as SetThreads
  size_t load = 0;    // which of the ways to load the model
};

struct BenchLists {
  std::vector<int64_t> prompts, generates;  // 0: none, as in llama-bench
  std::vector<BenchText> mixed;
  std::vector<int64_t> depths, batches;
  std::vector<int> threads;
  size_t loads = 1;
};

// All combinations. Those of one way to load and one number of threads follow
// one another: changing either costs time. Fails with kUserInput when there is
// nothing to run.
std::vector<BenchCase> ListCases(const BenchLists& lists);

// "0,4096": whole numbers from `least` to `most`. Fails with kUserInput, as
// "<option> <text>: expected ...".
std::vector<int64_t> ParseNumbers(std::string_view option,
                                  std::string_view text, int64_t least,
                                  int64_t most);
// "512+128,1024+16", each number at least 1.
std::vector<BenchText> ParseMixed(std::string_view option,
                                  std::string_view text, int64_t most);
// "float32,bfloat16": places in `names`.
std::vector<size_t> ParseNames(std::string_view option, std::string_view text,
                               const std::vector<std::string>& names);

}  // namespace mobe
