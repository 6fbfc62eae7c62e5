#include "speed/forward_operations.h"

#include <gtest/gtest.h>

#include "model/test_models.h"
#include "speed/outline.h"

namespace mobe {
namespace {

ModelConfig ConfigOf(const char* model) {
  return ReadOutline(TestModel(model)).config;
}

TEST(ForwardOperationsTest, GroupedAttention) {
  // Three layers, the first dense (160): hidden 64, 4 heads of 32, 2 of keys
  // and values, 4 of 16 experts of 32, vocabulary 512.
  const ModelConfig config = ConfigOf("qwen3_moe");
  const double attention = 64 * 4 * 32 + 2 * 64 * 2 * 32 + 4 * 32 * 64;
  const double layers =
      3 * attention + 3 * 64 * 160 + 2 * (64 * 16 + 4 * 3 * 64 * 32);
  const double head = 64 * 512;
  const double seen = 3 * 4 * (32 + 32);  // numbers of one token, in all layers
  EXPECT_EQ(ForwardOperations(config, 1, 0, 1), 2 * (layers + seen + head));
  EXPECT_EQ(ForwardOperations(config, 1, 9, 1),
            2 * (layers + 10 * seen + head));
  // A prompt of 3 behind 2 others: they see 3, 4 and 5 tokens.
  EXPECT_EQ(ForwardOperations(config, 3, 2, 1),
            2 * (3 * layers + 12 * seen + head));
  EXPECT_EQ(ForwardOperations(config, 0, 2, 0), 0);
}

TEST(ForwardOperationsTest, StepsAddUpToTheWhole) {
  for (const char* model :
       {"qwen3_moe", "deepseek_v3", "bailing_moe", "qwen3_next"}) {
    const ModelConfig config = ConfigOf(model);
    double steps = 0;
    for (int64_t i = 0; i < 5; ++i) {
      steps += ForwardOperations(config, 1, 7 + i, 1);
    }
    EXPECT_EQ(ForwardOperations(config, 5, 7, 5), steps) << model;
  }
}

TEST(ForwardOperationsTest, DeltaNets) {
  // The first two of three layers are such nets: hidden 32, 2 heads of keys of
  // 8, 4 of values of 12. The last has 4 gated heads of 16, 2 of keys and
  // values. All have 3 of 8 experts of 16 and a shared one of 24.
  const ModelConfig config = ConfigOf("qwen3_5_moe");
  const double net = 32 * (2 * 16 + 48 + 48 + 2 * 4) + 48 * 32 + 3 * 8 * 48;
  const double attention = 32 * 2 * 64 + 2 * 32 * 32 + 64 * 32;
  const double mlp = 32 * 8 + 3 * 32 * (3 * 16 + 24);
  const double seen = 4 * (16 + 16);
  EXPECT_EQ(ForwardOperations(config, 1, 9, 1),
            2 * (2 * net + attention + 3 * mlp + 10 * seen + 32 * 128));
}

TEST(ForwardOperationsTest, LatentAttention) {
  ModelConfig config = ConfigOf("deepseek_v3");
  config.num_layers = 1;
  config.first_moe_layer = 0;
  config.dense_layers.clear();
  config.moe_layer_step = 1;
  config.vocab_size = 1000;
  config.hidden_size = 100;
  config.num_heads = 4;
  config.head_dim = 24;
  config.value_dim = 16;
  config.rope.dim = 8;
  config.latent = {.kv_rank = 20, .query_rank = 30, .nope = 16};
  config.expert_size = 50;
  config.shared_size = 60;
  config.num_experts = 8;
  config.experts_per_token = 2;
  const double query = 100 * 30 + 30 * 4 * 24;
  const double keys = 100 * (20 + 8) + 20 * 4 * (16 + 16);
  const double output = 4 * 16 * 100;
  const double mlp = 100 * 8 + 3 * 100 * (2 * 50 + 60);
  const double seen = 4 * (24 + 16);
  EXPECT_EQ(ForwardOperations(config, 1, 5, 1),
            2 * (query + keys + output + mlp + 6 * seen + 100 * 1000));
  config.latent.query_rank = 0;
  EXPECT_EQ(ForwardOperations(config, 1, 5, 0),
            2 * (100 * 4 * 24 + keys + output + mlp + 6 * seen));
}

}  // namespace
}  // namespace mobe
