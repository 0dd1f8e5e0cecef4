// Every kernel of a table against the scalar one, bit for bit.
#pragma once

#include "kernels.h"

#include <cstring>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

namespace bert_rt {

using Random = std::mt19937;

inline int between(Random& random, int low, int high) {
  return std::uniform_int_distribution<int>(low, high)(random);
}

inline void expect(bool holds, const std::string& what) {
  if (!holds) throw std::runtime_error("failed: " + what);
}

template <class T>
bool same(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0;
}

// Fixed shapes (around register tiles, primes, a model's), then `rounds` random ones of each kind.
// Throws std::runtime_error that names the kernel where a bit differs.
void check_kernels(Random& random, const Kernels& kernels, const Kernels& scalar, int rounds);

} // namespace bert_rt
