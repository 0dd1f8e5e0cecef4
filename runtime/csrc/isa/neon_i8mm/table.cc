#include "isa/functions.h"

namespace bert_rt {

namespace {
constexpr Kernels kTable = neon_i8mm::make_table(Isa::kNeonI8mm, "neon_i8mm", {6, 16, 8});
} // namespace

const Kernels* neon_i8mm_kernels() noexcept { return &kTable; }

} // namespace bert_rt
