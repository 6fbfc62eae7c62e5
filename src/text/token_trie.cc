#include "text/token_trie.h"

namespace mobe {

TokenTrie::TokenTrie() : values_{-1} { root_.fill(kNoNode); }

int32_t TokenTrie::Child(int32_t node, char byte) const {
  const auto b = static_cast<uint8_t>(byte);
  if (node == 0) return root_[b];
  const auto it = children_.find(static_cast<uint64_t>(node) * 256 + b);
  return it == children_.end() ? kNoNode : it->second;
}

void TokenTrie::Add(std::string_view key, int32_t value) {
  int32_t node = 0;
  for (const char byte : key) {
    int32_t child = Child(node, byte);
    if (child == kNoNode) {
      child = static_cast<int32_t>(values_.size());
      values_.push_back(-1);
      const auto b = static_cast<uint8_t>(byte);
      if (node == 0) {
        root_[b] = child;
      } else {
        children_[static_cast<uint64_t>(node) * 256 + b] = child;
      }
    }
    node = child;
  }
  if (values_[node] < 0) values_[node] = value;
}

std::vector<TokenTrie::Match> TokenTrie::FindAll(std::string_view text) const {
  std::vector<Match> matches;
  for (size_t begin = 0; begin < text.size();) {
    Match longest{begin, begin, -1};
    int32_t node = 0;
    for (size_t i = begin; i < text.size(); ++i) {
      node = Child(node, text[i]);
      if (node == kNoNode) break;
      if (values_[node] >= 0) longest = {begin, i + 1, values_[node]};
    }
    if (longest.value >= 0) matches.push_back(longest);
    begin = longest.value >= 0 ? longest.end : begin + 1;
  }
  return matches;
}

}  // namespace mobe
