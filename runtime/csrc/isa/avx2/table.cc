#include "isa/functions.h"

namespace bert_rt {

namespace {
constexpr Kernels kTable = avx2::make_table(Isa::kAvx2, "avx2", {4, 16, 4}, true);
} // namespace

const Kernels* avx2_kernels() noexcept { return &kTable; }

} // namespace bert_rt
