// 6 x 16 register tile of usmmla: two rows of A times two columns of B, 8 deep, at a time. Two
// steps of a packed panel, [16][4] each, are joined into columns of 8 bytes.
#include "isa/vec_neon.h"
// The lanes come first.
#include "isa/epilogues.h"

namespace bert_rt::BERT_RT_ISA_NAMESPACE {
namespace {

// Accumulators: c[pair of rows][pair of columns] = two columns of the first row, two of the second.
template <int pairs>
struct Tile {
  int32x4_t c[pairs][8];
};

// 16 columns, 8 deep, in two steps of a panel: the second one null for zeros.
template <int pairs>
inline void step(Tile<pairs>& t, const uint8x16_t (&a)[pairs], const int8_t* b0, const int8_t* b1) {
#pragma GCC unroll 4
  for (int v = 0; v < 4; ++v) {
    keep_loads_here();
    const int32x4_t first = vreinterpretq_s32_s8(vld1q_s8(b0 + 16 * v));
    const int32x4_t second =
        b1 == nullptr ? vdupq_n_s32(0) : vreinterpretq_s32_s8(vld1q_s8(b1 + 16 * v));
    const int8x16_t low = vreinterpretq_s8_s32(vzip1q_s32(first, second));
    const int8x16_t high = vreinterpretq_s8_s32(vzip2q_s32(first, second));
#pragma GCC unroll 3
    for (int p = 0; p < pairs; ++p) {
      t.c[p][2 * v] = vusmmlaq_s32(t.c[p][2 * v], a[p], low);
      t.c[p][2 * v + 1] = vusmmlaq_s32(t.c[p][2 * v + 1], a[p], high);
    }
  }
}

// 8 bytes of two rows; of one row where the second is not there, whose results nobody stores.
inline uint8x16_t two_rows(const uint8_t* first, const uint8_t* second) {
  return vcombine_u8(vld1_u8(first), vld1_u8(second));
}
inline uint8x16_t two_half_rows(const uint8_t* first, const uint8_t* second) {
  uint64_t x[2] = {0, 0};
  __builtin_memcpy(&x[0], first, 4);
  __builtin_memcpy(&x[1], second, 4);
  return vreinterpretq_u8_u64(vld1q_u64(x));
}

template <int rows, class Epilogue>
inline void tile(const GemmArgs& g, const I32& init, const int8_t* b, int m, int n,
                 const Epilogue& epilogue) {
  constexpr int pairs = (rows + 1) / 2;
  const uint8_t* a = g.a + m * g.lda;
  const auto row = [&](int r) { return a + (r < rows ? r : rows - 1) * g.lda; };
  Tile<pairs> t;
  uint8x16_t x[pairs];
#pragma GCC unroll 3
  for (int p = 0; p < pairs; ++p)
#pragma GCC unroll 4
    for (int v = 0; v < 4; ++v) {
      const int64x2_t start = vreinterpretq_s64_s32(init.v[v]);
      t.c[p][2 * v] = vreinterpretq_s32_s64(vdupq_laneq_s64(start, 0));
      t.c[p][2 * v + 1] = vreinterpretq_s32_s64(vdupq_laneq_s64(start, 1));
    }
  int k = 0;
  for (; k + 8 <= g.k; k += 8, b += 128) {
#pragma GCC unroll 3
    for (int p = 0; p < pairs; ++p) x[p] = two_rows(row(2 * p) + k, row(2 * p + 1) + k);
    step<pairs>(t, x, b, b + 64);
  }
  if (k < g.k) {
#pragma GCC unroll 3
    for (int p = 0; p < pairs; ++p) x[p] = two_half_rows(row(2 * p) + k, row(2 * p + 1) + k);
    step<pairs>(t, x, b, nullptr);
  }
#pragma GCC unroll 3
  for (int p = 0; p < pairs; ++p) {
    I32 first, second;
#pragma GCC unroll 4
    for (int v = 0; v < 4; ++v) {
      const int64x2_t low = vreinterpretq_s64_s32(t.c[p][2 * v]);
      const int64x2_t high = vreinterpretq_s64_s32(t.c[p][2 * v + 1]);
      first.v[v] = vreinterpretq_s32_s64(vzip1q_s64(low, high));
      second.v[v] = vreinterpretq_s32_s64(vzip2q_s64(low, high));
    }
    epilogue.row({first}, m + 2 * p, n);
    if (2 * p + 1 < rows) epilogue.row({second}, m + 2 * p + 1, n);
  }
}

template <class Epilogue>
void gemm(const GemmArgs& g, const Epilogue& epilogue) noexcept {
  for (int n = 0; n < g.n; n += 16) {
    const int8_t* b = g.b + (n / 16) * g.ldb;
    const I32 init = i_load(g.init + n);
    int m = 0;
    for (; m + 6 <= g.m; m += 6) tile<6>(g, init, b, m, n, epilogue);
    switch (g.m - m) {
    case 1: tile<1>(g, init, b, m, n, epilogue); break;
    case 2: tile<2>(g, init, b, m, n, epilogue); break;
    case 3: tile<3>(g, init, b, m, n, epilogue); break;
    case 4: tile<4>(g, init, b, m, n, epilogue); break;
    case 5: tile<5>(g, init, b, m, n, epilogue); break;
    default: break;
    }
  }
}

} // namespace

double peak_loop(int64_t iterations) noexcept {
  int32x4_t c[16];
  for (auto& x : c) x = vdupq_n_s32(0);
  uint8x16_t a = vdupq_n_u8(3);
  const int8x16_t b = vdupq_n_s8(3);
  for (int64_t i = 0; i < iterations; ++i) {
    asm volatile("" : "+w"(a));
#pragma GCC unroll 16
    for (auto& x : c) x = vusmmlaq_s32(x, a, b);
  }
  for (auto& x : c) asm volatile("" ::"w"(x));
  return static_cast<double>(iterations) * 16 * 64; // 32 multiply-adds each
}

} // namespace bert_rt::BERT_RT_ISA_NAMESPACE

#include "isa/gemm_impl.h"
