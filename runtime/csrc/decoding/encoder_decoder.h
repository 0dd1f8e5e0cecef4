// An encoder and a decoder that reads its memory, and the state of decoding many sources at once.
#pragma once

#include "decoding/cells.h"
#include "decoding/decoder.h"
#include "engine.h"

#include <memory>
#include <string_view>
#include <vector>

namespace bert_rt {

class EncoderDecoder {
 public:
  // Throws as Engine does; messages name the file.
  EncoderDecoder(std::string_view encoder_file, std::string_view decoder_file,
                 const EngineSettings& settings);
  EncoderDecoder(const EncoderDecoder&) = delete;
  EncoderDecoder& operator=(const EncoderDecoder&) = delete;

  const DecoderModel& decoder_model() const { return decoder_model_; }
  const Engine& encoder() const { return *encoder_; }
  size_t weight_bytes() const { return encoder_->weight_bytes() + decoder_model_.bytes(); }
  // Of weights and buffers, without the states.
  size_t ceiling_bytes() const;
  // What a state holds for a source, and for each token of each partial target.
  size_t source_bytes(int tokens) const { return memory_bytes(decoder_model_.memory(), tokens); }
  size_t cell_bytes() const { return decoder_model_.cell_bytes(); }

 private:
  friend class Decoding;

  const Kernels& kernels_;
  DecoderModel decoder_model_;
  std::unique_ptr<Engine> encoder_; // with the team and its threads
  std::unique_ptr<Decoder> decoder_;
  std::vector<Buffer<uint8_t>> workspaces_; // one a thread
};

// Sources that are being decoded and their partial targets, the rows. Rows are of any lengths: a
// source may be added before any step, and leaves with the first step that continues none of its
// rows. Not safe for several threads at once; several states of one EncoderDecoder are.
class Decoding {
 public:
  explicit Decoding(std::shared_ptr<EncoderDecoder> engine);
  Decoding(const Decoding&) = delete;
  Decoding& operator=(const Decoding&) = delete;

  int num_rows() const { return static_cast<int>(rows_.size()); }
  int vocab_size() const { return engine_->decoder_model().vocab_size; }
  // Reads sources and adds an empty row for each, behind those that are there. Throws
  // std::invalid_argument where a batch is not acceptable.
  void add(const Batch& batch, int num_tokens);
  // Each new row continues row parents[i], which may go on several times or not at all, and reads
  // tokens[i]. Throws std::invalid_argument, and then nothing has changed.
  void step(const int32_t* tokens, const int32_t* parents, int num_rows, const StepOutput& out);
  // The best of logits [R][V] that a step has given, to the bit.
  void best(const float* logits, int num_rows, const StepOutput& out) const;
  // What sources and cells take, with cells that are free.
  size_t bytes() const;
  size_t num_cells() const { return cells_.num_used(); }

 private:
  struct Source {
    Buffer<uint8_t> memory;
    int num_tokens = 0;
    int num_rows = 0; // that decode it; 0: its place is free
  };
  struct Row {
    int source = 0;
    std::vector<uint8_t*> cells; // of its tokens
    uint8_t* last() const { return cells.empty() ? nullptr : cells.back(); }
  };
  void check(const int32_t* tokens, const int32_t* parents, int num_rows) const;
  void advance(const int32_t* parents, int num_rows);
  int free_source();

  std::shared_ptr<EncoderDecoder> engine_;
  CellPool cells_;
  std::vector<Source> sources_;
  std::vector<Row> rows_;
  std::vector<Row> next_rows_; // kept from step to step, for its memory
  std::vector<StepRow> step_rows_;
};

} // namespace bert_rt
