#include "decoding/encoder_decoder.h"

#include "cpu/cpu_features.h"

#include <algorithm>
#include <stdexcept>
#include <string>

namespace bert_rt {
namespace {

constexpr size_t kMiB = size_t{1} << 20;

std::string number(int64_t x) { return std::to_string(x); }

// Messages of a graph's readers begin with the name that most artifacts have.
template <class Load>
auto load_as(const std::string& file_name, const Load& load) {
  try {
    return load();
  } catch (const std::invalid_argument& error) {
    const std::string prefix = "model.onnx", message = error.what();
    if (message.compare(0, prefix.size(), prefix) != 0) throw;
    throw std::invalid_argument(file_name + message.substr(prefix.size()));
  }
}

} // namespace

EncoderDecoder::EncoderDecoder(std::string_view encoder_file, std::string_view decoder_file,
                               const EngineSettings& settings)
    : kernels_(select_kernels(settings.isa)), decoder_model_(load_as("decoder.onnx", [&] {
        return load_decoder(decoder_file, std::clamp(settings.num_threads, 1, 8),
                            kernels_.sums_in_16_bits);
      })) {
  encoder_ = load_as("encoder.onnx", [&] {
    return std::make_unique<Engine>(encoder_file, settings, decoder_model_.memory());
  });
  decoder_ = std::make_unique<Decoder>(decoder_model_, kernels_,
                                       encoder_->model().max_position_embeddings);
  const size_t ceiling = static_cast<size_t>(settings.max_memory_mb) * kMiB;
  if (settings.max_memory_mb > 0 && ceiling_bytes() > ceiling)
    throw std::invalid_argument(
        "max_memory_mb: got " + number(settings.max_memory_mb) + ", want at least " +
        number(static_cast<int64_t>(ceiling_bytes() / kMiB + 1)) + " for encoder and decoder and " +
        number(encoder_->num_threads()) + " threads");
  for (int i = 0; i < encoder_->num_threads(); ++i)
    workspaces_.emplace_back(decoder_->workspace_bytes());
}

size_t EncoderDecoder::ceiling_bytes() const {
  return encoder_->ceiling_bytes() + decoder_model_.bytes() +
         static_cast<size_t>(encoder_->num_threads()) * decoder_->workspace_bytes();
}

Decoding::Decoding(std::shared_ptr<EncoderDecoder> engine)
    : engine_(std::move(engine)), cells_(engine_->cell_bytes()) {}

int Decoding::free_source() {
  for (size_t i = 0; i < sources_.size(); ++i)
    if (sources_[i].num_rows == 0) return static_cast<int>(i);
  sources_.emplace_back();
  return static_cast<int>(sources_.size()) - 1;
}

void Decoding::add(const Batch& batch, int num_tokens) {
  Engine& encoder = *engine_->encoder_;
  encoder.check(batch, num_tokens);
  const auto count = static_cast<size_t>(batch.num_sequences);
  rows_.reserve(rows_.size() + count);
  sources_.reserve(sources_.size() + count);
  std::vector<Buffer<uint8_t>> memories;
  std::vector<uint8_t*> places;
  for (int i = 0; i < batch.num_sequences; ++i) {
    const int length = batch.cu_seqlens[i + 1] - batch.cu_seqlens[i];
    memories.emplace_back(engine_->source_bytes(length));
    places.push_back(memories.back().data());
  }
  Output out{};
  out.memories = places.data();
  encoder.run(batch, out);
  for (int i = 0; i < batch.num_sequences; ++i) {
    const int place = free_source();
    Source& source = sources_[static_cast<size_t>(place)];
    source.memory = std::move(memories[static_cast<size_t>(i)]);
    source.num_tokens = batch.cu_seqlens[i + 1] - batch.cu_seqlens[i];
    source.num_rows = 1;
    rows_.push_back({place, {}});
  }
}

void Decoding::check(const int32_t* tokens, const int32_t* parents, int num_rows) const {
  const DecoderModel& model = engine_->decoder_model_;
  for (int i = 0; i < num_rows; ++i) {
    if (parents[i] < 0 || parents[i] >= this->num_rows())
      throw std::invalid_argument("beam_idx[" + number(i) + "]: got " + number(parents[i]) +
                                  ", want 0 to " + number(this->num_rows() - 1));
    if (tokens[i] < 0 || tokens[i] >= model.vocab_size)
      throw std::invalid_argument("tokens[" + number(i) + "]: got " + number(tokens[i]) +
                                  ", want 0 to " + number(model.vocab_size - 1));
    const auto length = static_cast<int64_t>(rows_[static_cast<size_t>(parents[i])].cells.size());
    if (length >= model.max_position_embeddings)
      throw std::invalid_argument("beam_idx[" + number(i) + "]: got a row of " + number(length) +
                                  " tokens, want at most " +
                                  number(model.max_position_embeddings - 1) + " before a step");
  }
}

// Puts the rows that go on, with a cell for the token that they read, in place of those before.
void Decoding::advance(const int32_t* parents, int num_rows) {
  const auto count = static_cast<size_t>(num_rows);
  cells_.reserve(count);
  next_rows_.resize(count);
  for (size_t i = 0; i < count; ++i) {
    const Row& parent = rows_[static_cast<size_t>(parents[i])];
    Row& row = next_rows_[i];
    row.source = parent.source;
    row.cells.reserve(parent.cells.size() + 1);
    row.cells.assign(parent.cells.begin(), parent.cells.end());
  }
  // Nothing throws from here on.
  for (size_t i = 0; i < count; ++i) {
    Row& row = next_rows_[i];
    row.cells.push_back(cells_.take(row.last()));
    ++sources_[static_cast<size_t>(row.source)].num_rows;
  }
  for (const Row& row : rows_) {
    cells_.release(row.last());
    Source& source = sources_[static_cast<size_t>(row.source)];
    if (--source.num_rows == 0) source.memory = {};
  }
  std::swap(rows_, next_rows_);
}

void Decoding::step(const int32_t* tokens, const int32_t* parents, int num_rows,
                    const StepOutput& out) {
  check(tokens, parents, num_rows);
  step_rows_.resize(static_cast<size_t>(num_rows));
  advance(parents, num_rows);
  for (size_t i = 0; i < rows_.size(); ++i) {
    const Row& row = rows_[i];
    Source& source = sources_[static_cast<size_t>(row.source)];
    step_rows_[i] = {tokens[i], static_cast<int>(row.cells.size()), row.cells.data(),
                     source.memory.data(), source.num_tokens};
  }
  // Whole register tiles for every thread but the last.
  const int mr = engine_->kernels_.tile.mr;
  const int64_t tiles = (num_rows + mr - 1) / mr;
  engine_->encoder_->run_together(static_cast<int>(tiles), [&](int rank, int size) {
    const auto bound = [&](int r) {
      return std::min(num_rows, static_cast<int>(tiles * r / size) * mr);
    };
    engine_->decoder_->run(step_rows_.data(), bound(rank), bound(rank + 1),
                           engine_->workspaces_[static_cast<size_t>(rank)].data(), out);
  });
}

void Decoding::best(const float* logits, int num_rows, const StepOutput& out) const {
  const DecoderModel& model = engine_->decoder_model_;
  const ptrdiff_t v = model.vocab_size, n = model.vocabulary.n;
  Buffer<float> scores(static_cast<size_t>(n));
  Buffer<float> blocks(2 * static_cast<size_t>(n / kScoreBlock + 1));
  std::fill_n(scores.data() + v, n - v, kPaddingScore);
  for (ptrdiff_t row = 0; row < num_rows; ++row) {
    std::copy_n(logits + row * v, v, scores.data());
    find_best(engine_->kernels_, scores.data(), model.vocabulary.n, model.vocab_size, blocks.data(),
              {out.count, out.log_probs + row * out.count, out.tokens + row * out.count});
  }
}

size_t Decoding::bytes() const {
  size_t total = cells_.bytes();
  for (const Source& source : sources_) total += source.memory.bytes();
  return total;
}

} // namespace bert_rt
