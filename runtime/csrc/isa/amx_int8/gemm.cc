// Tiles: blocks of 32 x 32 as 2 x 2 tiles of 16 x 16, 64 deep. The epilogue of a block is woven
// into the tile multiplications of the next one, so that the matrix and the vector units work
// together.
#include "isa/vec_avx512.h"
// The lanes come first.
#include "isa/ahead.h"
#include "isa/epilogues.h"

namespace bert_rt::BERT_RT_ISA_NAMESPACE {
namespace {

struct TileConfig {
  uint8_t palette = 1;
  uint8_t start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t bytes[16] = {};
  uint8_t rows[16] = {};
};
static_assert(sizeof(TileConfig) == 64);

// Tiles 0 1 / 2 3 accumulate, 4 and 5 hold rows of A, 6 and 7 panels of B. depth: bytes of a step.
inline void configure(int rows_low, int rows_high, int depth) {
  alignas(64) TileConfig c;
  const auto set = [&c](int t, int rows, int bytes) {
    c.rows[t] = static_cast<uint8_t>(rows);
    c.bytes[t] = static_cast<uint16_t>(bytes);
  };
  set(0, rows_low, 64);
  set(1, rows_low, 64);
  set(2, rows_high, 64);
  set(3, rows_high, 64);
  set(4, rows_low, depth);
  set(5, rows_high, depth);
  set(6, depth / 4, 64);
  set(7, depth / 4, 64);
  // The intrinsic of g++ 12 tells the compiler of the first eight bytes only.
  asm volatile("ldtilecfg %0" ::"m"(c));
}

// A finished block of accumulators whose epilogue is still due, row by row. What the accumulators
// start from is added here.
template <class Epilogue>
struct Pending {
  const Epilogue& epilogue;
  const int32_t* init;
  const int32_t* acc = nullptr; // tiles of [16][16]: left of both halves, then right
  int m = 0, n = 0, row = 0, rows = 0, nv = 2;

  inline I32 sum(int v) const {
    return i_add(i_load(acc + row * 16 + 512 * v), i_load(init + n + 16 * v));
  }
  inline void advance(int count) {
    const int end = row + count < rows ? row + count : rows;
    if (nv == 2)
      for (; row < end; ++row) epilogue.row({sum(0), sum(1)}, m + row, n);
    else
      for (; row < end; ++row) epilogue.row({sum(0)}, m + row, n);
  }
};

// One block: halves 1 or 2 tiles of rows, nv 1 or 2 panels of columns. Between the multiplications
// come rows of the last block's epilogue, a few at a time: a longer run of vector code would fill
// the window in which the processor looks for the next tile instruction.
template <int halves, int nv, class Epilogue>
inline void block(const GemmArgs& g, const uint8_t* a, int half_rows, const int8_t* b, int depth,
                  int steps, int32_t* acc, Pending<Epilogue>& pending, Ahead& ahead) {
  const uint8_t* a1 = a + half_rows * g.lda;
  const int8_t* b1 = b + g.ldb;
  // From zero: loading the start of a tile takes as long as a multiplication.
  _tile_zero(0);
  if constexpr (nv == 2) _tile_zero(1);
  if constexpr (halves == 2) _tile_zero(2);
  if constexpr (halves == 2 && nv == 2) _tile_zero(3);
  const int share = (pending.rows - pending.row + steps - 1) / steps;
  for (int s = 0; s < steps; ++s) {
    _tile_loadd(6, b + ptrdiff_t{s} * 1024, 64);
    if constexpr (nv == 2) _tile_loadd(7, b1 + ptrdiff_t{s} * 1024, 64);
    _tile_loadd(4, a + ptrdiff_t{s} * depth, g.lda);
    _tile_dpbusd(0, 4, 6);
    pending.advance(share - share * 3 / 4);
    if constexpr (nv == 2) _tile_dpbusd(1, 4, 7);
    pending.advance(share * 3 / 4 - share / 2);
    if constexpr (halves == 2) _tile_loadd(5, a1 + ptrdiff_t{s} * depth, g.lda);
    if constexpr (halves == 2) _tile_dpbusd(2, 5, 6);
    pending.advance(share / 2 - share / 4);
    if constexpr (halves == 2 && nv == 2) _tile_dpbusd(3, 5, 7);
    ahead.advance();
    pending.advance(share / 4);
  }
  _tile_stored(0, acc, 64);
  if constexpr (nv == 2) _tile_stored(1, acc + 512, 64);
  if constexpr (halves == 2) _tile_stored(2, acc + half_rows * 16, 64);
  if constexpr (halves == 2 && nv == 2) _tile_stored(3, acc + 512 + half_rows * 16, 64);
}

template <class Epilogue>
void gemm(const GemmArgs& g, const Epilogue& epilogue) noexcept {
  if (g.m <= 0) return;
  alignas(64) int32_t acc[2][32 * 32];
  const int depth = g.k < 64 ? g.k : 64;
  const int steps = (g.k + 63) / 64;
  // All tiles keep their 16 rows: a last block of fewer begins earlier and computes some rows
  // again, and its epilogue skips them. Only with fewer rows in all are the tiles shortened.
  const int low = g.m < 16 ? g.m : 16;
  const int high = g.m < 32 ? (g.m > 16 ? g.m - 16 : 1) : 16;
  configure(low, high, depth);
  Pending<Epilogue> pending{epilogue, g.init};
  int current = 0;
  const int panel_steps = steps * ((g.m + 31) / 32);
  for (int n = 0; n < g.n; n += 32) {
    const int8_t* b = g.b + (n / 16) * g.ldb;
    const int nv = g.n - n >= 32 ? 2 : 1;
    Ahead ahead(g, n, 16 * nv, panel_steps);
    for (int m = 0; m < g.m; m += 32) {
      const int rows = g.m - m < 32 ? g.m - m : 32;
      const int halves = rows > 16 ? 2 : 1;
      const int first = g.m >= 32 && rows < 32 ? g.m - 16 * halves : m;
      const uint8_t* a = g.a + first * g.lda;
      int32_t* to = acc[current];
      if (halves == 2 && nv == 2)
        block<2, 2>(g, a, 16, b, depth, steps, to, pending, ahead);
      else if (halves == 2)
        block<2, 1>(g, a, 16, b, depth, steps, to, pending, ahead);
      else if (nv == 2)
        block<1, 2>(g, a, 16, b, depth, steps, to, pending, ahead);
      else
        block<1, 1>(g, a, 16, b, depth, steps, to, pending, ahead);
      pending.advance(32);
      pending.acc = to;
      pending.m = first;
      pending.n = n;
      pending.row = m - first;
      pending.rows = m - first + rows;
      pending.nv = nv;
      current ^= 1;
    }
  }
  pending.advance(32);
  _tile_release();
}

} // namespace

double peak_loop(int64_t iterations) noexcept {
  alignas(64) static const uint8_t zeros[1024] = {};
  configure(16, 16, 64);
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  _tile_loadd(4, zeros, 64);
  _tile_loadd(5, zeros, 64);
  _tile_loadd(6, zeros, 64);
  _tile_loadd(7, zeros, 64);
  for (int64_t i = 0; i < iterations; ++i) {
    _tile_dpbusd(0, 4, 6);
    _tile_dpbusd(1, 4, 7);
    _tile_dpbusd(2, 5, 6);
    _tile_dpbusd(3, 5, 7);
  }
  _tile_release();
  return static_cast<double>(iterations) * 4 * 16 * 16 * 64 * 2;
}

} // namespace bert_rt::BERT_RT_ISA_NAMESPACE

#include "isa/gemm_impl.h"
