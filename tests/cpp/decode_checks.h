// Every kernel of a decoder's step against the scalar one, bit for bit.
#pragma once

#include "kernel_checks.h"

namespace bert_rt {

// Throws std::runtime_error that names the kernel where a bit differs.
void check_decode_kernels(Random& random, const Kernels& kernels, const Kernels& scalar,
                          int rounds);

} // namespace bert_rt
