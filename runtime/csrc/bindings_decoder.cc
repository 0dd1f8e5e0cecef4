// Encoder-decoders in the Python module.
#include "bindings.h"
#include "decoding/encoder_decoder.h"

#include <memory>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <stdexcept>
#include <string_view>

namespace bert_rt {
namespace {

using namespace nb::literals;

std::string_view view(const nb::bytes& bytes) {
  return {static_cast<const char*>(bytes.data()), bytes.size()};
}

std::shared_ptr<EncoderDecoder> open(const nb::bytes& encoder, const nb::bytes& decoder,
                                     int num_threads, const std::string& isa, int max_memory_mb,
                                     int group_tokens) {
  const nb::gil_scoped_release released;
  try {
    return std::make_shared<EncoderDecoder>(
        view(encoder), view(decoder),
        EngineSettings{num_threads, isa, max_memory_mb, group_tokens});
  } catch (const std::invalid_argument& error) {
    throw std::invalid_argument(printable(error.what()));
  }
}

void add(Decoding& decoding, const Ints& input_ids, const Ints& cu_seqlens) {
  if (cu_seqlens.shape(0) < 1) throw std::invalid_argument("cu_seqlens: got no value, want B + 1");
  if (input_ids.shape(0) > INT32_MAX / 2 || cu_seqlens.shape(0) > INT32_MAX / 2)
    throw std::invalid_argument("input_ids: too many tokens for one batch");
  // A source is one text: all its tokens are of the first type.
  const std::vector<int32_t> types(input_ids.shape(0), 0);
  const Batch batch{input_ids.data(), types.data(), cu_seqlens.data(),
                    static_cast<int>(cu_seqlens.shape(0)) - 1};
  const nb::gil_scoped_release released;
  decoding.add(batch, static_cast<int>(input_ids.shape(0)));
}

int check_rows(const Ints& tokens, const Ints& beam_idx) {
  if (tokens.shape(0) != beam_idx.shape(0))
    throw std::invalid_argument("beam_idx: got " + std::to_string(beam_idx.shape(0)) +
                                " rows, want the " + std::to_string(tokens.shape(0)) +
                                " of tokens");
  if (tokens.shape(0) > INT32_MAX / 2) throw std::invalid_argument("tokens: too many rows");
  return static_cast<int>(tokens.shape(0));
}

void check_count(const Decoding& decoding, int count) {
  if (count < 1 || count > decoding.vocab_size())
    throw std::invalid_argument("count: got " + std::to_string(count) + ", want 1 to " +
                                std::to_string(decoding.vocab_size()));
}

nb::object step(Decoding& decoding, const Ints& tokens, const Ints& beam_idx) {
  const int rows = check_rows(tokens, beam_idx);
  StepOutput out;
  nb::object logits = make_array(
      {static_cast<size_t>(rows), static_cast<size_t>(decoding.vocab_size())}, out.logits);
  const nb::gil_scoped_release released;
  decoding.step(tokens.data(), beam_idx.data(), rows, out);
  return logits;
}

nb::tuple step_best(Decoding& decoding, const Ints& tokens, const Ints& beam_idx, int count) {
  const int rows = check_rows(tokens, beam_idx);
  check_count(decoding, count);
  StepOutput out;
  out.count = count;
  const std::vector<size_t> shape{static_cast<size_t>(rows), static_cast<size_t>(count)};
  nb::object log_probs = make_array(shape, out.log_probs);
  nb::object best = make_array(shape, out.tokens);
  {
    const nb::gil_scoped_release released;
    decoding.step(tokens.data(), beam_idx.data(), rows, out);
  }
  return nb::make_tuple(log_probs, best);
}

using Scores = nb::ndarray<const float, nb::ndim<2>, nb::c_contig, nb::device::cpu>;

nb::tuple best(const Decoding& decoding, const Scores& logits, int count) {
  check_count(decoding, count);
  if (logits.shape(1) != static_cast<size_t>(decoding.vocab_size()))
    throw std::invalid_argument("logits: got " + std::to_string(logits.shape(1)) +
                                " columns, want " + std::to_string(decoding.vocab_size()));
  StepOutput out;
  out.count = count;
  const std::vector<size_t> shape{logits.shape(0), static_cast<size_t>(count)};
  nb::object log_probs = make_array(shape, out.log_probs);
  nb::object tokens = make_array(shape, out.tokens);
  {
    const nb::gil_scoped_release released;
    decoding.best(logits.data(), static_cast<int>(logits.shape(0)), out);
  }
  return nb::make_tuple(log_probs, tokens);
}

nb::dict info(const EncoderDecoder& engine) {
  const DecoderModel& m = engine.decoder_model();
  nb::dict d;
  d["isa"] = engine.encoder().kernels().name;
  d["num_threads"] = engine.encoder().num_threads();
  d["weight_bytes"] = engine.weight_bytes();
  d["ceiling_bytes"] = engine.ceiling_bytes();
  d["group_tokens"] = engine.encoder().group_tokens();
  d["cell_bytes"] = engine.cell_bytes();
  d["source_vocab_size"] = engine.encoder().model().vocab_size;
  d["max_source_length"] = engine.encoder().model().max_position_embeddings;
  d["vocab_size"] = m.vocab_size;
  d["hidden_size"] = m.hidden_size;
  d["num_hidden_layers"] = m.layers.size();
  d["num_attention_heads"] = m.num_heads;
  d["intermediate_size"] = m.intermediate_size;
  d["max_target_length"] = m.max_position_embeddings;
  return d;
}

} // namespace

void bind_encoder_decoder(nb::module_& m) {
  nb::class_<EncoderDecoder>(m, "EncoderDecoder", "A loaded encoder with its decoder.")
      .def(nb::new_(&open), "encoder"_a, "decoder"_a, nb::kw_only(), "num_threads"_a, "isa"_a = "",
           "max_memory_mb"_a = 0, "group_tokens"_a = 0)
      .def("info", &info, "Instruction set, threads, memory and architecture.")
      .def("source_bytes", &EncoderDecoder::source_bytes, "tokens"_a,
           "Memory of a source of so many tokens while it is decoded.");
  nb::class_<Decoding>(m, "Decoding", "Sources that are being decoded, and their partial targets.")
      .def(nb::init<std::shared_ptr<EncoderDecoder>>(), "engine"_a)
      .def("add", &add, "input_ids"_a, "cu_seqlens"_a,
           "Read sources, packed, and add an empty row for each behind those that are there.")
      .def("step", &step, "tokens"_a, "beam_idx"_a,
           "Row i continues row beam_idx[i] and reads tokens[i]. Returns logits of shape (R, V).")
      .def("step_best", &step_best, "tokens"_a, "beam_idx"_a, "count"_a,
           "The same, with only the log probabilities and the ids of each row's `count` best "
           "tokens, of shape (R, count), greatest first, of equal ones the lower id.")
      .def("best", &best, "logits"_a, "count"_a, "The same of logits that step has returned.")
      .def_prop_ro("num_rows", &Decoding::num_rows)
      .def_prop_ro("num_cells", &Decoding::num_cells)
      .def_prop_ro("bytes", &Decoding::bytes);
}

} // namespace bert_rt
