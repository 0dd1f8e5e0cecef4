// Runs all layers over a group of whole sequences, by one thread or by a team.
#pragma once

#include "cpu/crew.h"
#include "model/model.h"
#include "ops/sublayers.h"

#include <cstddef>

namespace bert_rt {

// Packed sequences as the caller gave them, checked.
struct Batch {
  const int32_t* input_ids;      // [T]
  const int32_t* token_type_ids; // [T]
  const int32_t* cu_seqlens;     // [B + 1]
  int num_sequences;
  // Tokens of a sequence, first and one past the last, whose logits are read beside those of its
  // first token: [B][2], or null for all. Of a pooled head they are the first token's alone.
  const int32_t* logit_ranges = nullptr;
  const int32_t* first_positions = nullptr; // [B] of the sequences' first tokens; null: 0
  // Above split layers, counted from the first sequence's first token: where the state of each is,
  // [D], and what the next layer's projection makes of it, [projection_width].
  const float* const* states = nullptr;
  const float* const* projections = nullptr;
};

// Where the logits go. Those of tokens that are not read stay as they are.
struct Output {
  float* start_logits; // [T], kSpans
  float* end_logits;   // [T]
  float* logits;       // [T][labels], kTokens; [B][labels], kPooled
  // [B] where the packed keys and values of each sequence go, memory_bytes each: kMemory.
  uint8_t* const* memories = nullptr;
};

// Every buffer of a group, carved from one block. T is the group's capacity in tokens.
struct Workspace {
  float* x = nullptr;           // [T][D] hidden state and residual
  float* embedded = nullptr;    // [T][E], only where embeddings are projected
  uint8_t* x_u8 = nullptr;      // [T][ldx] the same, quantized for the next layer
  float* qkv = nullptr;         // panels [3 N Hp / 16][ld_panel / 16][16]
  uint8_t* context = nullptr;   // [T][ldc]
  uint8_t* hidden = nullptr;    // [T][ldf]
  float* context_f32 = nullptr; // [T][N Hp], only where a layer is kept in float
  float* hidden_f32 = nullptr;  // [T][F], likewise
  float* sum_f32 = nullptr;     // [T][D], likewise
  float* outliers = nullptr;    // [T][16], only where a layer has outlier channels
  float* states = nullptr;      // [T][decoder's width], only where states are projected
  float* head = nullptr;        // [T][labels, padded], or one row of D and of labels
  ptrdiff_t ldx = 0, ldc = 0, ldf = 0, ld_panel = 0;
  int* rows = nullptr;      // [T] index of each token in the batch
  int* positions = nullptr; // [T]
  int* sequences = nullptr; // [T] members of the group
  int* offsets = nullptr;   // [T + 1] their first rows
  // Rows whose last hidden state is read, moved together for the last layer: at most T.
  float* read_x = nullptr;     // [R][D]
  int* read_rows = nullptr;    // [R] where they stood
  int* read_tokens = nullptr;  // [R] index in the batch
  int* read_offsets = nullptr; // [T + 1] first rows of the group's members among them
  size_t bytes = 0;            // of all of them
};

size_t workspace_bytes(const Model& model, int tokens);
Workspace carve_workspace(const Model& model, int tokens, uint8_t* block);

class Encoder {
 public:
  Encoder(const Model& model, const Kernels& kernels) : model_(model), kernels_(kernels) {}

  // Puts the sequences into the workspace; returns the number of rows. By one thread.
  int gather(const Batch& batch, const int* sequences, int count, Workspace& w) const;
  // Computes the group's logits; of a batch with states and projections by what is left only. By
  // the crew's lead.
  void run(const Batch& batch, int count, int rows, const Workspace& w, Crew& crew,
           const Output& out) const;
  // Computes the states of the group's tokens behind the split layers, [T][D], unless the batch has
  // them, and their projections, [T][projection_width].
  void run_split(const Batch& batch, int count, int rows, const Workspace& w, Crew& crew,
                 float* states, float* projections) const;

 private:
  Rows rows_of(const Workspace& w, Range r) const;
  // Which of the projection's columns: all, queries, or keys and values.
  enum class Part { kAll, kQueries, kKeysAndValues };
  struct Columns {
    int begin, end;
  };
  Columns columns_of(Part part) const;
  void embed(const Batch& batch, const Workspace& w, Range r) const;
  void project(const Layer& layer, Part part, const Workspace& w, Range r) const;
  void load_states(const Batch& batch, const Workspace& w, Range r) const;
  void load(const Batch& batch, Part part, const Workspace& w, Range r) const;
  void store_projections(const Workspace& w, Range r, float* projections) const;
  void attend(const Layer& layer, const Workspace& w, const int* query_offsets, Range units,
              uint8_t* scratch) const;
  void finish(const Layer& layer, const Linear* next, const Workspace& w, Range r) const;
  void gather_read(const Workspace& w, Range r) const;
  void activate(float* pooled) const;
  void classify(int count, const Workspace& w, const Output& out) const;
  void score_tokens(const Workspace& w, Range r, const Output& out) const;
  void remember(int count, int num_rows, const Workspace& w, Crew& crew, const Output& out) const;

  const Model& model_;
  const Kernels& kernels_;
};

} // namespace bert_rt
