#include "isa/functions.h"

namespace bert_rt {

namespace {
constexpr Kernels kTable = amx_int8::make_table(Isa::kAmxInt8, "amx_int8", {32, 32, 64});
} // namespace

const Kernels* amx_int8_kernels() noexcept { return &kTable; }

} // namespace bert_rt
