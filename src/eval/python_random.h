// Python's random.Random, as far as few-shot examples are drawn by it: the same
// seed draws the same ones as lm-eval does.
#pragma once

#include <cstddef>
#include <cstdint>
#include <random>
#include <vector>

namespace mobe {

class PythonRandom {
 public:
  // random.Random(seed)
  explicit PythonRandom(uint32_t seed);

  // Random.sample(range(population), count): `count` different numbers, at most
  // `population`.
  std::vector<size_t> Sample(size_t population, size_t count);

 private:
  size_t Below(size_t n);  // Random._randbelow, n in [1, 2^32]

  std::mt19937 engine_;
};

}  // namespace mobe
