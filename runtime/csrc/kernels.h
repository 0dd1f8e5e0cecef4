// The one kernel interface. Every instruction set fills one constant table of this type; nothing
// outside isa/ knows which one is in use.
//
// Legend of shapes: M rows (tokens), N output columns, K reduction, S tokens of a sequence, H head
// dim.
//
// Arithmetic contract, the same on every instruction set, so that results are equal bit for bit:
// - u8 x s8 products are accumulated exactly in int32.
// - Floats are computed in 16 lanes with explicit fused multiply-adds, in one fixed order: column c
//   belongs to lane c mod 16, lanes are summed as a tree (i with i + 8, + 4, + 2, + 1).
// - Rounding is to nearest even; requantization saturates to the type's range.
// - Kernels are single-threaded and noexcept, allocate nothing and only assert.
//
// Packed layout of B (weights, keys, values), the same for every instruction set: panels of 16
// columns, [N / 16][K / 4][16][4] of int8. Columns beyond N and rows beyond K are zero. K is padded
// to a multiple of 4 up to 64, to a multiple of 64 beyond (padded_k). A row of A must be readable
// up to padded_k(K) bytes; what stands there beyond K is multiplied by zero.
//
// An instruction set that adds products in 16 bits (sums_in_16_bits) wants weights in two parts:
// B capped so that no such sum overflows, in the same layout, and what was taken away (Rest).
// ops/split makes them when a model is loaded. B without a Rest is whole, and just as exact.
#pragma once

#include <cstddef>
#include <cstdint>

namespace bert_rt {

enum class Isa : int {
  kScalar = 0,
  kAvx2 = 1,
  kAvx512Vnni = 2,
  kAmxInt8 = 3,
  kAvxVnni = 4,
  kAvx512Bw = 5,
  kNeonDotprod = 16,
  kNeonI8mm = 17,
};

inline constexpr int kPanel = 16;           // columns of a panel = float lanes
inline constexpr int kMaxHeadDim = 256;     // widest attention head
inline constexpr int kMaxPositions = 4096;  // longest sequence: sums of weights stay in range
inline constexpr int kAttentionRows = 32;   // query rows computed at a time
inline constexpr int kMaxSplitDepth = 4096; // deepest matrix whose weights are split
inline constexpr int kLowBits = 6;          // of an attention weight's 14, in its low plane
inline constexpr int kLowOffset = 1 << (kLowBits - 1);
inline constexpr int kLowPlaneShare = 32; // see SoftmaxArgs
inline constexpr int kScoreBlock = 64;    // columns of a vocabulary that are skipped together

// Register tile of the GEMM: rows, columns, depth of one step.
struct GemmTile {
  int mr;
  int nr;
  int kr;
};

// Up to four rows of K of one column, and what is added to B there. Both pairs of weights keep the
// bound that ops/split.h states for four.
struct RestFour {
  uint16_t k[4];
  int8_t w[4];
};
struct Rest {
  const uint32_t* first = nullptr; // [N / 16 + 1] fours before each panel; null: B is whole
  const uint16_t* count = nullptr; // [N] fours of each column
  const RestFour* fours = nullptr;
};

// A (u8, row-major) times packed B (s8) plus init, exact in int32.
struct GemmArgs {
  const uint8_t* a;    // [M][lda]
  ptrdiff_t lda;       // bytes from row to row
  const int8_t* b;     // packed, first panel
  ptrdiff_t ldb;       // bytes from panel to panel
  const int32_t* init; // [N rounded up to 16], what the accumulators start from
  int m;               // 0, a thread of a team with nothing to do: nothing is written
  int n;               // multiple of 16
  int k;               // multiple of 4
  Rest rest = {};      // of weights in two parts: added to B
};

// The same product for some columns of B only; first and n are multiples of 16.
inline GemmArgs columns_of(GemmArgs g, int first, int n) {
  g.b += first / kPanel * g.ldb;
  g.init += first;
  g.n = n;
  if (g.rest.first != nullptr) {
    g.rest.first += first / kPanel;
    g.rest.count += first;
  }
  return g;
}

// acc -> acc * scale[n] + bias[n].
struct Dequantize {
  const float* scale; // [N]
  const float* bias;  // [N]
};

// y -> saturate(round(y * mult[n] + zero_point)); mult holds smoothing / scale.
struct Quantize {
  const float* mult; // [N]
  float zero_point;  // an integer in [0, 255]
};

// C = A B + bias in float, each element one chain of fused multiply-adds over k. With ld_bias 0
// every row starts from the same bias, else from its own row (which may be C's).
struct GemmF32Args {
  const float* a; // [M][lda]
  ptrdiff_t lda;
  const float* b;    // [N / 16][K][16]
  const float* bias; // [N], or [M][ld_bias]
  ptrdiff_t ld_bias;
  float* c; // [M][ldc]
  ptrdiff_t ldc;
  int m;
  int n; // multiple of 16
  int k;
};

// word[id] * scale[id] + (type + position) for one token.
struct EmbedArgs {
  const int8_t* word_s8; // row of the table, or null
  const float* word_f32; // row of the table, or null
  float word_scale;      // of the row, with word_s8
  const float* type;     // [D]
  const float* position; // [D]
  float* out;            // [D]
  int d;                 // multiple of 16
};

struct LayerNormArgs {
  float* x; // [M][ld], normalised in place
  ptrdiff_t ld;
  const float* gamma; // [D]
  const float* beta;  // [D]
  float eps;
  int m;
  int d;             // multiple of 16
  const float* mult; // [D] of Quantize, or null: no quantized output
  float zero_point;
  uint8_t* out; // [M][ldo]
  ptrdiff_t ldo;
};

// One head of one sequence, quantized inside: queries s8 per token, keys s8 per head, values s8 per
// channel, weights of 8 or 14 bits; the scales depend on this sequence only.
struct AttentionArgs {
  const float* q; // panels [H / 16][ld_panel] of [M][16]
  const float* k; // likewise of [S][16]
  const float* v;
  ptrdiff_t ld_panel; // floats from panel to panel
  int m;              // queries, 1 to S: any of the sequence's tokens
  int s;              // keys and values
  int h;              // multiple of 16, at most kMaxHeadDim
  float scale;
  Quantize quantize; // mult null: float output
  uint8_t* out_u8;   // [M][ldo], first column of this head
  float* out_f32;    // likewise
  ptrdiff_t ldo;
  uint8_t* scratch; // attention_scratch_bytes(S, H) bytes, 64-byte aligned
};

// Keys and values of one head of one sequence, quantized and packed; carved by packed_head.
struct PackedHead {
  uint8_t* k;      // packed s8, N = tokens, K = channels
  int8_t* v;       // packed, N = channels, K = tokens
  int32_t* k_init; // [S rounded up to 16], -128 * sum of the key's channels
  float* k_scale;  // [1]
  float* v_scale;  // [H]
  float* v_offset; // [H], -kLowOffset * sum of the values' bytes
};

// The first half of attention_head, for keys and values that are read more than once.
struct PackHeadArgs {
  const float* k; // panels [H / 16][ld_panel] of [S][16]
  const float* v;
  ptrdiff_t ld_panel;
  int s;
  int h;
  PackedHead to;
};

// The second half: any number of queries of one head.
struct AttendArgs {
  const float* q; // panels [H / 16][ld_panel] of [M][16]
  ptrdiff_t ld_panel;
  int m;
  int s;
  int h;
  float scale;
  PackedHead from;
  Quantize quantize; // mult null: float output
  uint8_t* out_u8;   // [M][ldo], first column of this head
  float* out_f32;
  ptrdiff_t ldo;
  uint8_t* scratch; // attend_scratch_bytes(S, H) bytes, 64-byte aligned
};

// Where in a cell, the memory of one token of a decoder, one layer's keys and values stand: bytes
// from its beginning.
struct CellLayout {
  ptrdiff_t k;       // s8 [N][H]
  ptrdiff_t v;       // likewise
  ptrdiff_t k_scale; // float [N]
  ptrdiff_t v_scale;
};

// Quantizes keys and values of one token, every head with scales of its own.
struct StoreCellArgs {
  const float* k; // [N][H]
  const float* v;
  int num_heads;
  int h; // multiple of 16
  CellLayout layout;
  uint8_t* cell;
};

// All heads of one token over itself and the tokens before it, whose cells stand anywhere. Queries
// and scores are floats, weights have 8 or 14 bits.
struct CachedAttentionArgs {
  const float* q;              // [N][H]
  const uint8_t* const* cells; // [S], the first token's first
  int s;                       // at most kMaxPositions
  int num_heads;
  int h; // multiple of 16, at most kMaxHeadDim
  float scale;
  CellLayout layout;
  Quantize quantize; // mult null: float output
  uint8_t* out_u8;   // [N][H]
  float* out_f32;    // likewise
  uint8_t* scratch;  // cached_attention_scratch_bytes(S) bytes, 64-byte aligned
};

// Scores of one row over a vocabulary: their maximum, and the sum of exp(x - maximum).
struct ScoreSumArgs {
  const float* x;
  int n;          // multiple of 16
  float* largest; // [N / kScoreBlock, rounded up] of every block
};
struct ScoreSum {
  float largest;
  float sum;
};

// One block of attention weights: scores -> weights of 14 bits in two byte planes,
// weight = high * 2^kLowBits + low - kLowOffset, so that the high plane alone is the weight
// rounded. A row goes without the low plane where rounding moves (sum of absolute differences) at
// most 1 / kLowPlaneShare of its weights: sums alone would let many that vanish hide behind many
// that are rounded up.
struct SoftmaxArgs {
  const int32_t* scores; // [M][ld_scores]
  ptrdiff_t ld_scores;
  const float* scale; // [M], score units per integer step, times 2048 * log2(e)
  uint8_t* high;      // [M][ldp]
  uint8_t* low;       // [up to M][ldp], of the rows that keep it, without gaps
  ptrdiff_t ldp;
  int32_t* sum;     // [M], sum of the weights as kept
  int32_t* low_row; // [M], row of `low`, or -1 for none
  int m;            // at most kAttentionRows
  // Rows hold s scores and smaller ones up to a multiple of 32, and are readable up to one of 64.
  // Planes are zero beyond s up to a multiple of 32, and written up to one of 64 at most.
  int s;
};

struct Kernels {
  Isa isa;
  const char* name;
  GemmTile tile;
  bool sums_in_16_bits; // weights in two parts are quicker
  // c = A B + init.
  void (*gemm_s32)(const GemmArgs&, int32_t* c, ptrdiff_t ldc) noexcept;
  // Panels of 16 columns: out[(n / 16) * ld_panel + m * 16 + n % 16].
  void (*gemm_dequantize_panels)(const GemmArgs&, const Dequantize&, float* out,
                                 ptrdiff_t ld_panel) noexcept;
  // out = dequantized + residual; residual may be null, may be out.
  void (*gemm_dequantize_residual)(const GemmArgs&, const Dequantize&, const float* residual,
                                   float* out, ptrdiff_t ld) noexcept;
  void (*gemm_dequantize_gelu_quantize)(const GemmArgs&, const Dequantize&, const Quantize&,
                                        uint8_t* out, ptrdiff_t ldo) noexcept;
  void (*gemm_f32)(const GemmF32Args&) noexcept;
  void (*embed_row)(const EmbedArgs&) noexcept;
  void (*layer_norm_rows)(const LayerNormArgs&) noexcept;
  void (*quantize_rows)(const float* x, ptrdiff_t ld, int m, int n, const Quantize&, uint8_t* out,
                        ptrdiff_t ldo) noexcept;
  void (*gelu_rows)(float* x, ptrdiff_t ld, int m, int n) noexcept;
  int (*softmax_rows)(const SoftmaxArgs&) noexcept; // returns the rows of `low`
  void (*attention_head)(const Kernels&, const AttentionArgs&) noexcept;
  void (*pack_head)(const Kernels&, const PackHeadArgs&) noexcept;
  void (*attend)(const Kernels&, const AttendArgs&) noexcept;
  void (*store_cell)(const StoreCellArgs&) noexcept;
  void (*cached_attention)(const CachedAttentionArgs&) noexcept;
  ScoreSum (*sum_scores)(const ScoreSumArgs&) noexcept;
  // Runs the dot-product instruction alone; returns operations done (two per multiply-add).
  double (*peak_loop)(int64_t iterations) noexcept;
};

constexpr int round_up(int x, int to) { return (x + to - 1) / to * to; }
constexpr int padded_k(int k) { return k <= 64 ? round_up(k, 4) : round_up(k, 64); }

constexpr size_t packed_head_bytes(int s, int h) {
  const size_t sp = static_cast<size_t>(round_up(s, 64)), width = static_cast<size_t>(h);
  return sp * static_cast<size_t>(padded_k(h)) + sp * width + sp * 4 + 64 + width * 8;
}
inline PackedHead packed_head(uint8_t* block, int s, int h) {
  const ptrdiff_t sp = round_up(s, 64);
  PackedHead p;
  p.k = block;
  p.v = reinterpret_cast<int8_t*>(p.k + sp * padded_k(h));
  p.k_init = reinterpret_cast<int32_t*>(p.v + sp * h);
  p.k_scale = reinterpret_cast<float*>(p.k_init + sp);
  p.v_scale = p.k_scale + 16;
  p.v_offset = p.v_scale + h;
  return p;
}

constexpr size_t attend_scratch_bytes(int s, int h) {
  const size_t sp = static_cast<size_t>(round_up(s, 64)), rows = kAttentionRows;
  // queries and their scales, scores, weights, context sums, and slack
  return rows * static_cast<size_t>(padded_k(h)) + rows * 4 + rows * sp * 4 + 2 * rows * sp +
         2 * rows * static_cast<size_t>(h) * 4 + 512;
}
constexpr size_t attention_scratch_bytes(int s, int h) {
  return packed_head_bytes(s, h) + attend_scratch_bytes(s, h);
}

constexpr size_t cached_attention_scratch_bytes(int s) {
  const size_t sp = static_cast<size_t>(round_up(s, 64)), rows = kAttentionRows;
  return rows * sp * 4 + 2 * rows * sp + sp * 4; // scores, weights, weights of one head in float
}

// One table per folder; null where the compiler could not build it.
const Kernels* scalar_kernels() noexcept;
const Kernels* avx2_kernels() noexcept;
const Kernels* avx512bw_kernels() noexcept;
const Kernels* avxvnni_kernels() noexcept;
const Kernels* avx512vnni_kernels() noexcept;
const Kernels* amx_int8_kernels() noexcept;
const Kernels* neon_dotprod_kernels() noexcept;
const Kernels* neon_i8mm_kernels() noexcept;

} // namespace bert_rt
