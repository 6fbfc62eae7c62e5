#include "text/bpe.h"

#include <algorithm>
#include <cstdint>
#include <tuple>
#include <utility>

#include "base/error.h"
#include "base/unicode.h"
#include "text/byte_level.h"
#include "text/fields.h"

namespace mobe {
namespace {

constexpr uint32_t kNone = UINT32_MAX;

using Candidate = Bpe::Scratch::Candidate;

// Heap order: the lowest rank first, then the leftmost.
bool ComesLater(const Candidate& a, const Candidate& b) {
  return std::tie(a.rank, a.position) > std::tie(b.rank, b.position);
}

void RefuseUnlessDefault(const Json& model, const std::string& where) {
  for (const char* key : {"dropout", "unk_token", "continuing_subword_prefix",
                          "end_of_word_suffix", "byte_fallback"}) {
    const Json& value = MemberOrNull(model, key, where);
    if (!value.is_null() && value != Json("") && value != Json(false) &&
        value != Json(0)) {
      Fail(ErrorKind::kUnsupported,
           "{}: \"{}\": {} is not supported; only plain byte-level BPE is",
           where, key, value.dump());
    }
  }
}

// "a b" or ["a", "b"].
std::pair<std::string, std::string> MergeParts(const Json& merge,
                                               const std::string& where) {
  if (merge.is_array() && merge.size() == 2 && merge[0].is_string() &&
      merge[1].is_string()) {
    return {merge[0].get<std::string>(), merge[1].get<std::string>()};
  }
  if (merge.is_string()) {
    const auto& text = merge.get_ref<const std::string&>();
    const size_t space = text.find(' ');
    if (space != std::string::npos && text.rfind(' ') == space) {
      return {text.substr(0, space), text.substr(space + 1)};
    }
  }
  Fail(ErrorKind::kCorruptFile, R"({}: merge {} must be "a b" or ["a", "b"])",
       where, merge.dump());
}

}  // namespace

Bpe::Bpe(const Json& model, const std::string& where) {
  // Files of before 2020 have no type.
  const Json& type = MemberOrNull(model, "type", where);
  if (!type.is_null() && type != Json("BPE")) {
    Fail(ErrorKind::kUnsupported,
         "{}: type {} is not supported; only \"BPE\" is", where, type.dump());
  }
  RefuseUnlessDefault(model, where);
  const Json& ignore_merges = MemberOrNull(model, "ignore_merges", where);
  ignore_merges_ = ignore_merges == Json(true);

  const Json& vocab = MemberOrNull(model, "vocab", where);
  if (!vocab.is_object()) {
    Fail(ErrorKind::kCorruptFile, "{}: \"vocab\" must be an object", where);
  }
  vocab_.reserve(vocab.size());
  for (const auto& [token, id] : vocab.items()) {
    vocab_.emplace(token, TokenIdValue(id, token, where));
  }
  FindBytes();
  ReadMerges(ArrayMember(model, "merges", where), where);
  SortMerges();
}

Bpe::Bpe(const std::vector<std::string>& tokens) : ignore_merges_(true) {
  std::unordered_map<std::string_view, int32_t> ids;
  ids.reserve(tokens.size());
  vocab_.reserve(tokens.size());
  for (const std::string& token : tokens) {
    const auto id = static_cast<int32_t>(ids.size());
    ids.emplace(token, id);
    vocab_.emplace(ToByteLevel(token), id);
  }
  FindBytes();
  const auto id_of = [&](std::string_view bytes) {
    const auto it = ids.find(bytes);
    return it == ids.end() ? -1 : it->second;
  };
  for (const auto& [token, id] : ids) {
    for (size_t cut = 1; cut < token.size(); ++cut) {
      const int32_t left = id_of(token.substr(0, cut));
      if (left < 0) continue;
      const int32_t right = id_of(token.substr(cut));
      if (right < 0) continue;
      merges_.push_back({left, right, static_cast<uint32_t>(id), id});
    }
  }
  SortMerges();
}

void Bpe::FindBytes() {
  for (int byte = 0; byte < 256; ++byte) {
    std::string token;
    AppendUtf8(ByteLevelCharacter(static_cast<uint8_t>(byte)), token);
    const auto it = vocab_.find(token);
    byte_ids_[byte] = it == vocab_.end() ? -1 : it->second;
  }
}

void Bpe::ReadMerges(const Json& merges, const std::string& where) {
  const auto id_of = [&](const std::string& token) {
    const auto it = vocab_.find(token);
    if (it == vocab_.end()) {
      Fail(ErrorKind::kCorruptFile,
           "{}: a merge names token \"{}\", which is not in the vocabulary",
           where, token);
    }
    return it->second;
  };
  merges_.reserve(merges.size());
  for (const Json& merge : merges) {
    // The first line of merges.txt, which some converters have kept.
    if (merge.is_string() &&
        merge.get_ref<const std::string&>().starts_with("#version")) {
      continue;
    }
    const auto [left, right] = MergeParts(merge, where);
    merges_.push_back({id_of(left), id_of(right),
                       static_cast<uint32_t>(merges_.size()),
                       id_of(left + right)});
  }
}

void Bpe::SortMerges() {
  std::sort(merges_.begin(), merges_.end(), [](const auto& a, const auto& b) {
    return std::tie(a.left, a.right, a.rank) <
           std::tie(b.left, b.right, b.rank);
  });
  const int32_t max_left = merges_.empty() ? -1 : merges_.back().left;
  first_.assign(static_cast<size_t>(max_left) + 2, 0);
  for (const Merge& merge : merges_) ++first_[merge.left + 1];
  for (size_t i = 1; i < first_.size(); ++i) first_[i] += first_[i - 1];
}

const Bpe::Merge* Bpe::FindMerge(int32_t left, int32_t right) const {
  if (static_cast<size_t>(left) + 1 >= first_.size()) return nullptr;
  const Merge* begin = merges_.data() + first_[left];
  const Merge* end = merges_.data() + first_[left + 1];
  // Of a merge given twice the last counts, as in the library.
  const Merge* it = std::upper_bound(
      begin, end, right,
      [](int32_t value, const Merge& m) { return value < m.right; });
  return it != begin && (it - 1)->right == right ? it - 1 : nullptr;
}

void Bpe::Encode(std::string_view piece, Scratch& scratch,
                 std::vector<int32_t>& ids) const {
  if (ignore_merges_) {
    const auto it = vocab_.find(ToByteLevel(piece));
    if (it != vocab_.end()) {
      ids.push_back(it->second);
      return;
    }
  }
  auto& symbols = scratch.symbols;
  auto& heap = scratch.heap;
  symbols.clear();
  heap.clear();
  for (const char byte : piece) {
    const int32_t id = byte_ids_[static_cast<uint8_t>(byte)];
    if (id < 0) continue;
    const auto position = static_cast<uint32_t>(symbols.size());
    symbols.push_back({id, position - 1, position + 1});
  }
  if (symbols.empty()) return;
  symbols.back().next = kNone;  // symbols[0].previous is already 0 - 1

  const auto candidate_at = [&](uint32_t position) {
    const auto& symbol = symbols[position];
    const Merge* merge = FindMerge(symbol.id, symbols[symbol.next].id);
    if (merge == nullptr) return false;
    heap.push_back({merge->rank, position, merge->new_id});
    return true;
  };
  for (uint32_t i = 0; i + 1 < symbols.size(); ++i) candidate_at(i);
  std::make_heap(heap.begin(), heap.end(), ComesLater);
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end(), ComesLater);
    const Candidate top = heap.back();
    heap.pop_back();
    auto& symbol = symbols[top.position];
    if (symbol.id < 0 || symbol.next == kNone) continue;
    auto& right = symbols[symbol.next];
    // The neighbours may have changed since. Like the library, compare what
    // the merge makes, not its rank.
    const Merge* merge = FindMerge(symbol.id, right.id);
    if (merge == nullptr || merge->new_id != top.new_id) continue;
    symbol.id = top.new_id;
    right.id = -1;
    symbol.next = right.next;
    if (symbol.next != kNone) {
      symbols[symbol.next].previous = top.position;
      if (candidate_at(top.position)) {
        std::push_heap(heap.begin(), heap.end(), ComesLater);
      }
    }
    if (symbol.previous != kNone && candidate_at(symbol.previous)) {
      std::push_heap(heap.begin(), heap.end(), ComesLater);
    }
  }
  for (const auto& symbol : symbols) {
    if (symbol.id >= 0) ids.push_back(symbol.id);
  }
}

}  // namespace mobe
