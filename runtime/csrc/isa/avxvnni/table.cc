#include "isa/functions.h"

namespace bert_rt {

#if defined(BERT_RT_SOFT_VPDPBUSD) // for tests only: dispatch never sees this one
namespace {
constexpr Kernels kTable = avxvnni_soft::make_table(Isa::kAvxVnni, "avxvnni_soft", {6, 16, 4});
} // namespace

const Kernels* avxvnni_soft_kernels() noexcept { return &kTable; }
#else
namespace {
constexpr Kernels kTable = avxvnni::make_table(Isa::kAvxVnni, "avxvnni", {6, 16, 4});
} // namespace

const Kernels* avxvnni_kernels() noexcept { return &kTable; }
#endif

} // namespace bert_rt
