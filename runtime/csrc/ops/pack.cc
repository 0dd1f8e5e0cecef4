#include "ops/pack.h"

#include <algorithm>

namespace bert_rt {
namespace {

bool is_contiguous(const IndexMap& columns, size_t n) {
  for (size_t j = 1; j < kPanel; ++j)
    if (columns[n + j] != columns[n] + static_cast<int>(j)) return false;
  return columns[n] >= 0;
}

} // namespace

void pack_s8(const int8_t* w, ptrdiff_t ldw, const IndexMap& rows, const IndexMap& columns,
             int8_t* packed, int32_t* column_sums) {
  const int k = static_cast<int>(rows.size());
  const ptrdiff_t panel_bytes = ptrdiff_t{padded_k(k)} * kPanel;
  for (size_t n = 0; n < columns.size(); n += kPanel) {
    int8_t* panel = packed + static_cast<ptrdiff_t>(n / kPanel) * panel_bytes;
    const bool contiguous = is_contiguous(columns, n);
    int32_t sums[kPanel] = {};
    for (int i = 0; i < k; i += 4) {
      int8_t block[4][kPanel] = {};
      for (int r = 0; r < std::min(4, k - i); ++r) {
        const int row = rows[static_cast<size_t>(i + r)];
        if (row < 0) continue;
        const int8_t* from = w + row * ldw;
        if (contiguous) {
          std::copy_n(from + columns[n], kPanel, block[r]);
        } else {
          for (size_t j = 0; j < kPanel; ++j)
            block[r][j] = columns[n + j] < 0 ? int8_t{0} : from[columns[n + j]];
        }
      }
      int8_t* to = panel + ptrdiff_t{i} * kPanel;
      for (int j = 0; j < kPanel; ++j)
        for (int r = 0; r < 4; ++r) to[4 * j + r] = block[r][j];
      for (int j = 0; j < kPanel; ++j)
        sums[j] += block[0][j] + block[1][j] + block[2][j] + block[3][j];
    }
    std::copy_n(sums, kPanel, column_sums + n);
  }
}

void pack_f32(const float* w, ptrdiff_t ldw, const IndexMap& rows, const IndexMap& columns,
              float* packed) {
  for (size_t n = 0; n < columns.size(); n += kPanel)
    for (const int row : rows)
      for (size_t j = 0; j < kPanel; ++j) {
        const int column = columns[n + j];
        *packed++ = row < 0 || column < 0 ? 0.0f : w[row * ldw + column];
      }
}

} // namespace bert_rt
