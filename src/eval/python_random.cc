#include "eval/python_random.h"

#include <array>
#include <bit>
#include <cmath>
#include <set>
#include <sstream>

namespace mobe {
namespace {

constexpr size_t kWords = std::mt19937::state_size;

// init_by_array of the original mt19937ar.c with a key of one word, which is
// how Python takes a small integer.
std::array<uint32_t, kWords> StateOf(uint32_t seed) {
  std::array<uint32_t, kWords> state{};
  state[0] = 19650218;
  for (uint32_t i = 1; i < kWords; ++i) {
    const uint32_t last = state[i - 1];
    state[i] = 1812433253 * (last ^ (last >> 30)) + i;
  }
  size_t i = 1;
  const auto mix = [&](uint32_t factor) {
    const uint32_t last = state[i - 1];
    return state[i] ^ ((last ^ (last >> 30)) * factor);
  };
  const auto next = [&] {
    if (++i < kWords) return;
    state[0] = state[kWords - 1];
    i = 1;
  };
  for (size_t k = 0; k < kWords; ++k, next()) state[i] = mix(1664525) + seed;
  for (size_t k = 1; k < kWords; ++k, next()) {
    state[i] = mix(1566083941) - static_cast<uint32_t>(i);
  }
  state[0] = 0x80000000;
  return state;
}

}  // namespace

PythonRandom::PythonRandom(uint32_t seed) {
  // The only way to give std::mt19937 a state is its text: the words, then,
  // with libstdc++, how many of them were used.
  std::stringstream text;
  for (const uint32_t word : StateOf(seed)) text << word << ' ';
  text << kWords;
  text >> engine_;
}

size_t PythonRandom::Below(size_t n) {
  const int bits = std::bit_width(n);
  for (;;) {
    const size_t drawn = engine_() >> (32 - bits);
    if (drawn < n) return drawn;
  }
}

std::vector<size_t> PythonRandom::Sample(size_t population, size_t count) {
  std::vector<size_t> drawn;
  // As Python does, by which takes less memory there: the draws differ.
  double set_size = 21;
  if (count > 5) {
    set_size += std::pow(
        4, std::ceil(std::log(static_cast<double>(count) * 3) / std::log(4)));
  }
  if (static_cast<double>(population) <= set_size) {
    std::vector<size_t> pool;
    for (size_t i = 0; i < population; ++i) pool.push_back(i);
    for (size_t i = 0; i < count; ++i) {
      const size_t at = Below(population - i);
      drawn.push_back(pool[at]);
      pool[at] = pool[population - i - 1];
    }
    return drawn;
  }
  std::set<size_t> taken;
  while (drawn.size() < count) {
    const size_t at = Below(population);
    if (taken.insert(at).second) drawn.push_back(at);
  }
  return drawn;
}

}  // namespace mobe
