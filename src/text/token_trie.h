// Finds any of a set of strings at a place of a text.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace mobe {

// Longer strings are refused by the callers of Add: the search below walks the
// trie anew at each place, so it takes O(text * longest string) in the worst
// case. An Aho-Corasick automaton would take O(text), in three times the code.
inline constexpr size_t kMaxTrieKey = 256;
// The same for all strings together: a byte takes up to 50 bytes of memory.
inline constexpr size_t kMaxTrieKeys = 4 << 20;

class TokenTrie {
 public:
  struct Match {
    size_t begin;
    size_t end;
    int32_t value;  // >= 0
  };

  TokenTrie();
  // Of equal keys the first stays.
  void Add(std::string_view key, int32_t value);

  // The matches from left to right, each the longest at its place, the next
  // one searched for behind it.
  std::vector<Match> FindAll(std::string_view text) const;

 private:
  static constexpr int32_t kNoNode = -1;
  int32_t Child(int32_t node, char byte) const;

  std::array<int32_t, 256> root_;  // children of node 0: most searches end here
  std::unordered_map<uint64_t, int32_t> children_;  // node * 256 + byte
  std::vector<int32_t> values_;                     // of nodes; -1: no key ends
};

}  // namespace mobe
