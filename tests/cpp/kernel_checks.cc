#include "kernel_checks.h"

#include "arena.h"
#include "ops/pack.h"
#include "ops/split.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <tuple>

namespace bert_rt {
namespace {

using Floats = std::vector<float>;

size_t product(int a, int b) { return static_cast<size_t>(a) * static_cast<size_t>(b); }

std::string shape(const char* name, int m, int n, int k) {
  return std::string(name) + " of " + std::to_string(m) + " x " + std::to_string(n) + " x " +
         std::to_string(k);
}

Floats normals(Random& random, size_t count, float scale) {
  std::normal_distribution<float> normal(0.0f, scale);
  Floats x(count);
  for (float& value : x) value = normal(random);
  return x;
}

// Exactly sized vectors: a byte too far is an error under AddressSanitizer.
void check_gemm(Random& random, const Kernels& kernels, const Kernels& scalar, int m, int n, int k,
                bool is_extreme) {
  const auto kp = static_cast<size_t>(padded_k(k)), rows = static_cast<size_t>(m),
             columns = static_cast<size_t>(n);
  std::vector<uint8_t> a(rows * kp);
  std::vector<int8_t> w(product(k, n)), packed(columns * kp);
  std::vector<int32_t> init(columns);
  for (auto& x : a) x = is_extreme ? uint8_t{255} : static_cast<uint8_t>(random());
  // Of weights up to 32 hardly any four overflows 16 bits, from 90 on most do.
  const int largest = between(random, 1, 4) * 32;
  for (auto& x : w)
    x = static_cast<int8_t>(is_extreme ? -128 : between(random, -largest, std::min(largest, 127)));
  IndexMap row_map(static_cast<size_t>(k)), column_map(columns);
  std::iota(row_map.begin(), row_map.end(), 0);
  std::iota(column_map.begin(), column_map.end(), 0);
  pack_s8(w.data(), n, row_map, column_map, packed.data(), init.data());
  const Floats scale(columns, 1e-4f), bias = normals(random, columns, 1.0f);
  const Floats mult(columns, 20.0f);
  const GemmArgs args{a.data(),
                      static_cast<ptrdiff_t>(kp),
                      packed.data(),
                      static_cast<ptrdiff_t>(kp) * 16,
                      init.data(),
                      m,
                      n,
                      k};
  std::vector<int8_t> capped = packed;
  const SplitRest rest = split_s8(capped.data(), n, k);
  GemmArgs split = args;
  split.b = capped.data();
  split.rest = rest.view();
  const auto run = [&](const Kernels& table) {
    std::vector<int32_t> s32(rows * columns);
    Floats panels(rows * columns), sums(rows * columns, 0.5f);
    std::vector<uint8_t> codes(rows * columns);
    const Dequantize dequantize{scale.data(), bias.data()};
    table.gemm_s32(args, s32.data(), n);
    table.gemm_dequantize_panels(args, dequantize, panels.data(), ptrdiff_t{m} * 16);
    table.gemm_dequantize_residual(args, dequantize, sums.data(), sums.data(), n);
    table.gemm_dequantize_gelu_quantize(args, dequantize, {mult.data(), 5.0f}, codes.data(), n);
    if (table.sums_in_16_bits) {
      std::vector<int32_t> again(rows * columns);
      table.gemm_s32(split, again.data(), n);
      expect(same(again, s32), shape("gemm_s32 of weights in two parts", m, n, k));
      table.gemm_dequantize_panels(split, dequantize, panels.data(), ptrdiff_t{m} * 16);
      table.gemm_dequantize_gelu_quantize(split, dequantize, {mult.data(), 5.0f}, codes.data(), n);
      const int first = n / 32 * 16; // some of the columns only, as the last layer takes them
      std::fill(again.begin(), again.end(), 0);
      table.gemm_s32(columns_of(split, 0, first), again.data(), n);
      table.gemm_s32(columns_of(split, first, n - first), again.data() + first, n);
      expect(same(again, s32), shape("gemm_s32 of some columns in two parts", m, n, k));
    }
    return std::tuple(s32, panels, sums, codes);
  };
  const auto got = run(kernels), want = run(scalar);
  expect(same(std::get<0>(got), std::get<0>(want)), shape("gemm_s32", m, n, k));
  expect(same(std::get<1>(got), std::get<1>(want)), shape("gemm_dequantize_panels", m, n, k));
  expect(same(std::get<2>(got), std::get<2>(want)), shape("gemm_dequantize_residual", m, n, k));
  expect(same(std::get<3>(got), std::get<3>(want)),
         shape("gemm_dequantize_gelu_quantize", m, n, k));
}

void check_gemm_f32(Random& random, const Kernels& kernels, const Kernels& scalar, int m, int n,
                    int k) {
  const Floats a = normals(random, product(m, k), 1.0f), b = normals(random, product(n, k), 1.0f);
  const Floats bias = normals(random, static_cast<size_t>(n), 1.0f);
  const Floats start = normals(random, product(m, n), 1.0f);
  const auto run = [&](const Kernels& table) {
    Floats c(product(m, n)), sums = start;
    table.gemm_f32({a.data(), k, b.data(), bias.data(), 0, c.data(), n, m, n, k});
    table.gemm_f32({a.data(), k, b.data(), sums.data(), n, sums.data(), n, m, n, k});
    return std::tuple(c, sums);
  };
  const auto got = run(kernels), want = run(scalar);
  expect(same(std::get<0>(got), std::get<0>(want)), shape("gemm_f32", m, n, k));
  expect(same(std::get<1>(got), std::get<1>(want)), shape("gemm_f32, row by row", m, n, k));
}

void check_attention(Random& random, const Kernels& kernels, const Kernels& scalar, int m, int s,
                     int h) {
  const size_t count = product(s, h);
  const Floats q = normals(random, count, 1.0f), k = normals(random, count, 2.0f),
               v = normals(random, count, 1.0f), mult(static_cast<size_t>(h), 60.0f);
  const auto run = [&](const Kernels& table) {
    Floats out(product(m, h));
    std::vector<uint8_t> codes(out.size());
    Buffer<uint8_t> scratch(attention_scratch_bytes(s, h));
    AttentionArgs args{};
    args.q = q.data();
    args.k = k.data();
    args.v = v.data();
    args.ld_panel = ptrdiff_t{s} * 16;
    args.m = m;
    args.s = s;
    args.h = h;
    args.scale = 0.2f;
    args.out_f32 = out.data();
    args.ldo = h;
    args.scratch = scratch.data();
    table.attention_head(table, args);
    args.quantize = {mult.data(), 128.0f};
    args.out_u8 = codes.data();
    table.attention_head(table, args);
    return std::tuple(out, codes);
  };
  const auto got = run(kernels), want = run(scalar);
  expect(same(std::get<0>(got), std::get<0>(want)), shape("attention_head", m, s, h));
  expect(same(std::get<1>(got), std::get<1>(want)), shape("attention_head, quantized", m, s, h));
}

void check_softmax(Random& random, const Kernels& kernels, const Kernels& scalar, int m, int s) {
  const int ld = round_up(s, 64);
  std::vector<int32_t> scores(product(m, ld), -(1 << 30));
  Floats scale(static_cast<size_t>(m));
  for (int r = 0; r < m; ++r) {
    scale[static_cast<size_t>(r)] = 0.001f * static_cast<float>(between(random, 1, 2000));
    for (int c = 0; c < s; ++c)
      scores[product(r, ld) + static_cast<size_t>(c)] =
          between(random, -200000, 200000) >> between(random, 0, 12);
  }
  const auto run = [&](const Kernels& table) {
    std::vector<uint8_t> planes(2 * scores.size());
    std::vector<int32_t> sum(static_cast<size_t>(m)), low_row(static_cast<size_t>(m));
    const int num_low =
        table.softmax_rows({scores.data(), ld, scale.data(), planes.data(),
                            planes.data() + scores.size(), ld, sum.data(), low_row.data(), m, s});
    // What stands beyond s rounded up to 32 is nobody's, and so is a low plane that was not kept.
    std::vector<uint8_t> read;
    for (int r = 0; r < m + num_low; ++r) {
      const size_t row = r < m ? product(r, ld) : scores.size() + product(r - m, ld);
      for (int c = 0; c < round_up(s, 32); ++c)
        read.push_back(planes[row + static_cast<size_t>(c)]);
    }
    return std::tuple(num_low, read, sum, low_row);
  };
  expect(run(kernels) == run(scalar), shape("softmax_rows", m, s, 1));
}

// LayerNorm, embeddings, quantization and GELU of m rows of d.
void check_rows(Random& random, const Kernels& kernels, const Kernels& scalar, int m, int d) {
  const auto width = static_cast<size_t>(d);
  const Floats gamma = normals(random, width, 1.0f), beta = normals(random, width, 1.0f);
  const Floats mult(width, 30.0f);
  Floats x = normals(random, product(m, d), 3.0f);
  x[0] = 1e30f;
  x[1] = -1e30f;
  std::vector<int8_t> word(width);
  for (auto& value : word) value = static_cast<int8_t>(random());
  Floats special = x;
  special[2] = INFINITY;
  special[3] = -INFINITY;
  special[4] = NAN;
  const auto run = [&](const Kernels& table) {
    Floats plain = x, quantized = x, gelu = x, embedded(2 * width);
    std::vector<uint8_t> codes(x.size()), direct(x.size());
    LayerNormArgs args{plain.data(), d,    gamma.data(), beta.data(), 1e-12f, m, d,
                       nullptr,      0.0f, nullptr,      ptrdiff_t{0}};
    table.layer_norm_rows(args);
    args.x = quantized.data();
    args.mult = mult.data();
    args.zero_point = 100.0f;
    args.out = codes.data();
    args.ldo = d;
    table.layer_norm_rows(args);
    table.quantize_rows(special.data(), d, m, d, {mult.data(), 17.0f}, direct.data(), d);
    table.gelu_rows(gelu.data(), d, m, d);
    table.embed_row({word.data(), nullptr, 0.01f, gamma.data(), beta.data(), embedded.data(), d});
    table.embed_row({nullptr, x.data(), 1.0f, gamma.data(), beta.data(), embedded.data() + d, d});
    return std::tuple(plain, quantized, gelu, embedded, codes, direct);
  };
  const auto got = run(kernels), want = run(scalar);
  expect(same(std::get<0>(got), std::get<0>(want)), shape("layer_norm_rows", m, d, 1));
  expect(same(std::get<1>(got), std::get<1>(want)), shape("layer_norm_rows", m, d, 1));
  expect(same(std::get<2>(got), std::get<2>(want)), shape("gelu_rows", m, d, 1));
  expect(same(std::get<3>(got), std::get<3>(want)), shape("embed_row", 1, d, 1));
  expect(same(std::get<4>(got), std::get<4>(want)), shape("layer_norm_rows, quantized", m, d, 1));
  expect(same(std::get<5>(got), std::get<5>(want)), shape("quantize_rows", m, d, 1));
}

} // namespace

void check_kernels(Random& random, const Kernels& kernels, const Kernels& scalar, int rounds) {
  for (const int m : {1, 2, 3, 4, 5, 6, 7, 13, 15, 16, 17, 31, 32, 33, 47, 64, 97})
    check_gemm(random, kernels, scalar, m, 64, 64, false);
  constexpr int kShapes[][3] = {{7, 16, 4},      {7, 32, 12},   {33, 48, 32},  {40, 80, 60},
                                {40, 112, 128},  {19, 16, 192}, {49, 96, 320}, {33, 1152, 384},
                                {33, 384, 1536}, {5, 3072, 768}};
  for (const auto& s : kShapes) check_gemm(random, kernels, scalar, s[0], s[1], s[2], false);
  for (const int k : {4, 32, 64, 128, 3072}) check_gemm(random, kernels, scalar, 35, 64, k, true);
  for (const int m : {1, 5, 6, 7, 13}) check_gemm_f32(random, kernels, scalar, m, 48, 37);
  constexpr int kHeads[][3] = {{1, 1, 16},   {7, 7, 32},     {33, 33, 32},
                               {64, 64, 64}, {100, 100, 64}, {1, 384, 32}};
  for (const auto& h : kHeads) check_attention(random, kernels, scalar, h[0], h[1], h[2]);
  for (const int s : {1, 15, 16, 17, 31, 32, 33, 63, 64, 65, 100, 384})
    check_softmax(random, kernels, scalar, 1 + s % kAttentionRows, s);
  for (const int d : {16, 32, 48, 96, 112, 384, 768}) check_rows(random, kernels, scalar, 5, d);
  for (int i = 0; i < rounds; ++i) {
    for (int j = 0; j < 4; ++j) {
      const int k = random() % 2 == 0 ? 4 * between(random, 1, 16) : 64 * between(random, 1, 6);
      check_gemm(random, kernels, scalar, between(random, 1, 70), 16 * between(random, 1, 9), k,
                 false);
    }
    const int s = between(random, 1, 150);
    check_attention(random, kernels, scalar, between(random, 1, s), s, 16 * between(random, 1, 6));
    check_softmax(random, kernels, scalar, between(random, 1, kAttentionRows), s);
    check_rows(random, kernels, scalar, between(random, 1, 9), 16 * between(random, 1, 20));
  }
}

} // namespace bert_rt
