// The row kernels of this instruction set: the shared source over its lanes.
#include "isa/vec_avx512.h"
// The lanes come first.
#include "isa/epilogues.h"
// The epilogues second.
#include "isa/decode_impl.h"
#include "isa/rows_impl.h"

namespace bert_rt::BERT_RT_ISA_NAMESPACE {

// Attention's products are small, and their operands were stored a moment before: tiles, which load
// them again and wait for those stores, make a head slower.
void attention_head(const Kernels&, const AttentionArgs& t) noexcept {
  const Kernels& vnni = *avx512vnni_kernels();
  vnni.attention_head(vnni, t);
}
void pack_head(const Kernels&, const PackHeadArgs& t) noexcept {
  const Kernels& vnni = *avx512vnni_kernels();
  vnni.pack_head(vnni, t);
}
void attend(const Kernels&, const AttendArgs& t) noexcept {
  const Kernels& vnni = *avx512vnni_kernels();
  vnni.attend(vnni, t);
}

} // namespace bert_rt::BERT_RT_ISA_NAMESPACE
