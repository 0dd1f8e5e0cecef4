// One pool an engine. Work is handed out by rank, so results never depend on timing.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <thread>
#include <vector>

namespace bert_rt {

class ThreadPool {
 public:
  explicit ThreadPool(int size);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int size() const { return size_; }
  // Calls work(rank) on every thread, the caller being rank 0, and waits. `work` must not throw.
  void run(const std::function<void(int)>& work);

 private:
  void serve(int rank);

  const int size_;
  std::atomic<uint32_t> round_{0};
  std::atomic<int> busy_{0};
  std::atomic<bool> stopping_{false};
  const std::function<void(int)>* work_ = nullptr;
  std::vector<std::thread> threads_;
};

} // namespace bert_rt
