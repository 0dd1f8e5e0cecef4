// What this processor and operating system offer. Compiled without any -m flag.
#pragma once

#include "kernels.h"

#include <string>
#include <vector>

namespace bert_rt {

struct CpuFeatures {
  bool fma = false, avx2 = false, avxvnni = false;
  bool avx512f = false, avx512bw = false, avx512dq = false, avx512vl = false, avx512vnni = false;
  bool dotprod = false, i8mm = false;      // ARM64
  bool amx_tile = false, amx_int8 = false; // only where the kernel lets this process use them
};

// Detected once. Asks the kernel for the tile registers where the processor has them.
const CpuFeatures& cpu_features();

// Names of the features present, for reports.
std::vector<std::string> feature_names();

// Tables that are compiled in and can run here, best first; scalar is always the last.
std::vector<const Kernels*> supported_kernels();

// The table of that name; with an empty name BERT_RT_ISA, without it the best. Throws
// std::runtime_error where the name is unknown or cannot run here.
const Kernels& select_kernels(const std::string& name);

} // namespace bert_rt
