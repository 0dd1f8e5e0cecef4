// Weights from row-major [K][N] into the packed layouts of kernels.h.
#pragma once

#include "kernels.h"

#include <cstdint>
#include <vector>

namespace bert_rt {

// Where a row or column of the packed matrix comes from in the file; -1: zeros.
using IndexMap = std::vector<int>;

// Packs w [K][ldw] and sums its columns.
void pack_s8(const int8_t* w, ptrdiff_t ldw, const IndexMap& rows, const IndexMap& columns,
             int8_t* packed, int32_t* column_sums);
void pack_f32(const float* w, ptrdiff_t ldw, const IndexMap& rows, const IndexMap& columns,
              float* packed);

} // namespace bert_rt
