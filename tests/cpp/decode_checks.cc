// What a decoder does a token at a time, table against table.
#include "decode_checks.h"

#include "arena.h"

#include <algorithm>
#include <tuple>

namespace bert_rt {
namespace {

using Floats = std::vector<float>;

Floats normals(Random& random, size_t count) {
  std::normal_distribution<float> normal(0.0f, 1.0f);
  Floats x(count);
  for (float& value : x) value = normal(random);
  return x;
}

std::string shape(const char* kernel, int a, int b, int c) {
  return std::string(kernel) + " " + std::to_string(a) + " " + std::to_string(b) + " " +
         std::to_string(c);
}

// Blocks of exactly the size that is asked for, so that the sanitizers see what is beyond.
void check_attend(Random& random, const Kernels& kernels, const Kernels& scalar, int m, int s,
                  int h) {
  const auto rows = [h](int count) { return static_cast<size_t>(count) * static_cast<size_t>(h); };
  const Floats q = normals(random, rows(m)), k = normals(random, rows(s)),
               v = normals(random, rows(s));
  const Floats mult(static_cast<size_t>(h), 40.0f);
  const auto run = [&](const Kernels& table) {
    Buffer<uint8_t> packed(packed_head_bytes(s, h)), scratch(attend_scratch_bytes(s, h));
    const PackedHead head = packed_head(packed.data(), s, h);
    table.pack_head(table, {k.data(), v.data(), ptrdiff_t{16} * s, s, h, head});
    Floats plain(rows(m));
    std::vector<uint8_t> codes(rows(m));
    AttendArgs args{q.data(), ptrdiff_t{16} * m, m, s, h, 0.2f, head, {}, nullptr, plain.data(),
                    h,        scratch.data()};
    table.attend(table, args);
    args.quantize = {mult.data(), 120.0f};
    args.out_u8 = codes.data();
    table.attend(table, args);
    return std::tuple(plain, codes);
  };
  expect(run(kernels) == run(scalar), shape("attend", m, s, h));
}

void check_cells(Random& random, const Kernels& kernels, const Kernels& scalar, int s,
                 int num_heads, int h) {
  const auto width = static_cast<size_t>(num_heads * h), count = static_cast<size_t>(s);
  const Floats q = normals(random, width), kv = normals(random, 2 * width * count);
  const Floats mult(width, 40.0f);
  const auto w = static_cast<ptrdiff_t>(width);
  const CellLayout layout{0, w, 2 * w, 2 * w + 4 * num_heads};
  const size_t cell_bytes = 2 * width + 8 * static_cast<size_t>(num_heads);
  const auto run = [&](const Kernels& table) {
    std::vector<uint8_t> memory(cell_bytes * count);
    std::vector<const uint8_t*> cells;
    for (size_t t = 0; t < count; ++t) {
      const float* k = kv.data() + 2 * width * t;
      uint8_t* cell = memory.data() + cell_bytes * t;
      table.store_cell({k, k + width, num_heads, h, layout, cell});
      cells.push_back(cell);
    }
    Buffer<uint8_t> scratch(cached_attention_scratch_bytes(s));
    Floats plain(width);
    std::vector<uint8_t> codes(width);
    CachedAttentionArgs args{q.data(),      cells.data(), s,  num_heads, h,
                             0.2f,          layout,       {}, nullptr,   plain.data(),
                             scratch.data()};
    table.cached_attention(args);
    args.quantize = {mult.data(), 120.0f};
    args.out_u8 = codes.data();
    table.cached_attention(args);
    return std::tuple(memory, plain, codes);
  };
  expect(run(kernels) == run(scalar), shape("cached_attention", s, num_heads, h));
}

void check_scores(Random& random, const Kernels& kernels, const Kernels& scalar, int n) {
  Floats x = normals(random, static_cast<size_t>(n));
  for (float& value : x) value *= 9.0f;
  x.back() = -1e30f;
  const auto run = [&](const Kernels& table) {
    Floats largest(static_cast<size_t>((n + kScoreBlock - 1) / kScoreBlock));
    const ScoreSum sum = table.sum_scores({x.data(), n, largest.data()});
    return std::tuple(largest, sum.largest, sum.sum);
  };
  expect(run(kernels) == run(scalar), shape("sum_scores", n, 1, 1));
}

} // namespace

void check_decode_kernels(Random& random, const Kernels& kernels, const Kernels& scalar,
                          int rounds) {
  check_attend(random, kernels, scalar, 70, 3, 64);
  check_cells(random, kernels, scalar, 65, 35, 16);
  check_scores(random, kernels, scalar, 16);
  for (int i = 0; i < rounds; ++i) {
    check_attend(random, kernels, scalar, between(random, 1, 40), between(random, 1, 90),
                 16 * between(random, 1, 6));
    check_cells(random, kernels, scalar, between(random, 1, 90), between(random, 1, 12),
                16 * between(random, 1, 6));
    check_scores(random, kernels, scalar, 16 * between(random, 1, 70));
  }
}

} // namespace bert_rt
