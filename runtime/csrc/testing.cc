#include "testing.h"

#include "cpu/cpu_features.h"
#include "ops/pack.h"
#include "ops/split.h"

#include <ctime>
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>
#include <numeric>
#include <stdexcept>
#include <vector>

namespace nb = nanobind;
using namespace nb::literals;

namespace bert_rt {
namespace {

double thread_seconds() {
  timespec t{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

// Arrays come in by address and leading dimension: tests need odd offsets and guard bytes.
template <class T>
T* at(uintptr_t address) {
  return reinterpret_cast<T*>(address);
}

GemmArgs gemm_args(const nb::dict& d) {
  const auto address = [&d](const char* key) { return nb::cast<uintptr_t>(d[key]); };
  const Rest rest = d.contains("rest") ? nb::cast<const SplitRest&>(d["rest"]).view() : Rest{};
  return {at<const uint8_t>(address("a")),
          nb::cast<ptrdiff_t>(d["lda"]),
          at<const int8_t>(address("b")),
          nb::cast<ptrdiff_t>(d["ldb"]),
          at<const int32_t>(address("init")),
          nb::cast<int>(d["m"]),
          nb::cast<int>(d["n"]),
          nb::cast<int>(d["k"]),
          rest};
}

void pack(uintptr_t w, int k, int n, uintptr_t packed, uintptr_t sums) {
  IndexMap rows(static_cast<size_t>(k)), columns(static_cast<size_t>(round_up(n, kPanel)), -1);
  std::iota(rows.begin(), rows.end(), 0);
  std::iota(columns.begin(), columns.begin() + n, 0);
  pack_s8(at<const int8_t>(w), n, rows, columns, at<int8_t>(packed), at<int32_t>(sums));
}

// What a decoder does a token at a time.
void bind_decoding(nb::module_& m) {
  m.def("packed_head_bytes", &packed_head_bytes);
  m.def("attend_scratch_bytes", &attend_scratch_bytes);
  m.def("cached_attention_scratch_bytes", &cached_attention_scratch_bytes);
  m.attr("score_block") = kScoreBlock;
  m.def("pack_head", [](const std::string& isa, uintptr_t k, uintptr_t v, ptrdiff_t ld_panel, int s,
                        int h, uintptr_t block) {
    const Kernels& kernels = select_kernels(isa);
    kernels.pack_head(kernels, {at<float>(k), at<float>(v), ld_panel, s, h,
                                packed_head(at<uint8_t>(block), s, h)});
  });
  m.def("attend",
        [](const std::string& isa, uintptr_t q, ptrdiff_t ld_panel, int m, int s, int h,
           float scale, uintptr_t block, uintptr_t out, ptrdiff_t ldo, uintptr_t scratch) {
          const Kernels& kernels = select_kernels(isa);
          kernels.attend(kernels, {at<float>(q),
                                   ld_panel,
                                   m,
                                   s,
                                   h,
                                   scale,
                                   packed_head(at<uint8_t>(block), s, h),
                                   {},
                                   nullptr,
                                   at<float>(out),
                                   ldo,
                                   at<uint8_t>(scratch)});
        });
  m.def("store_cell", [](const std::string& isa, uintptr_t k, uintptr_t v, int num_heads, int h,
                         const std::vector<ptrdiff_t>& layout, uintptr_t cell) {
    select_kernels(isa).store_cell({at<float>(k),
                                    at<float>(v),
                                    num_heads,
                                    h,
                                    {layout.at(0), layout.at(1), layout.at(2), layout.at(3)},
                                    at<uint8_t>(cell)});
  });
  m.def("cached_attention",
        [](const std::string& isa, uintptr_t q, const std::vector<uintptr_t>& cells, int num_heads,
           int h, float scale, const std::vector<ptrdiff_t>& layout, uintptr_t mult,
           float zero_point, uintptr_t out_u8, uintptr_t out_f32, uintptr_t scratch, int repeat) {
          std::vector<const uint8_t*> places;
          for (const uintptr_t cell : cells) places.push_back(at<const uint8_t>(cell));
          const CachedAttentionArgs args{at<float>(q),
                                         places.data(),
                                         static_cast<int>(places.size()),
                                         num_heads,
                                         h,
                                         scale,
                                         {layout.at(0), layout.at(1), layout.at(2), layout.at(3)},
                                         {at<float>(mult), zero_point},
                                         at<uint8_t>(out_u8),
                                         at<float>(out_f32),
                                         at<uint8_t>(scratch)};
          for (int i = 0; i < repeat; ++i) select_kernels(isa).cached_attention(args);
        });
  m.def("sum_scores", [](const std::string& isa, uintptr_t x, int n, uintptr_t largest) {
    const ScoreSum sum = select_kernels(isa).sum_scores({at<float>(x), n, at<float>(largest)});
    return nb::make_tuple(sum.largest, sum.sum);
  });
}

} // namespace

double measure_peak(const std::string& isa, double seconds) {
  const Kernels& k = select_kernels(isa);
  int64_t iterations = 1000;
  while (true) {
    const double begin = thread_seconds();
    const double operations = k.peak_loop(iterations);
    const double took = thread_seconds() - begin;
    if (took >= seconds) return operations / took;
    iterations *= took * 4 < seconds ? 4 : 2;
  }
}

double measure_issue_width() {
#ifdef BERT_RT_X86
  constexpr int kRounds = 20000, kNops = 48;
  uint64_t x = 3;
  const double begin = thread_seconds();
  // The clock: a chain of multiplications of three cycles each (Intel, AMD since Zen), which a busy
  // neighbour hardly slows.
  for (int i = 0; i < kRounds; ++i)
    asm volatile("imul %0, %0\n\timul %0, %0\n\timul %0, %0\n\timul %0, %0" : "+r"(x));
  const double middle = thread_seconds();
  for (int i = 0; i < kRounds; ++i) asm volatile(".rept 48\n\tnop\n\t.endr");
  const double end = thread_seconds();
  const double cycles = 12.0 * (end - middle) / (middle - begin); // a round
  return (kNops + 2) / cycles;                                    // and the loop's own two
#else
  return 0.0;
#endif
}

void bind_testing(nb::module_ m) {
  m.def("tile", [](const std::string& isa) {
    const GemmTile t = select_kernels(isa).tile;
    return nb::make_tuple(t.mr, t.nr, t.kr);
  });
  m.def("sums_in_16_bits",
        [](const std::string& isa) { return select_kernels(isa).sums_in_16_bits; });
  nb::class_<SplitRest>(m, "SplitRest").def_prop_ro("num_fours", [](const SplitRest& rest) {
    return rest.fours.size();
  });
  m.def("split", [](uintptr_t b, int n, int k) { return split_s8(at<int8_t>(b), n, k); });
  m.attr("max_split_depth") = kMaxSplitDepth;
  m.def("padded_k", &padded_k);
  m.def("attention_scratch_bytes", &attention_scratch_bytes);
  m.def("thread_seconds", &thread_seconds);
  m.def("pack", &pack, "w"_a, "k"_a, "n"_a, "packed"_a, "sums"_a);
  m.def("gemm_s32",
        [](const std::string& isa, const nb::dict& g, uintptr_t c, ptrdiff_t ldc, int repeat) {
          const Kernels& k = select_kernels(isa);
          const GemmArgs args = gemm_args(g);
          for (int i = 0; i < repeat; ++i) k.gemm_s32(args, at<int32_t>(c), ldc);
        });
  m.def("gemm_dequantize_panels", [](const std::string& isa, const nb::dict& g, uintptr_t scale,
                                     uintptr_t bias, uintptr_t out, ptrdiff_t ld, int repeat) {
    const Kernels& k = select_kernels(isa);
    const GemmArgs args = gemm_args(g);
    for (int i = 0; i < repeat; ++i)
      k.gemm_dequantize_panels(args, {at<float>(scale), at<float>(bias)}, at<float>(out), ld);
  });
  m.def("gemm_dequantize_residual",
        [](const std::string& isa, const nb::dict& g, uintptr_t scale, uintptr_t bias,
           uintptr_t residual, uintptr_t out, ptrdiff_t ld, int repeat) {
          const Kernels& k = select_kernels(isa);
          const GemmArgs args = gemm_args(g);
          for (int i = 0; i < repeat; ++i)
            k.gemm_dequantize_residual(args, {at<float>(scale), at<float>(bias)},
                                       at<float>(residual), at<float>(out), ld);
        });
  m.def("gemm_dequantize_gelu_quantize",
        [](const std::string& isa, const nb::dict& g, uintptr_t scale, uintptr_t bias,
           uintptr_t mult, float zero_point, uintptr_t out, ptrdiff_t ldo, int repeat) {
          const Kernels& k = select_kernels(isa);
          const GemmArgs args = gemm_args(g);
          for (int i = 0; i < repeat; ++i)
            k.gemm_dequantize_gelu_quantize(args, {at<float>(scale), at<float>(bias)},
                                            {at<float>(mult), zero_point}, at<uint8_t>(out), ldo);
        });
  m.def("gemm_f32", [](const std::string& isa, uintptr_t a, ptrdiff_t lda, uintptr_t b,
                       uintptr_t bias, uintptr_t c, ptrdiff_t ldc, int rows, int n, int k) {
    select_kernels(isa).gemm_f32(
        {at<float>(a), lda, at<float>(b), at<float>(bias), 0, at<float>(c), ldc, rows, n, k});
  });
  m.def("layer_norm_rows", [](const std::string& isa, uintptr_t x, ptrdiff_t ld, uintptr_t gamma,
                              uintptr_t beta, float eps, int rows, int d, uintptr_t mult,
                              float zero_point, uintptr_t out, ptrdiff_t ldo) {
    select_kernels(isa).layer_norm_rows({at<float>(x), ld, at<float>(gamma), at<float>(beta), eps,
                                         rows, d, at<float>(mult), zero_point, at<uint8_t>(out),
                                         ldo});
  });
  m.def("embed_row", [](const std::string& isa, uintptr_t word_s8, uintptr_t word_f32, float scale,
                        uintptr_t type, uintptr_t position, uintptr_t out, int d) {
    select_kernels(isa).embed_row({at<int8_t>(word_s8), at<float>(word_f32), scale, at<float>(type),
                                   at<float>(position), at<float>(out), d});
  });
  m.def("quantize_rows", [](const std::string& isa, uintptr_t x, ptrdiff_t ld, int rows, int n,
                            uintptr_t mult, float zero_point, uintptr_t out, ptrdiff_t ldo) {
    select_kernels(isa).quantize_rows(at<float>(x), ld, rows, n, {at<float>(mult), zero_point},
                                      at<uint8_t>(out), ldo);
  });
  m.def("gelu_rows", [](const std::string& isa, uintptr_t x, ptrdiff_t ld, int rows, int n) {
    select_kernels(isa).gelu_rows(at<float>(x), ld, rows, n);
  });
  m.def("softmax_rows", [](const std::string& isa, uintptr_t scores, ptrdiff_t ld, uintptr_t scale,
                           uintptr_t high, uintptr_t low, ptrdiff_t ldp, uintptr_t sum,
                           uintptr_t low_row, int rows, int s) {
    return select_kernels(isa).softmax_rows({at<int32_t>(scores), ld, at<float>(scale),
                                             at<uint8_t>(high), at<uint8_t>(low), ldp,
                                             at<int32_t>(sum), at<int32_t>(low_row), rows, s});
  });
  m.def("attention_head",
        [](const std::string& isa, uintptr_t q, uintptr_t k, uintptr_t v, ptrdiff_t ld_panel, int m,
           int s, int h, float scale, uintptr_t mult, float zero_point, uintptr_t out_u8,
           uintptr_t out_f32, ptrdiff_t ldo, uintptr_t scratch, int repeat) {
          const Kernels& kernels = select_kernels(isa);
          const AttentionArgs args{at<float>(q),
                                   at<float>(k),
                                   at<float>(v),
                                   ld_panel,
                                   m,
                                   s,
                                   h,
                                   scale,
                                   {at<float>(mult), zero_point},
                                   at<uint8_t>(out_u8),
                                   at<float>(out_f32),
                                   ldo,
                                   at<uint8_t>(scratch)};
          for (int i = 0; i < repeat; ++i) kernels.attention_head(kernels, args);
        });
  bind_decoding(m);
}

} // namespace bert_rt
