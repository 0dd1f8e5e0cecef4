#include "isa/functions.h"

namespace bert_rt {

namespace {
constexpr Kernels kTable = avx512vnni::make_table(Isa::kAvx512Vnni, "avx512vnni", {6, 64, 4});
} // namespace

const Kernels* avx512vnni_kernels() noexcept { return &kTable; }

} // namespace bert_rt
