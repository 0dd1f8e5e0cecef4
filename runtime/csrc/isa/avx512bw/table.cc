#include "isa/functions.h"

namespace bert_rt {

namespace {
constexpr Kernels kTable = avx512bw::make_table(Isa::kAvx512Bw, "avx512bw", {8, 16, 4}, true);
} // namespace

const Kernels* avx512bw_kernels() noexcept { return &kTable; }

} // namespace bert_rt
