// The engine that the Python module binds: a model, a kernel table, a pool and its memory.
#pragma once

#include "encoder.h"
#include "reuse/context_cache.h"

#include <atomic>
#include <functional>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

namespace bert_rt {

struct EngineSettings {
  int num_threads = 1;
  std::string isa;              // empty: BERT_RT_ISA or the best
  int max_memory_mb = 0;        // ceiling of weights and buffers together; 0: none asked for
  int group_tokens = 0;         // tokens that a thread works on at a time; 0: chosen by the model
  int max_context_cache_mb = 0; // ceiling of states of passages, beside the other; 0: none is kept
};

struct ContextCacheFacts {
  size_t size, bytes, max_bytes;
  uint64_t num_hits, num_misses;
};

class Engine {
 public:
  // Throws std::invalid_argument on a damaged model or a ceiling that cannot hold, and
  // std::runtime_error where the instruction set asked for cannot run here.
  // An encoder for a decoder ends in a memory of this shape.
  Engine(std::string_view onnx_file, const EngineSettings& settings,
         const MemoryShape& memory = {});
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  // Computes the logits of any number of sequences, in groups of bounded size. Safe to call from
  // several threads (one at a time computes) and after a fork.
  void run(const Batch& batch, const Output& out);

  // Computes what split layers make of passages, sequences of type 1, and keeps it for run as far
  // as the cache has room. `states` gets it, too, [T][D], unless it is null.
  void prepare(const Batch& passages, float* states = nullptr);
  // Keeps what an engine of the same model has prepared before, [T][D].
  void keep(const Batch& passages, const float* states);
  void forget(); // all that is kept
  ContextCacheFacts context_cache();
  size_t context_bytes(int tokens) const; // what a passage takes of the cache

  // Calls work(rank, size) on as many of the threads as there are units of work, at least one.
  // As run: one caller at a time, others wait.
  void run_together(int units, const std::function<void(int rank, int size)>& work);

  const Model& model() const { return model_; }
  const Kernels& kernels() const { return kernels_; }
  int num_threads() const { return num_threads_; }
  int group_tokens() const { return group_tokens_; }
  size_t weight_bytes() const { return model_.bytes(); }
  size_t ceiling_bytes() const; // of weights and buffers
  // Throws std::invalid_argument naming the field where a batch is not acceptable.
  void check(const Batch& batch, int num_tokens) const;

 private:
  struct Team; // all that changes while a batch runs, made anew in a forked child
  struct Group {
    int first, count, tokens; // a slice of the order
  };
  void plan(const Batch& batch, std::vector<int>& order, std::vector<Group>& groups) const;
  Team& team();
  template <class Work>
  void compute(Team& team, const Batch& batch, const Work& work);
  void run_split(Team& team, const Batch& batch, const Output* out, float* states);
  void check_texts(const Batch& batch) const;

  const Kernels& kernels_;
  Model model_;
  Encoder encoder_;
  int num_threads_;
  int group_tokens_;     // capacity of a workspace
  int group_target_ = 0; // sequences are gathered up to here
  int state_tokens_ = 0; // with split layers, whose states are kept while a batch runs
  size_t workspace_bytes_;
  size_t scratch_bytes_;
  std::vector<Buffer<uint8_t>> workspaces_; // one a thread
  std::vector<Buffer<uint8_t>> scratch_;    // likewise
  std::vector<uint8_t*> scratch_of_threads_;
  Buffer<float> states_;      // [state_tokens_][D]
  Buffer<float> projections_; // [state_tokens_][projection_width]
  size_t max_cache_bytes_;
  std::atomic<Team*> team_{nullptr};
};

} // namespace bert_rt
