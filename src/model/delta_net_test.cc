#include "model/delta_net.h"

#include <gtest/gtest.h>

#include <cmath>
#include <deque>
#include <random>
#include <vector>

#include "base/parallel.h"

namespace mobe::delta_net_test {
namespace {

constexpr int64_t kHidden = 20;
constexpr int64_t kTokens = 90;
constexpr DeltaSizes kSizes = {.key_heads = 2,
                               .value_heads = 6,
                               .key_dim = 5,
                               .value_dim = 9,
                               .window = 3};

// A layer of random weights, its inputs in two matrices or in four.
struct RandomNet {
  explicit RandomNet(bool by_key_heads) {
    config.num_layers = 1;
    config.num_heads = config.num_kv_heads = 1;
    config.head_dim = config.value_dim = 2;
    config.max_positions = 1000;
    config.rms_norm_eps = 1e-6f;
    config.attention_interval = 2;
    config.delta = kSizes;
    if (by_key_heads) {
      w.inputs = Matrix(kSizes.channels() + kSizes.values());
      w.rates = Matrix(2 * kSizes.value_heads);
    } else {
      w.query_key_value = Matrix(kSizes.channels());
      w.gate = Matrix(kSizes.values());
      w.beta = Matrix(kSizes.value_heads);
      w.decay = Matrix(kSizes.value_heads);
    }
    w.convolution = Values(kSizes.window * kSizes.channels());
    w.decay_bias = Values(kSizes.value_heads);
    w.decay_scale = Values(kSizes.value_heads);
    for (float& scale : w.decay_scale) scale = -std::exp(scale - 2);
    w.norm = Values(kSizes.value_dim);
    x = Values(kTokens * kHidden);
  }

  std::vector<float> Values(int64_t count) {
    std::normal_distribution<float> normal;
    std::vector<float> values(static_cast<size_t>(count));
    for (float& value : values) value = normal(random);
    return values;
  }
  WeightView Matrix(int64_t rows) {
    const std::vector<float>& numbers =
        matrices.emplace_back(Values(rows * kHidden));
    return {NumberFormat::kF32, numbers.data(), rows, kHidden};
  }

  // The context of tokens that come in pieces.
  std::vector<float> Run(const std::vector<int64_t>& pieces) const {
    KvCache cache(config, kTokens);
    DeltaScratch scratch;
    std::vector<float> context(static_cast<size_t>(kTokens * kSizes.values()));
    for (const int64_t count : pieces) {
      const int64_t at = cache.length();
      const SequenceRows rows{0, count, &cache, at};
      RunDeltaNet(config, w, {}, 0, x.data() + at * kHidden, {&rows, 1},
                  &scratch, context.data() + at * kSizes.values());
      cache.Append(count);
    }
    return context;
  }

  std::mt19937 random{7};
  ModelConfig config;
  std::deque<std::vector<float>> matrices;
  DeltaWeights w;
  std::vector<float> x;
};

double Product(const WeightView& w, int64_t row, const float* x) {
  double sum = 0;
  for (int64_t i = 0; i < w.cols; ++i) sum += w.Row<float>(row)[i] * x[i];
  return sum;
}

double Silu(double x) { return x / (1 + std::exp(-x)); }

// One value head by the formulas of delta_net.h, in double.
class HeadByFormulas {
 public:
  HeadByFormulas(const RandomNet& net, int64_t head) : net_(net), head_(head) {}

  // [tokens, value_dim]
  std::vector<double> Run() {
    const int64_t k = kSizes.key_dim;
    const int64_t v = kSizes.value_dim;
    const DeltaWeights& w = net_.w;
    std::vector<double> state(static_cast<size_t>(k * v));
    std::vector<double> all;
    const auto s = [&](int64_t i, int64_t j) -> double& {
      return state[static_cast<size_t>(i * v + j)];
    };
    for (int64_t t = 0; t < kTokens; ++t) {
      const float* x = net_.x.data() + t * kHidden;
      const std::vector<double> query =
          Key(t, 0, 1 / std::sqrt(static_cast<double>(k)));
      const std::vector<double> key = Key(t, 1, 1);
      const auto h = static_cast<size_t>(head_);
      const double beta = 1 / (1 + std::exp(-Rate(w.beta, 0, x)));
      const double a = Rate(w.decay, 1, x) + w.decay_bias[h];
      const double kept = std::exp(w.decay_scale[h] * std::log1p(std::exp(a)));
      for (double& number : state) number *= kept;
      std::vector<double> out;
      double squares = 0;
      for (int64_t j = 0; j < v; ++j) {
        double found = 0;
        for (int64_t i = 0; i < k; ++i) {
          found += s(i, j) * key[static_cast<size_t>(i)];
        }
        const double change = beta * (Mixed(t, Place(2, j)) - found);
        double sum = 0;
        for (int64_t i = 0; i < k; ++i) {
          s(i, j) += key[static_cast<size_t>(i)] * change;
          sum += s(i, j) * query[static_cast<size_t>(i)];
        }
        out.push_back(sum);
        squares += sum * sum;
      }
      for (int64_t j = 0; j < v; ++j) {
        const auto i = static_cast<size_t>(j);
        all.push_back(out[i] /
                      std::sqrt(squares / static_cast<double>(v) + 1e-6) *
                      w.norm[i] * Silu(Gate(j, x)));
      }
    }
    return all;
  }

 private:
  int64_t group() const { return kSizes.value_heads / kSizes.key_heads; }
  int64_t key_head() const { return head_ / group(); }
  // The channel of number i of the head's query (0), key (1) or value (2).
  int64_t Place(int what, int64_t i) const {
    return what < 2 ? what * kSizes.keys() + key_head() * kSizes.key_dim + i
                    : 2 * kSizes.keys() + head_ * kSizes.value_dim + i;
  }
  // The row of `inputs` that a key head's number i of a kind is in.
  int64_t InputRow(int what, int64_t i) const {
    const int64_t values = group() * kSizes.value_dim;
    const int64_t in_group = head_ % group() * kSizes.value_dim + i;
    const int64_t begin = key_head() * 2 * (kSizes.key_dim + values);
    return begin + (what < 2
                        ? what * kSizes.key_dim + i
                        : 2 * kSizes.key_dim + (what - 2) * values + in_group);
  }
  double Input(int64_t t, int what, int64_t i) const {
    if (t < 0) return 0;
    const float* x = net_.x.data() + t * kHidden;
    const DeltaWeights& w = net_.w;
    return w.inputs.rows > 0 ? Product(w.inputs, InputRow(what, i), x)
                             : Product(w.query_key_value, Place(what, i), x);
  }
  double Convolved(int64_t t, int what, int64_t i) const {
    double sum = 0;
    for (int64_t j = 0; j < kSizes.window; ++j) {
      const int64_t at = j * kSizes.channels() + Place(what, i);
      sum += net_.w.convolution[static_cast<size_t>(at)] *
             Input(t - kSizes.window + 1 + j, what, i);
    }
    return Silu(sum);
  }
  double Mixed(int64_t t, int64_t place) const {
    return Convolved(t, 2, place - Place(2, 0));
  }
  std::vector<double> Key(int64_t t, int what, double length) const {
    std::vector<double> key;
    double squares = 1e-6;
    for (int64_t i = 0; i < kSizes.key_dim; ++i) {
      key.push_back(Convolved(t, what, i));
      squares += key.back() * key.back();
    }
    for (double& number : key) number *= length / std::sqrt(squares);
    return key;
  }
  double Gate(int64_t i, const float* x) const {
    const DeltaWeights& w = net_.w;
    return w.inputs.rows > 0 ? Product(w.inputs, InputRow(3, i), x)
                             : Product(w.gate, head_ * kSizes.value_dim + i, x);
  }
  double Rate(const WeightView& own, int which, const float* x) const {
    const DeltaWeights& w = net_.w;
    const int64_t row = (2 * key_head() + which) * group() + head_ % group();
    return w.rates.rows > 0 ? Product(w.rates, row, x) : Product(own, head_, x);
  }

  const RandomNet& net_;
  const int64_t head_;
};

TEST(DeltaNetTest, IsWhatTheFormulasSay) {
  for (const bool by_key_heads : {false, true}) {
    const RandomNet net(by_key_heads);
    const std::vector<float> context = net.Run({kTokens});
    for (int64_t head = 0; head < kSizes.value_heads; ++head) {
      const std::vector<double> want = HeadByFormulas(net, head).Run();
      for (int64_t t = 0; t < kTokens; ++t) {
        for (int64_t i = 0; i < kSizes.value_dim; ++i) {
          const int64_t at = t * kSizes.values() + head * kSizes.value_dim + i;
          const double expected =
              want[static_cast<size_t>(t * kSizes.value_dim + i)];
          ASSERT_NEAR(context[static_cast<size_t>(at)], expected,
                      2e-4 * (1 + std::abs(expected)))
              << by_key_heads << ", token " << t << ", head " << head;
        }
      }
    }
  }
}

TEST(DeltaNetTest, PiecesAndThreadsChangeNothingButRounding) {
  const RandomNet net(true);
  const std::vector<float> whole = net.Run({kTokens});
  // Pieces shorter than the window, too.
  const std::vector<float> pieces = net.Run({1, 1, 2, 70, 1, 15});
  for (size_t i = 0; i < whole.size(); ++i) {
    ASSERT_NEAR(pieces[i], whole[i], 1e-4 * (1 + std::abs(whole[i])));
  }
  for (const int threads : {1, 3}) {
    SetThreads(threads);
    EXPECT_EQ(net.Run({kTokens}), whole);
  }
  SetThreads(0);
}

}  // namespace
}  // namespace mobe::delta_net_test
