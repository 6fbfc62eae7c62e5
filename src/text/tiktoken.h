// The vocabulary file of OpenAI's tiktoken: a line for each token, its bytes in
// base64, a space and its rank.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace mobe {

// Kimi-K2's longest token has 256 bytes. Cutting a token of n bytes in two
// at each place reads n^2 bytes, so this bounds the time for a hostile file.
inline constexpr size_t kMaxRankedToken = 512;

// The bytes of the tokens, by rank. Fails with kCorruptFile, naming the line,
// unless each is base64 as RFC 4648 writes it, no token comes twice, the ranks
// are all numbers from 0 to the last, and every single byte is a token.
// `where` names the file.
std::vector<std::string> ReadTiktoken(std::string_view file,
                                      const std::string& where);

}  // namespace mobe
