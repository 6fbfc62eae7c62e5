// How a long text is cut into windows that a model reads, and which tokens of a
// window count. Published perplexities differ by this, so each way has a name.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace mobe {

struct Protocol {
  std::string_view name;
  int64_t context;     // tokens of a window
  bool whole_only;     // a shorter last window is left out
  bool second_half;    // the first half of a window is only read, not counted
  bool starts_at_bos;  // BOS takes the place of a window's first token, and is
                       // put before the text, if the tokenizer adds one
};

// hf: what the page "Perplexity of fixed-length models" of the documentation of
// Hugging Face transformers does with a stride as long as the window.
//
// llama.cpp: what tools/perplexity/perplexity.cpp of ggml-org/llama.cpp does
// (read at commit 050fc7f32de1, functions perplexity and kl_divergence): in
// each chunk of n tokens it uses the logits at positions n/2 up to n - 2, which
// predict the n - n/2 - 1 tokens behind them.
std::span<const Protocol> Protocols();

// The tokens [begin, end) of a text, read without any before them. Those in
// [first, end) are predicted and counted; begin < first < end.
struct Window {
  int64_t begin;
  int64_t first;
  int64_t end;
};

// The windows of a text of `tokens` tokens, in its order and without overlap:
// those of `context` tokens and, unless protocol.whole_only, a shorter one
// behind them. Windows that predict nothing are left out.
std::vector<Window> SplitWindows(const Protocol& protocol, int64_t context,
                                 int64_t tokens);

// Tokens that the windows predict.
int64_t PredictedTokens(std::span<const Window> windows);

}  // namespace mobe
