// Byte-pair encoding of one piece of text (Sennrich et al. 2016), with the
// merge order of Hugging Face's `tokenizers`, which is also tiktoken's.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/json.h"

namespace mobe {

class Bpe {
 public:
  // Buffers of Encode, kept by the caller so that pieces share them.
  struct Scratch {
    struct Symbol {
      int32_t id;         // -1: merged into the one before it
      uint32_t previous;  // positions in `symbols`; kNone at the ends
      uint32_t next;
    };
    // A merge that was possible when it was queued.
    struct Candidate {
      uint32_t rank;
      uint32_t position;
      int32_t new_id;
    };
    std::vector<Symbol> symbols;
    std::vector<Candidate> heap;
  };

  // Reads the "model" of a tokenizer.json. `where` names it in errors: values
  // that byte-level BPE has no use for (dropout, unk_token, affixes,
  // byte_fallback) are kUnsupported.
  Bpe(const Json& model, const std::string& where);

  // tiktoken's: any two tokens merge whose bytes together are a token, the one
  // with the lowest rank first, and a piece that is a token is taken whole.
  // `tokens` holds the bytes of each by rank, which is its id: all different,
  // none empty, every single byte among them. Takes time and memory for each
  // byte of the tokens, as a merge is a place where one can be cut.
  explicit Bpe(const std::vector<std::string>& tokens);

  // Appends the ids of a piece, given as its bytes (fewer than 2^32). Takes
  // O(n log n) for n bytes. A byte that is not in the vocabulary is left out,
  // as there is no unknown token.
  void Encode(std::string_view piece, Scratch& scratch,
              std::vector<int32_t>& ids) const;

  // Token texts, in the byte-level alphabet, to ids in [0, kMaxTokenId].
  const std::unordered_map<std::string, int32_t>& vocab() const {
    return vocab_;
  }

 private:
  struct Merge {
    int32_t left;
    int32_t right;
    uint32_t rank;
    int32_t new_id;
  };

  void ReadMerges(const Json& merges, const std::string& where);
  void FindBytes();
  void SortMerges();
  const Merge* FindMerge(int32_t left, int32_t right) const;

  std::unordered_map<std::string, int32_t> vocab_;
  int32_t byte_ids_[256];  // -1: not in the vocabulary
  bool ignore_merges_ = false;
  // Sorted by (left, right); those of `left` are [first_[left],
  // first_[left + 1]). Half the memory of a hash table, as fast, and no choice
  // of ids in a file can make it slow.
  std::vector<Merge> merges_;
  std::vector<uint32_t> first_;
};

}  // namespace mobe
