#include <algorithm>

#include "base/parallel.h"
#include "kernels/kernels.h"
#include "model/attention.h"
#include "model/norm.h"
#include "model/tile_attention.h"

namespace mobe {
namespace {

// Query rows (tokens times the heads that share a key head) that attend to a
// tile together: enough for the products to run well.
constexpr int64_t kQueryRows = 64;

void AddBias(const std::vector<float>& bias, float* row) {
  if (bias.empty()) return;
  Kernels().add(row, bias.data(), static_cast<int64_t>(bias.size()), row);
}

// Each head alone, or all together: as many numbers as the norm has weights.
void NormHeads(const std::vector<float>& norm, float eps, int64_t numbers,
               float* row) {
  if (norm.empty()) return;
  RmsNorm(norm, eps, row, numbers / static_cast<int64_t>(norm.size()), row);
}

// Biases, norms and rotation of the token in one row of the batch; queries stay
// where they are, keys and values go to the cache.
void FinishToken(const ModelConfig& c, const AttentionWeights& w,
                 const RopeTable& rope, int64_t layer, int64_t row,
                 KvCache* cache, int64_t position, AttentionScratch* s) {
  float* query = s->query.data() + row * c.num_heads * c.head_dim;
  float* key = s->key.data() + row * c.num_kv_heads * c.head_dim;
  float* value = s->value.data() + row * c.num_kv_heads * c.head_dim;
  AddBias(w.query_bias, query);
  AddBias(w.key_bias, key);
  AddBias(w.value_bias, value);
  NormHeads(w.query_norm, c.rms_norm_eps, c.num_heads * c.head_dim, query);
  NormHeads(w.key_norm, c.rms_norm_eps, w.key.rows, key);
  for (int64_t h = 0; h < c.num_heads; ++h) {
    rope.Rotate(row, query + h * c.head_dim);
  }
  for (int64_t h = 0; h < c.num_kv_heads; ++h) {
    rope.Rotate(row, key + h * c.head_dim);
    cache->Store(layer, KvCache::Keys(h), position, key + h * c.head_dim);
    cache->Store(layer, KvCache::Values(h), position, value + h * c.head_dim);
  }
}

// Neighbouring tokens of one sequence in the heads that share one key head.
// Those heads' queries become rows of one product, so that keys and values are
// read once for all of them.
struct QueryBlock {
  const KvCache* cache;
  int64_t kv_head;
  int64_t row, count;  // of the tokens in the batch
  int64_t seen;        // keys that the first of them sees
  int64_t pieces;      // of the context
  int64_t sums;        // place of the first piece's in the scratch

  int64_t keys() const { return seen + count - 1; }  // that the last one sees
};

struct GroupSizes {
  explicit GroupSizes(const ModelConfig& c)
      : heads(c.num_heads),
        group(c.num_heads / c.num_kv_heads),
        dim(c.head_dim) {}

  // Floats from the batch's start to the queries of a block's token.
  int64_t Place(const QueryBlock& block, int64_t token) const {
    return ((block.row + token) * heads + block.kv_head * group) * dim;
  }
  int64_t SumsSize(const QueryBlock& block) const {
    return AttentionSums::Size(block.count * group, dim);
  }
  AttentionSums SumsOf(const QueryBlock& block, int64_t piece,
                       AttentionScratch* s) const {
    return AttentionSums::At(
        s->sums.data() + block.sums + piece * SumsSize(block),
        block.count * group, dim);
  }

  int64_t heads, group, dim;
};

void AttendPiece(const ModelConfig& c, int64_t layer, const QueryBlock& block,
                 int64_t piece, AttentionScratch* s) {
  thread_local Buffer<float> query;
  thread_local Buffer<int64_t> seen;
  const GroupSizes n(c);
  const int64_t rows = block.count * n.group;
  query.Resize(rows * n.dim);
  seen.Resize(rows);
  for (int64_t t = 0; t < block.count; ++t) {
    const float* from = s->query.data() + n.Place(block, t);
    const float scale = c.attention_scale;
    std::transform(from, from + n.group * n.dim,
                   query.data() + t * n.group * n.dim,
                   [scale](float q) { return q * scale; });
    std::fill_n(seen.data() + t * n.group, n.group, block.seen + t);
  }
  const AttentionSums sums = n.SumsOf(block, piece, s);
  StartSums(sums);
  const int64_t length =
      block.pieces == 1 ? block.keys() : PieceKeys(block.keys());
  const int64_t end = std::min(block.keys(), (piece + 1) * length);
  const auto tile = [&](int64_t part, int64_t page) {
    StoredTile stored = block.cache->Tile(layer, part, page);
    if ((page + 1) * kPageTokens < end) {
      stored.numbers.ahead =
          block.cache->Tile(layer, part, page + 1).numbers.data;
    }
    return stored;
  };
  for (int64_t first = piece * length; first < end; first += kTileTokens) {
    const int64_t page = first / kPageTokens;
    const StoredTile keys = tile(KvCache::Keys(block.kv_head), page);
    const ScorePart part = {query.data(), n.dim, n.dim, keys.numbers};
    AddTile({first,
             std::min(kTileTokens, end - first),
             {&part, 1},
             keys.scales,
             tile(KvCache::Values(block.kv_head), page)},
            seen.data(), sums);
  }
}

void MergePieces(const ModelConfig& c, const QueryBlock& block,
                 AttentionScratch* s) {
  const GroupSizes n(c);
  const AttentionSums sums = n.SumsOf(block, 0, s);
  for (int64_t piece = 1; piece < block.pieces; ++piece) {
    MergeSums(n.SumsOf(block, piece, s), sums);
  }
  FinishSums(sums);
  for (int64_t t = 0; t < block.count; ++t) {
    std::copy_n(sums.context + t * n.group * n.dim, n.group * n.dim,
                s->context.data() + n.Place(block, t));
  }
}

// Blocks of all sequences, with places for their sums.
std::vector<QueryBlock> ListBlocks(const ModelConfig& c, Phase phase,
                                   std::span<const SequenceRows> sequences,
                                   AttentionScratch* s) {
  const GroupSizes n(c);
  const int64_t tokens = std::max<int64_t>(1, kQueryRows / n.group);
  std::vector<QueryBlock> blocks;
  int64_t size = 0;
  for (const SequenceRows& rows : sequences) {
    for (int64_t t = 0; t < rows.count; t += tokens) {
      for (int64_t head = 0; head < c.num_kv_heads; ++head) {
        QueryBlock block = {rows.cache,
                            head,
                            rows.first + t,
                            std::min(tokens, rows.count - t),
                            rows.position + t + 1,
                            1,
                            size};
        if (phase == Phase::kDecode) {
          const int64_t length = PieceKeys(block.keys());
          block.pieces = (block.keys() + length - 1) / length;
        }
        size += block.pieces * n.SumsSize(block);
        blocks.push_back(block);
      }
    }
  }
  s->sums.Resize(size);
  return blocks;
}

}  // namespace

namespace internal {

void AttendGrouped(const ModelConfig& c, const AttentionWeights& w,
                   const RopeTable& rope, const Arithmetic& math, int64_t layer,
                   const float* x, std::span<const SequenceRows> sequences,
                   AttentionScratch* s) {
  const int64_t tokens = sequences.back().first + sequences.back().count;
  s->query.Resize(tokens * c.num_heads * c.head_dim);
  Buffer<float>* const product = c.attention_gate ? &s->gated_query : &s->query;
  product->Resize(tokens * w.query.rows);
  s->key.Resize(tokens * w.key.rows);
  s->value.Resize(tokens * w.value.rows);
  const LinearJob inputs[] = {{w.query, x, tokens, product->data()},
                              {w.key, x, tokens, s->key.data()},
                              {w.value, x, tokens, s->value.data()}};
  LinearBatch(inputs, math);
  if (c.attention_gate) SplitGates(c, tokens, s);
  ForEachToken(sequences, [&](int64_t row, KvCache* cache, int64_t position) {
    FinishToken(c, w, rope, layer, row, cache, position, s);
  });
  struct Task {
    const QueryBlock* block;
    int64_t piece;
  };
  const std::vector<QueryBlock> blocks =
      ListBlocks(c, math.phase, sequences, s);
  std::vector<Task> tasks;
  for (const QueryBlock& block : blocks) {
    for (int64_t piece = 0; piece < block.pieces; ++piece) {
      tasks.push_back({&block, piece});
    }
  }
  ParallelFor(static_cast<int64_t>(tasks.size()), [&](int64_t i) {
    const Task& task = tasks[static_cast<size_t>(i)];
    AttendPiece(c, layer, *task.block, task.piece, s);
  });
  ParallelFor(static_cast<int64_t>(blocks.size()), [&](int64_t i) {
    MergePieces(c, blocks[static_cast<size_t>(i)], s);
  });
  if (c.attention_gate) ApplyGates(tokens * c.num_heads * c.value_dim, s);
}

}  // namespace internal

}  // namespace mobe
