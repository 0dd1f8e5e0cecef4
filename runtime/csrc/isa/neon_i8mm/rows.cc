// The row kernels and attention of this instruction set: the shared sources over its lanes.
#include "isa/vec_neon.h"
// The lanes come first.
#include "isa/epilogues.h"
// The epilogues second.
#include "isa/attention_impl.h"
#include "isa/decode_impl.h"
#include "isa/rows_impl.h"
