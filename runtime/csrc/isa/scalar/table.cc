#include "isa/functions.h"

namespace bert_rt {

namespace {
constexpr Kernels kTable = scalar::make_table(Isa::kScalar, "scalar", {1, 16, 4});
} // namespace

const Kernels* scalar_kernels() noexcept { return &kTable; }

} // namespace bert_rt
