#include "cpu/thread_pool.h"

#include "cpu/wait.h"

namespace bert_rt {
ThreadPool::ThreadPool(int size) : size_(size < 1 ? 1 : size) {
  threads_.reserve(static_cast<size_t>(size_ - 1));
  try {
    for (int rank = 1; rank < size_; ++rank) threads_.emplace_back([this, rank] { serve(rank); });
  } catch (...) { // the system gives no more threads: end those that run
    stopping_ = true;
    round_.fetch_add(1);
    round_.notify_all();
    for (std::thread& thread : threads_) thread.join();
    throw;
  }
}

ThreadPool::~ThreadPool() {
  stopping_.store(true, std::memory_order_release);
  round_.fetch_add(1, std::memory_order_acq_rel);
  round_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void ThreadPool::run(const std::function<void(int)>& work) {
  work_ = &work;
  busy_.store(size_ - 1, std::memory_order_relaxed);
  round_.fetch_add(1, std::memory_order_acq_rel);
  round_.notify_all();
  work(0);
  wait_for_zero(busy_);
}

void ThreadPool::serve(int rank) {
  uint32_t seen = 0;
  while (true) {
    wait_while(round_, seen);
    if (stopping_.load(std::memory_order_acquire)) return;
    ++seen;
    (*work_)(rank);
    if (busy_.fetch_sub(1, std::memory_order_acq_rel) == 1) busy_.notify_all();
  }
}

} // namespace bert_rt
