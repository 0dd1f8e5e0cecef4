// The engine that the Python module binds: a model, a kernel table, a pool and its memory.
#pragma once

#include "encoder.h"

#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

namespace bert_rt {

struct EngineSettings {
  int num_threads = 1;
  std::string isa;       // empty: BERT_RT_ISA or the best
  int max_memory_mb = 0; // ceiling of weights and buffers together; 0: none asked for
  int group_tokens = 0;  // tokens that a thread works on at a time; 0: chosen by the model
};

class Engine {
 public:
  // Throws std::invalid_argument on a damaged model or a ceiling that cannot hold, and
  // std::runtime_error where the instruction set asked for cannot run here.
  Engine(std::string_view onnx_file, const EngineSettings& settings);
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  // Computes the logits of any number of sequences, in groups of bounded size. Safe to call from
  // several threads (one at a time computes) and after a fork.
  void run(const Batch& batch, const Output& out);

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
    double cost;
  };
  void plan(const Batch& batch, std::vector<int>& order, std::vector<Group>& groups) const;
  struct Span {
    size_t first, last; // of the groups
  };
  double finish(const std::vector<Group>& groups, Span split, std::vector<double>& loads) const;
  Span choose_split(const std::vector<Group>& groups, std::vector<double>& loads) const;
  double cost(int tokens) const;
  Team& team();

  const Kernels& kernels_;
  Model model_;
  Encoder encoder_;
  int num_threads_;
  int group_tokens_;     // capacity of a workspace
  int group_target_ = 0; // sequences are gathered up to here
  size_t workspace_bytes_;
  size_t scratch_bytes_;
  std::vector<Buffer<uint8_t>> workspaces_; // one a thread
  std::vector<Buffer<uint8_t>> scratch_;    // likewise
  std::unique_ptr<Team> team_;
};

} // namespace bert_rt
