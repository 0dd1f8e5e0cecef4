// One step of many partial targets: each row reads one token. Rows know nothing of one another, so
// threads take some each and never wait for each other.
#pragma once

#include "decoding/decoder_model.h"
#include "ops/best.h"
#include "ops/sublayers.h"

#include <cstddef>

namespace bert_rt {

// One partial target.
struct StepRow {
  int32_t token;         // that it reads
  int num_tokens;        // of the target, with this one
  uint8_t* const* cells; // [num_tokens], this token's last
  uint8_t* memory;       // keys and values of its source, see memory_head
  int source_tokens;
};

// What is wanted of each row: all scores, or the best ones.
struct StepOutput {
  float* logits = nullptr;    // [R][V], or
  int count = 0;              // of the best ones
  float* log_probs = nullptr; // [R][count]
  int32_t* tokens = nullptr;  // [R][count]
};

class Decoder {
 public:
  static constexpr int kBlockRows = 64; // computed at a time
  static constexpr int kScoreRows = 32; // whose scores are held at a time

  // max_source_tokens: of the longest source.
  Decoder(const DecoderModel& model, const Kernels& kernels, int max_source_tokens)
      : model_(model), kernels_(kernels), max_source_tokens_(max_source_tokens) {}

  size_t workspace_bytes() const { return carve(nullptr).bytes; }
  // Computes rows [begin, end), in memory of workspace_bytes, 64-byte aligned.
  void run(const StepRow* rows, int begin, int end, uint8_t* workspace,
           const StepOutput& out) const;

 private:
  struct Workspace {
    float* x = nullptr;           // [M][D]
    float* transformed = nullptr; // [M][D]
    uint8_t* x_u8 = nullptr;      // [M][ldx]
    float* qkv = nullptr;         // [M][3 N Hp]
    float* cross = nullptr;       // panels [N Hp / 16][ld_panel / 16][16]
    uint8_t* context = nullptr;   // [M][ldc]
    float* context_f32 = nullptr; // [M][N Hp]
    uint8_t* hidden = nullptr;    // [M][ldf]
    float* hidden_f32 = nullptr;  // [M][F]
    float* sum_f32 = nullptr;     // [M][D]
    float* outliers = nullptr;    // [M][16]
    float* scores = nullptr;      // [kScoreRows][V, padded]
    float* blocks = nullptr;      // of find_best
    uint8_t* scratch = nullptr;   // of attention
    ptrdiff_t ldx = 0, ldc = 0, ldf = 0, ld_panel = 0;
    size_t bytes = 0;
  };
  Workspace carve(uint8_t* block) const;
  Rows rows_of(const Workspace& w, int num) const;
  void attend_to_targets(const DecoderLayer& layer, int index, const StepRow* rows,
                         const Workspace& w, const Rows& r) const;
  void attend_to_sources(const DecoderLayer& layer, int index, const StepRow* rows,
                         const Workspace& w, const Rows& r) const;
  void run_block(const StepRow* rows, int num, const Workspace& w) const;
  void score(int first_row, int num, const Workspace& w, const StepOutput& out) const;

  const DecoderModel& model_;
  const Kernels& kernels_;
  int max_source_tokens_;
};

} // namespace bert_rt
