// The Python module bert_rt._native.
#include "bindings.h"

#include "cpu/cpu_features.h"
#include "engine.h"
#include "testing.h"
#include "text/wordpiece.h"

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

namespace nb = nanobind;
using namespace nb::literals;

namespace bert_rt {
namespace {

using Ranges = nb::ndarray<const int32_t, nb::shape<-1, 2>, nb::c_contig, nb::device::cpu>;
using States = nb::ndarray<const float, nb::shape<-1, -1>, nb::c_contig, nb::device::cpu>;

nb::object run(Engine& engine, const Ints& input_ids, const Ints& token_type_ids,
               const Ints& cu_seqlens, const std::optional<Ranges>& logit_ranges) {
  const size_t tokens = input_ids.shape(0);
  if (token_type_ids.shape(0) != tokens)
    throw std::invalid_argument("token_type_ids: got " + std::to_string(token_type_ids.shape(0)) +
                                " values, want the " + std::to_string(tokens) + " of input_ids");
  if (cu_seqlens.shape(0) < 1) throw std::invalid_argument("cu_seqlens: got no value, want B + 1");
  if (tokens > INT32_MAX / 2 || cu_seqlens.shape(0) > INT32_MAX / 2)
    throw std::invalid_argument("input_ids: too many tokens for one batch");
  Batch batch{input_ids.data(), token_type_ids.data(), cu_seqlens.data(),
              static_cast<int>(cu_seqlens.shape(0)) - 1};
  if (logit_ranges.has_value()) {
    if (logit_ranges->shape(0) + 1 != cu_seqlens.shape(0))
      throw std::invalid_argument("logit_ranges: got " + std::to_string(logit_ranges->shape(0)) +
                                  " ranges, want one for each of the " +
                                  std::to_string(batch.num_sequences) + " sequences");
    batch.logit_ranges = logit_ranges->data();
  }
  engine.check(batch, static_cast<int>(tokens));
  const Model& model = engine.model();
  Output out{};
  nb::object result;
  if (model.head == HeadKind::kSpans) {
    nb::object start = make_array({tokens}, out.start_logits);
    nb::object end = make_array({tokens}, out.end_logits);
    result = nb::make_tuple(start, end);
  } else {
    const size_t rows =
        model.head == HeadKind::kTokens ? tokens : static_cast<size_t>(batch.num_sequences);
    result = make_array({rows, static_cast<size_t>(model.num_labels)}, out.logits);
  }
  {
    const nb::gil_scoped_release released;
    engine.run(batch, out);
  }
  return result;
}

// Passages one behind the other, of type 1 all of them, checked.
template <class Work>
void with_passages(const Engine& engine, const Ints& input_ids, const Ints& cu_seqlens,
                   const Work& work) {
  const size_t tokens = input_ids.shape(0);
  if (cu_seqlens.shape(0) < 1) throw std::invalid_argument("cu_seqlens: got no value, want B + 1");
  if (tokens > INT32_MAX / 2 || cu_seqlens.shape(0) > INT32_MAX / 2)
    throw std::invalid_argument("input_ids: too many tokens for one batch");
  const std::vector<int32_t> types(tokens, 1);
  const Batch batch{input_ids.data(), types.data(), cu_seqlens.data(),
                    static_cast<int>(cu_seqlens.shape(0)) - 1};
  engine.check(batch, static_cast<int>(tokens));
  const nb::gil_scoped_release released;
  work(batch);
}

void prepare(Engine& engine, const Ints& input_ids, const Ints& cu_seqlens) {
  with_passages(engine, input_ids, cu_seqlens, [&](const Batch& batch) { engine.prepare(batch); });
}

nb::object prepared_states(Engine& engine, const Ints& input_ids, const Ints& cu_seqlens) {
  const Model& m = engine.model();
  if (m.num_split_layers == 0) throw std::invalid_argument("model.onnx: has no split layers");
  float* states = nullptr;
  nb::object result = make_array({input_ids.shape(0), static_cast<size_t>(m.hidden_size)}, states);
  with_passages(engine, input_ids, cu_seqlens,
                [&](const Batch& batch) { engine.prepare(batch, states); });
  return result;
}

void keep(Engine& engine, const Ints& input_ids, const Ints& cu_seqlens, const States& states) {
  const auto width = static_cast<size_t>(engine.model().hidden_size);
  if (states.shape(0) != input_ids.shape(0) || states.shape(1) != width)
    throw std::invalid_argument("states: got shape (" + std::to_string(states.shape(0)) + ", " +
                                std::to_string(states.shape(1)) + "), want (" +
                                std::to_string(input_ids.shape(0)) + ", " + std::to_string(width) +
                                ")");
  with_passages(engine, input_ids, cu_seqlens,
                [&](const Batch& batch) { engine.keep(batch, states.data()); });
}

nb::dict context_cache(Engine& engine) {
  const ContextCacheFacts facts = engine.context_cache();
  nb::dict d;
  d["num_contexts"] = facts.size;
  d["num_bytes"] = facts.bytes;
  d["max_bytes"] = facts.max_bytes;
  d["num_hits"] = facts.num_hits;
  d["num_misses"] = facts.num_misses;
  return d;
}

Engine* open(const nb::bytes& model, int num_threads, const std::string& isa, int max_memory_mb,
             int group_tokens, int max_context_cache_mb) {
  const std::string_view file(static_cast<const char*>(model.data()), model.size());
  const nb::gil_scoped_release released;
  try {
    return new Engine(file, {num_threads, isa, max_memory_mb, group_tokens, max_context_cache_mb});
  } catch (const std::invalid_argument& error) {
    throw std::invalid_argument(printable(error.what()));
  }
}

// Hands a vector's numbers to NumPy, read-only; width 0 makes a row of them.
nb::object hand_over(std::vector<int32_t>&& numbers, size_t width) {
  auto* kept = new std::vector<int32_t>(std::move(numbers));
  const nb::capsule owner(kept,
                          [](void* p) noexcept { delete static_cast<std::vector<int32_t>*>(p); });
  const size_t shape[2] = {width == 0 ? kept->size() : kept->size() / width, width};
  return nb::cast(
      nb::ndarray<nb::numpy, const int32_t>(kept->data(), width == 0 ? 1 : 2, shape, owner));
}

nb::object encode(const WordPiece& wordpiece, const nb::str& text) {
  Py_ssize_t size = 0;
  const char* bytes = PyUnicode_AsUTF8AndSize(text.ptr(), &size);
  if (bytes == nullptr) throw nb::python_error(); // a lone surrogate
  if (size >= INT32_MAX) throw std::invalid_argument("text: too long");
  const std::string_view view(bytes, static_cast<size_t>(size));
  std::vector<WordPiece::Token> tokens;
  std::vector<WordPiece::Rest> rests;
  bool is_done = false;
  constexpr size_t kLongText = 1 << 16; // beyond some hundred microseconds others get the GIL
  if (view.size() < kLongText) {
    is_done = wordpiece.encode(view, tokens, rests);
  } else {
    const nb::gil_scoped_release released;
    is_done = wordpiece.encode(view, tokens, rests);
  }
  if (!is_done) return nb::none();
  std::vector<int32_t> ids, spans;
  ids.reserve(tokens.size());
  spans.reserve(2 * tokens.size());
  for (const WordPiece::Token& t : tokens) {
    ids.push_back(t.id);
    spans.push_back(t.begin);
    spans.push_back(t.end);
  }
  nb::list left;
  for (const WordPiece::Rest& r : rests) left.append(nb::make_tuple(r.at, r.begin, r.end));
  return nb::make_tuple(hand_over(std::move(ids), 0), hand_over(std::move(spans), 2), left);
}

nb::dict info(const Engine& engine) {
  const Model& m = engine.model();
  nb::dict d;
  d["isa"] = engine.kernels().name;
  d["num_threads"] = engine.num_threads();
  d["weight_bytes"] = engine.weight_bytes();
  d["ceiling_bytes"] = engine.ceiling_bytes();
  d["group_tokens"] = engine.group_tokens();
  nb::dict outputs; // name to kind, in the order of run's arrays
  if (m.head == HeadKind::kSpans) {
    outputs["start_logits"] = "token";
    outputs["end_logits"] = "token";
  } else {
    outputs["logits"] = m.head == HeadKind::kTokens ? "token" : "sequence";
  }
  d["outputs"] = outputs;
  d["num_labels"] = m.num_labels;
  d["vocab_size"] = m.vocab_size;
  d["hidden_size"] = m.hidden_size;
  d["num_hidden_layers"] = m.layers.size();
  d["num_attention_heads"] = m.num_heads;
  d["intermediate_size"] = m.intermediate_size;
  d["max_position_embeddings"] = m.max_position_embeddings;
  d["type_vocab_size"] = m.type_vocab_size;
  d["num_split_layers"] = m.num_split_layers;
  d["passage_position_offset"] = m.passage_position;
  return d;
}

std::vector<std::string> supported_isas() {
  std::vector<std::string> names;
  for (const Kernels* k : supported_kernels()) names.emplace_back(k->name);
  return names;
}

nb::dict build_info() {
  nb::dict d;
#if defined(__clang__)
  d["compiler"] = std::string("clang ") + __clang_version__;
#else
  d["compiler"] = std::string("gcc ") + __VERSION__;
#endif
  d["cxx_standard"] = static_cast<long>(__cplusplus);
  d["version"] = BERT_RT_VERSION;
  nb::list isas;
#if defined(BERT_RT_AMX)
  isas.append("amx_int8");
#endif
#if defined(BERT_RT_X86)
  isas.append("avx512vnni");
#endif
#if defined(BERT_RT_AVXVNNI)
  isas.append("avxvnni");
#endif
#if defined(BERT_RT_X86)
  isas.append("avx512bw");
  isas.append("avx2");
#endif
#if defined(BERT_RT_I8MM)
  isas.append("neon_i8mm");
#endif
#if defined(BERT_RT_ARM64)
  isas.append("neon_dotprod");
#endif
  isas.append("scalar");
  d["compiled_isas"] = isas;
  return d;
}

} // namespace
} // namespace bert_rt

NB_MODULE(_native, m) {
  using namespace bert_rt;
  m.doc() = "Padding-free INT8 BERT on CPU.";
  nb::set_leak_warnings(false); // a process may end with a tokenizer in a module's globals
  nb::class_<Engine>(m, "Engine", "A loaded model, ready to run packed batches.")
      .def(nb::new_(&open), "model"_a, nb::kw_only(), "num_threads"_a, "isa"_a = "",
           "max_memory_mb"_a = 0, "group_tokens"_a = 0, "max_context_cache_mb"_a = 0)
      .def("run", &run, "input_ids"_a, "token_type_ids"_a, "cu_seqlens"_a,
           "logit_ranges"_a = nb::none(),
           "Compute (start_logits, end_logits) of shape (T,), or logits of shape (T, C) or (B, C). "
           "Beside "
           "those of first tokens, only logits in the ranges of shape (B, 2) are computed; others "
           "are 0.")
      .def("prepare", &prepare, "input_ids"_a, "cu_seqlens"_a,
           "Compute what split layers make of passages, and keep it as far as the cache has room.")
      .def("prepared_states", &prepared_states, "input_ids"_a, "cu_seqlens"_a,
           "Do as prepare does, and return it, of shape (T, D).")
      .def("keep", &keep, "input_ids"_a, "cu_seqlens"_a, "states"_a,
           "Keep what prepared_states returned, of shape (T, D), as far as the cache has room.")
      .def("forget", &Engine::forget, "Empty the cache of passages.")
      .def("context_bytes", &Engine::context_bytes, "tokens"_a,
           "Return what a passage of so many tokens takes of the cache.")
      .def("context_cache", &context_cache, "What the cache of passages holds and was asked for.")
      .def("info", &info, "Instruction set, threads, memory and architecture.");
  nb::class_<WordPiece>(m, "WordPiece", "BERT's WordPiece for words of plain ASCII.")
      .def(
          "__init__",
          [](WordPiece* self, const std::vector<std::string>& tokens,
             const std::vector<int32_t>& ids, const std::string& prefix, int32_t unknown_id,
             int max_chars, bool lowercase) {
            new (self) WordPiece(tokens, ids, {prefix, unknown_id, max_chars, lowercase});
          },
          "tokens"_a, "ids"_a, nb::kw_only(), "prefix"_a, "unknown_id"_a, "max_chars"_a,
          "lowercase"_a)
      .def("encode", &encode, "text"_a,
           "Encode into ids of shape (T,), spans in characters of shape (T, 2), and what is left "
           "to the library, [(before which token, begin, end)]; None where that is too much.");
  m.def("cpu_features", &feature_names, "Names of the instruction set extensions present.");
  m.def("supported_isas", &supported_isas, "Kernel tables that can run here, best first.");
  m.def("build_info", &build_info, "Compiler, version and instruction sets compiled in.");
  m.def("measure_peak", &measure_peak, "isa"_a, "seconds"_a = 0.1,
        nb::call_guard<nb::gil_scoped_release>(),
        "Operations a second of one thread's dot-product unit (two per multiply-add).");
  m.def("measure_issue_width", &measure_issue_width, nb::call_guard<nb::gil_scoped_release>(),
        "Instructions a cycle that a core takes from one thread; fewer beside a busy neighbour.");
  bind_encoder_decoder(m);
  bind_testing(m.def_submodule("testing", "Every kernel table, for the tests."));
}
