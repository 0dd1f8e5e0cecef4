#include "decoding/cells.h"

namespace bert_rt {

void CellPool::reserve(size_t count) {
  while (free_.size() < count) {
    slabs_.emplace_back(kSlabCells * cell_bytes_);
    free_.reserve(slabs_.size() * kSlabCells); // so that release never allocates
    for (size_t i = kSlabCells; i-- > 0;) free_.push_back(slabs_.back().data() + i * cell_bytes_);
  }
}

uint8_t* CellPool::take(uint8_t* before) {
  reserve(1);
  uint8_t* cell = free_.back();
  free_.pop_back();
  ++num_used_;
  header(cell) = {before, 1};
  if (before != nullptr) ++header(before).holders;
  return cell;
}

void CellPool::release(uint8_t* cell) {
  while (cell != nullptr && --header(cell).holders == 0) {
    free_.push_back(cell);
    --num_used_;
    cell = header(cell).before;
  }
}

} // namespace bert_rt
