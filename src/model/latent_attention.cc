// Multi-head latent attention. The cache holds, for each token, the latent
// vector c (kv_rank numbers, normed) and one rotated key, which all heads
// share: 576 numbers in DeepSeek-V3, where keys and values of its 128 heads
// would be 40,960. A head h has the keys U_h c and the values V_h c, where U_h
// and V_h are rows of kv_b_proj. There are two ways to the same sums:
//
// expanded  The keys and values of a head are computed from the cache, and
//           attended to as usual.
// absorbed  q (U_h c) = (U_h^T q) c: queries are brought into the latent space,
//           where all heads have the same keys, c, and the same values, c; V_h
//           is applied to what comes out. Nothing is expanded, but a product
//           has kv_rank numbers in place of a key's.
//
// Which one takes fewer operations depends on how many tokens share the
// expansion: absorbed at decode, expanded in prefill, unless a long context
// stands before few tokens.
#include <algorithm>

#include "base/parallel.h"
#include "kernels/expand.h"
#include "kernels/kernels.h"
#include "model/attention.h"
#include "model/norm.h"
#include "model/tile_attention.h"
#include "model/token_grain.h"

namespace mobe::internal {
namespace {

// Of the norms of the low-rank vectors; their modules are made without the
// config's value.
constexpr float kLatentEps = 1e-6f;
// Query rows that attend to a tile together: enough for the products to run
// well, and for what a tile is expanded or transposed to before.
constexpr int64_t kRows = 64;

// The sizes of one call.
struct Sizes {
  int64_t tokens;  // of the batch
  int64_t heads, kv_rank, nope, rotated, value;

  int64_t up() const { return nope + value; }  // rows of latent_up for a head
  int64_t row(int64_t head, int64_t token) const {  // of what lies by heads
    return head * tokens + token;
  }
};

// s->query = the queries, before their rotation; s->latent likewise.
void ProjectLatent(const AttentionWeights& w, const Arithmetic& math,
                   const float* x, int64_t tokens, AttentionScratch* s) {
  s->query.Resize(tokens * w.query.rows);
  s->latent.Resize(tokens * w.latent_down.rows);
  if (w.query_down.rows == 0) {
    const LinearJob jobs[] = {{w.query, x, tokens, s->query.data()},
                              {w.latent_down, x, tokens, s->latent.data()}};
    LinearBatch(jobs, math);
    return;
  }
  s->query_down.Resize(tokens * w.query_down.rows);
  const LinearJob jobs[] = {{w.query_down, x, tokens, s->query_down.data()},
                            {w.latent_down, x, tokens, s->latent.data()}};
  LinearBatch(jobs, math);
  ParallelRanges(tokens, kTokenGrain, [&](int64_t begin, int64_t end) {
    float* rows = s->query_down.data() + begin * w.query_down.rows;
    RmsNorm(w.query_down_norm, kLatentEps, rows, end - begin, rows);
  });
  Linear(w.query, s->query_down.data(), tokens, math, s->query.data());
}

// Rotates queries and key of the token in one row of the batch; the queries go
// to s->nope and s->rotated, by heads and scaled, key and latent vector to the
// cache.
void FinishToken(const ModelConfig& c, const AttentionWeights& w,
                 const RopeTable& rope, int64_t layer, const Sizes& n,
                 int64_t token, KvCache* cache, int64_t position,
                 AttentionScratch* s) {
  const float scale = c.attention_scale;
  for (int64_t h = 0; h < n.heads; ++h) {
    float* query = s->query.data() + (token * n.heads + h) * c.head_dim;
    const int64_t row = n.row(h, token);
    rope.Rotate(token, query + n.nope);
    std::transform(query, query + n.nope, s->nope.data() + row * n.nope,
                   [scale](float q) { return q * scale; });
    std::transform(query + n.nope, query + c.head_dim,
                   s->rotated.data() + row * n.rotated,
                   [scale](float q) { return q * scale; });
  }
  float* latent = s->latent.data() + token * (n.kv_rank + n.rotated);
  float* key = latent + n.kv_rank;
  RmsNorm(w.latent_norm, kLatentEps, latent, 1, latent);
  rope.Rotate(token, key);
  cache->Store(layer, KvCache::kLatents, position, latent);
  cache->Store(layer, KvCache::kRotatedKeys, position, key);
}

// A tile of the cache in floats, scaled.
struct LatentTile {
  LatentTile(const KvCache& cache, int64_t layer, int64_t page,
             const Sizes& n) {
    thread_local Buffer<float> memory;
    memory.Resize((n.kv_rank + n.rotated) * kTileTokens);
    latents = memory.data();
    rotated = latents + n.kv_rank * kTileTokens;
    cache.LoadTile(layer, KvCache::kLatents, page, latents);
    cache.LoadTile(layer, KvCache::kRotatedKeys, page, rotated);
  }

  float* latents;  // [kv_rank, kTileTokens]
  float* rotated;  // [rotated, kTileTokens]
};

TileView FloatTile(const float* data, int64_t stride) {
  return {DType::kF32, data, stride};
}

// --- Absorbed.

// Neighbouring sequences, which share the reading of the weights.
struct Run {
  std::span<const SequenceRows> sequences;

  int64_t first() const { return sequences.front().first; }
  int64_t tokens() const {
    return sequences.back().first + sequences.back().count - first();
  }
  // Of what lies by heads of the run's tokens alone: what is in latent space.
  int64_t row(int64_t head, int64_t token) const {
    return head * tokens() + token - first();
  }
};

// Rows [first, first + count) of a sequence's queries, of which row r is of
// head r / tokens and token r % tokens.
struct LatentBlock {
  const SequenceRows* sequence;
  int64_t first, count;
  int64_t pieces;  // of the context
  int64_t sums;    // place of the first piece's in the scratch

  int64_t keys() const { return sequence->position + sequence->count; }
  int64_t token(int64_t r) const { return (first + r) % sequence->count; }
  int64_t head(int64_t r) const { return (first + r) / sequence->count; }
  int64_t batch_token(int64_t r) const { return sequence->first + token(r); }
  AttentionSums SumsOf(const Sizes& n, int64_t piece,
                       AttentionScratch* s) const {
    const int64_t size = AttentionSums::Size(count, n.kv_rank);
    return AttentionSums::At(s->sums.data() + sums + piece * size, count,
                             n.kv_rank);
  }
};

void AttendPiece(const Sizes& n, int64_t layer, const Run& run,
                 const LatentBlock& block, int64_t piece, AttentionScratch* s) {
  thread_local Buffer<float> query, rotated, values;
  thread_local Buffer<int64_t> seen;
  const KvCache& cache = *block.sequence->cache;
  query.Resize(block.count * n.kv_rank);
  rotated.Resize(block.count * n.rotated);
  values.Resize(kTileTokens * n.kv_rank);
  seen.Resize(block.count);
  for (int64_t r = 0; r < block.count; ++r) {
    const int64_t head = block.head(r);
    const int64_t token = block.batch_token(r);
    std::copy_n(s->latent_query.data() + run.row(head, token) * n.kv_rank,
                n.kv_rank, query.data() + r * n.kv_rank);
    std::copy_n(s->rotated.data() + n.row(head, token) * n.rotated, n.rotated,
                rotated.data() + r * n.rotated);
    seen[r] = block.sequence->position + block.token(r) + 1;
  }
  const AttentionSums sums = block.SumsOf(n, piece, s);
  StartSums(sums);
  const int64_t length =
      block.pieces == 1 ? block.keys() : PieceKeys(block.keys());
  const int64_t end = std::min(block.keys(), (piece + 1) * length);
  for (int64_t first = piece * length; first < end; first += kTileTokens) {
    const LatentTile tile(cache, layer, first / kPageTokens, n);
    Transpose(tile.latents, n.kv_rank, kTileTokens, values.data());
    const ScorePart parts[] = {{query.data(), n.kv_rank, n.kv_rank,
                                FloatTile(tile.latents, kTileTokens)},
                               {rotated.data(), n.rotated, n.rotated,
                                FloatTile(tile.rotated, kTileTokens)}};
    AddTile({first,
             std::min(kTileTokens, end - first),
             parts,
             nullptr,
             {FloatTile(values.data(), n.kv_rank)}},
            seen.data(), sums);
  }
}

void MergePieces(const Sizes& n, const Run& run, const LatentBlock& block,
                 AttentionScratch* s) {
  const AttentionSums sums = block.SumsOf(n, 0, s);
  for (int64_t piece = 1; piece < block.pieces; ++piece) {
    MergeSums(block.SumsOf(n, piece, s), sums);
  }
  FinishSums(sums);
  for (int64_t r = 0; r < block.count; ++r) {
    const int64_t row = run.row(block.head(r), block.batch_token(r));
    std::copy_n(sums.context + r * n.kv_rank, n.kv_rank,
                s->latent_context.data() + row * n.kv_rank);
  }
}

// From s->latent_query to s->latent_context.
void AttendToLatents(const Sizes& n, Phase phase, int64_t layer, const Run& run,
                     AttentionScratch* s) {
  struct Task {
    size_t block;
    int64_t piece;
  };
  std::vector<LatentBlock> blocks;
  std::vector<Task> tasks;
  int64_t size = 0;
  for (const SequenceRows& sequence : run.sequences) {
    const int64_t rows = n.heads * sequence.count;
    for (int64_t first = 0; first < rows; first += kRows) {
      LatentBlock block = {&sequence, first, std::min(kRows, rows - first), 1,
                           size};
      if (phase == Phase::kDecode) {
        const int64_t length = PieceKeys(block.keys());
        block.pieces = (block.keys() + length - 1) / length;
      }
      for (int64_t piece = 0; piece < block.pieces; ++piece) {
        tasks.push_back({blocks.size(), piece});
      }
      size += block.pieces * AttentionSums::Size(block.count, n.kv_rank);
      blocks.push_back(block);
    }
  }
  s->sums.Resize(size);
  ParallelFor(static_cast<int64_t>(tasks.size()), [&](int64_t i) {
    const Task& task = tasks[static_cast<size_t>(i)];
    AttendPiece(n, layer, run, blocks[task.block], task.piece, s);
  });
  ParallelFor(static_cast<int64_t>(blocks.size()), [&](int64_t i) {
    MergePieces(n, run, blocks[static_cast<size_t>(i)], s);
  });
}

// U_h and V_h, one below the other.
WeightView UpRows(const AttentionWeights& w, const Sizes& n, int64_t head) {
  return w.latent_up.Rows(head * n.up(), n.up());
}

void AttendAbsorbed(const AttentionWeights& w, const Sizes& n,
                    const Arithmetic& math, int64_t layer, const Run& run,
                    AttentionScratch* s) {
  const int64_t rows = n.heads * run.tokens();
  s->latent_query.Resize(rows * n.kv_rank);
  s->latent_context.Resize(rows * n.kv_rank);
  s->jobs.clear();
  for (int64_t h = 0; h < n.heads; ++h) {
    s->jobs.push_back(
        {UpRows(w, n, h).Rows(0, n.nope),
         s->nope.data() + n.row(h, run.first()) * n.nope, run.tokens(),
         s->latent_query.data() + run.row(h, run.first()) * n.kv_rank,
         Trans::kYes});
  }
  LinearBatch(s->jobs, math);
  AttendToLatents(n, math.phase, layer, run, s);
  s->jobs.clear();
  for (int64_t h = 0; h < n.heads; ++h) {
    s->jobs.push_back(
        {UpRows(w, n, h).Rows(n.nope, n.value),
         s->latent_context.data() + run.row(h, run.first()) * n.kv_rank,
         run.tokens(),
         s->head_context.data() + n.row(h, run.first()) * n.value});
  }
  LinearBatch(s->jobs, math);
}

// --- Expanded.

// One head of a sequence, to its rows of s->head_context.
void AttendHead(const AttentionWeights& w, const Sizes& n, int64_t layer,
                const SequenceRows& sequence, int64_t head,
                AttentionScratch* s) {
  thread_local Buffer<float> weights, expanded, values, memory;
  thread_local Buffer<int64_t> seen;
  const KvCache& cache = *sequence.cache;
  const int64_t tokens = sequence.count;
  weights.Resize(n.up() * n.kv_rank);
  expanded.Resize(n.up() * kTileTokens);
  values.Resize(kTileTokens * n.value);
  memory.Resize(2 * tokens);
  seen.Resize(tokens);
  ExpandWeights(UpRows(w, n, head), weights.data());
  for (int64_t t = 0; t < tokens; ++t) seen[t] = sequence.position + t + 1;
  const int64_t row = n.row(head, sequence.first);
  const AttentionSums sums = {tokens, n.value,
                              s->head_context.data() + row * n.value,
                              memory.data(), memory.data() + tokens};
  StartSums(sums);
  const int64_t keys = sequence.position + tokens;
  for (int64_t first = 0; first < keys; first += kTileTokens) {
    const LatentTile tile(cache, layer, first / kPageTokens, n);
    // Keys lie by columns, as the tile does; values so, too, at first.
    std::fill(expanded.begin(), expanded.end(), 0.0f);
    Kernels().add_products(n.up(), n.kv_rank, kTileTokens, weights.data(),
                           n.kv_rank, FloatTile(tile.latents, kTileTokens),
                           expanded.data(), kTileTokens);
    Transpose(expanded.data() + n.nope * kTileTokens, n.value, kTileTokens,
              values.data());
    for (int64_t t = 0; t < tokens; t += kRows) {
      const ScorePart parts[] = {
          {s->nope.data() + (row + t) * n.nope, n.nope, n.nope,
           FloatTile(expanded.data(), kTileTokens)},
          {s->rotated.data() + (row + t) * n.rotated, n.rotated, n.rotated,
           FloatTile(tile.rotated, kTileTokens)}};
      AddTile({first,
               std::min(kTileTokens, keys - first),
               parts,
               nullptr,
               {FloatTile(values.data(), n.value)}},
              seen.data() + t, sums.Rows(t, std::min(kRows, tokens - t)));
    }
  }
  FinishSums(sums);
}

// Does the absorbed form take fewer multiplications for a head? Of a prompt all
// of it is asked for, so that it does not matter in which pieces it comes.
bool AbsorbedIsLess(const Sizes& n, Phase phase, const SequenceRows& sequence) {
  if (phase == Phase::kDecode) return true;
  const int64_t ahead = sequence.count + sequence.after;
  const auto tokens = static_cast<double>(sequence.before + ahead);
  const auto keys = static_cast<double>(sequence.position + ahead);
  const auto rank = static_cast<double>(n.kv_rank);
  const auto up = static_cast<double>(n.up());
  return tokens * rank * up + tokens * keys * 2 * rank <
         keys * rank * up + tokens * keys * up;
}

}  // namespace

void AttendLatent(const ModelConfig& c, const AttentionWeights& w,
                  const RopeTable& rope, const Arithmetic& math, int64_t layer,
                  const float* x, std::span<const SequenceRows> sequences,
                  AttentionScratch* s) {
  const int64_t tokens = sequences.back().first + sequences.back().count;
  const Sizes n{tokens,        c.num_heads, c.latent.kv_rank,
                c.latent.nope, c.rope.dim,  c.value_dim};
  const int64_t rows = n.heads * tokens;
  s->nope.Resize(rows * n.nope);
  s->rotated.Resize(rows * n.rotated);
  s->head_context.Resize(rows * n.value);
  ProjectLatent(w, math, x, tokens, s);
  ForEachToken(sequences, [&](int64_t row, KvCache* cache, int64_t position) {
    FinishToken(c, w, rope, layer, n, row, cache, position, s);
  });
  for (size_t i = 0; i < sequences.size();) {
    size_t end = i;
    while (end < sequences.size() &&
           AbsorbedIsLess(n, math.phase, sequences[end])) {
      ++end;
    }
    if (end > i) {
      AttendAbsorbed(w, n, math, layer, {sequences.subspan(i, end - i)}, s);
      i = end;
      continue;
    }
    // A head at a time in each thread, which bounds what is expanded at once.
    ParallelFor(n.heads, [&](int64_t h) {
      AttendHead(w, n, layer, sequences[i], h, s);
    });
    ++i;
  }
  ParallelRanges(tokens, kTokenGrain, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      for (int64_t h = 0; h < n.heads; ++h) {
        std::copy_n(s->head_context.data() + n.row(h, t) * n.value, n.value,
                    s->context.data() + (t * n.heads + h) * n.value);
      }
    }
  });
}

}  // namespace mobe::internal
