#include "isa/functions.h"

namespace bert_rt {

namespace {
constexpr Kernels kTable = neon_dotprod::make_table(Isa::kNeonDotprod, "neon_dotprod", {4, 16, 4});
} // namespace

const Kernels* neon_dotprod_kernels() noexcept { return &kTable; }

} // namespace bert_rt
