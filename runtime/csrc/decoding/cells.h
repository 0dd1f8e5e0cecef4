// Memory of the tokens that partial targets consist of: one cell a token, which holds its keys and
// values in all layers. Beams that have tokens in common share their cells, for a cell knows the
// one before it, and is free again when nothing continues it.
#pragma once

#include "arena.h"

#include <cstddef>
#include <cstdint>
#include <vector>

namespace bert_rt {

class CellPool {
 public:
  explicit CellPool(size_t cell_bytes) : cell_bytes_((cell_bytes + 63) / 64 * 64) {}

  // Makes sure that so many cells can be taken without more memory. Throws std::bad_alloc.
  void reserve(size_t count);
  // A cell behind `before` (null for a first token), held once by the caller.
  uint8_t* take(uint8_t* before);
  // The caller holds the cell no longer; null is ignored.
  void release(uint8_t* cell);

  size_t num_used() const { return num_used_; }
  size_t bytes() const { return slabs_.size() * kSlabCells * cell_bytes_; }

 private:
  static constexpr size_t kSlabCells = 64;
  struct Header { // at the beginning of a cell
    uint8_t* before;
    int64_t holders; // callers, and cells that come directly behind it
  };
  static Header& header(uint8_t* cell) { return *reinterpret_cast<Header*>(cell); }

  size_t cell_bytes_;
  std::vector<Buffer<uint8_t>> slabs_;
  std::vector<uint8_t*> free_;
  size_t num_used_ = 0;
};

} // namespace bert_rt
