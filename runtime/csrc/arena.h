// Aligned memory: one block that is carved once, when an engine opens, and never grows.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
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
  ~Buffer() { std::free(data_); }

  T* data() { return data_; }
  const T* data() const { return data_; }
  size_t size() const { return size_; }
  size_t bytes() const { return size_ * sizeof(T); }
  T& operator[](size_t i) { return data_[i]; }
  const T& operator[](size_t i) const { return data_[i]; }

 private:
  static constexpr size_t kHugePage = size_t{2} << 20;
  void swap(Buffer& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
  }
  T* data_ = nullptr;
  size_t size_ = 0;
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
