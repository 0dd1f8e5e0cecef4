// Waiting for another thread: spins for a short while, then sleeps.
#pragma once

#include <atomic>

namespace bert_rt {

constexpr int kSpins = 400; // some ten microseconds: shorter than waking a thread

inline void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Waits until the value is no longer `old`.
template <class T>
void wait_while(const std::atomic<T>& value, T old) {
  for (int i = 0; i < kSpins; ++i) {
    if (value.load(std::memory_order_acquire) != old) return;
    pause();
  }
  while (value.load(std::memory_order_acquire) == old) value.wait(old, std::memory_order_acquire);
}

// Waits until the value is 0.
inline void wait_for_zero(const std::atomic<int>& value) {
  for (int seen = value.load(std::memory_order_acquire); seen != 0;
       seen = value.load(std::memory_order_acquire))
    wait_while(value, seen);
}

} // namespace bert_rt
