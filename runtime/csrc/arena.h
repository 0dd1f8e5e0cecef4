// Aligned memory: one block that is carved once, when an engine opens, and never grows.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>
#include <utility>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace bert_rt {

// Owns cache-line aligned memory for trivially copyable elements; zero at first.
template <class T>
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(size_t count) : size_(count) {
    if (count == 0) return;
    if (count > (SIZE_MAX >> 2) / sizeof(T)) throw std::bad_alloc();
    const size_t align = bytes() >= kHugePage ? kHugePage : 64;
    const size_t padded = (bytes() + align - 1) / align * align;
    data_ = static_cast<T*>(std::aligned_alloc(align, padded));
    if (data_ == nullptr) throw std::bad_alloc();
#if defined(__linux__)
    if (align == kHugePage) madvise(data_, padded, MADV_HUGEPAGE);
#endif
    __builtin_memset(static_cast<void*>(data_), 0, padded);
  }
  Buffer(Buffer&& other) noexcept { swap(other); }
  Buffer& operator=(Buffer&& other) noexcept {
    swap(other);
    return *this;
  }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer() {
    if (block_ == nullptr) std::free(data_);
  }

  T* data() { return data_; }
  const T* data() const { return data_; }
  size_t size() const { return size_; }
  size_t bytes() const { return size_ * sizeof(T); }
  T& operator[](size_t i) { return data_[i]; }
  const T& operator[](size_t i) const { return data_[i]; }

 private:
  friend class Block;
  static constexpr size_t kHugePage = size_t{2} << 20;
  void swap(Buffer& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    std::swap(block_, other.block_);
  }
  T* data_ = nullptr;
  size_t size_ = 0;
  std::shared_ptr<Buffer<uint8_t>> block_; // where it is a slice of one, which it keeps alive
};

// One piece of memory that many buffers share: together they are large enough for huge pages.
class Block {
 public:
  Block() = default;
  explicit Block(size_t bytes) : memory_(std::make_shared<Buffer<uint8_t>>(bytes)) {}

  // Bytes that a slice takes: the next one begins at a cache line, too.
  static constexpr size_t padded(size_t bytes) { return (bytes + 63) / 64 * 64; }
  template <class T>
  Buffer<T> slice(size_t at, size_t count) const {
    Buffer<T> part;
    part.data_ = reinterpret_cast<T*>(memory_->data() + at);
    part.size_ = count;
    part.block_ = memory_;
    return part;
  }

 private:
  std::shared_ptr<Buffer<uint8_t>> memory_;
};

// Hands out 64-byte aligned pieces of a block; with no block it only counts.
class Carver {
 public:
  explicit Carver(uint8_t* block) : block_(block) {}
  template <class T>
  T* take(size_t count) {
    T* piece = block_ == nullptr ? nullptr : reinterpret_cast<T*>(block_ + used_);
    used_ += (count * sizeof(T) + 63) / 64 * 64;
    return piece;
  }
  size_t used() const { return used_; }

 private:
  uint8_t* block_;
  size_t used_ = 0;
};

} // namespace bert_rt
