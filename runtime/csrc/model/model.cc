#include "model/model.h"

#include "model/model_parts.h"

namespace bert_rt {
namespace {

void build_layer(const LayerView& view, const Model& model, Layer& layer, Jobs& jobs) {
  const int d = model.hidden_size;
  require(view.num_heads == model.num_heads, "the layers differ in their number of heads");
  check_shape(view.qkv, d, 3 * d, "query-key-value weight");
  check_shape(view.attention, d, d, "attention output weight");
  const IndexMap width = identity(d, kPanel);
  build_linear(view.qkv, width, padded_heads(3, model.num_heads, model.head_dim), layer.qkv, jobs);
  build_linear(view.attention, padded_heads(1, model.num_heads, model.head_dim), width,
               layer.attention, jobs);
  build_feed_forward(view.ffn1, view.ffn2, d, model.intermediate_size, layer.feed_forward, jobs);
  layer.norm1 = build_norm(view.norm1, d);
  layer.norm2 = build_norm(view.norm2, d);
  layer.attention_scale = view.attention_scale;
}

void build_projection(const BertView& view, Model& model, Jobs& jobs) {
  const int d = model.hidden_size, e = model.embeddings.size;
  require(e % kPanel == 0, "the embeddings are " + std::to_string(e) +
                               " wide, want a multiple of " + std::to_string(kPanel));
  if (view.has_projection) {
    require(!view.projection.is_int8, "the projection of the embeddings must be in float");
    check_shape(view.projection, e, d, "projection of the embeddings");
    build_linear(view.projection, identity(e, kPanel), identity(d, kPanel), model.projection, jobs);
  } else {
    require(e == d, "the embeddings are " + std::to_string(e) + " wide, the layers " +
                        std::to_string(d) + ", and nothing is between them");
  }
}

void build_head(const BertView& view, Model& model, Jobs& jobs) {
  const int d = model.hidden_size;
  require(!view.output.is_int8 && !view.pooler.is_int8, "the head must be in float");
  model.num_labels = view.output.n;
  check_shape(view.output, d, view.output.n, "head weight");
  build_linear(view.output, identity(d, kPanel), identity(view.output.n, kPanel), model.output,
               jobs);
  if (model.head != HeadKind::kPooled) return;
  check_shape(view.pooler, d, d, "pooler weight");
  build_linear(view.pooler, identity(d, kPanel), identity(d, kPanel), model.pooler, jobs);
  model.pooler_activation = view.pooler_activation;
}

// Keys and values for the layers of a decoder.
void build_memory(const BertView& view, const MemoryShape& shape, Model& model, Jobs& jobs) {
  const int width = shape.num_heads * shape.head_dim;
  int d = model.hidden_size;
  model.memory = shape;
  require(view.num_memories == 2 * shape.num_layers,
          "it has " + std::to_string(view.num_memories) + " keys and values, want the " +
              std::to_string(2 * shape.num_layers) + " of decoder.onnx");
  if (view.has_states) {
    require(!view.states.is_int8, "the projection of the hidden states must be in float");
    check_shape(view.states, d, width, "projection of the hidden states");
    build_linear(view.states, identity(d, kPanel), identity(width, kPanel), model.states, jobs);
    d = width;
  }
  check_shape(view.output, d, view.num_memories * width, "key-value weight");
  build_linear(view.output, identity(d, kPanel),
               padded_heads(view.num_memories, shape.num_heads, shape.head_dim), model.output,
               jobs);
}

} // namespace

size_t Model::bytes() const {
  size_t total =
      embeddings.bytes() + projection.bytes() + output.bytes() + pooler.bytes() + states.bytes();
  for (const Layer& l : layers)
    total += l.qkv.bytes() + l.attention.bytes() + l.feed_forward.bytes();
  return total;
}

Model load_model(std::string_view file, int num_threads, bool sums_in_16_bits,
                 const MemoryShape& memory) {
  const onnx::Graph graph = onnx::read(file);
  const BertView view = match_bert(graph);
  Model model;
  model.hidden_size = view.layers[0].norm2.d;
  model.vocab_size = view.embeddings.vocab_size;
  model.type_vocab_size = view.embeddings.type_vocab_size;
  model.max_position_embeddings = view.embeddings.max_position_embeddings;
  model.num_heads = view.layers[0].num_heads;
  model.intermediate_size = view.layers[0].ffn1.n;
  model.head_dim = check_heads(model.hidden_size, model.num_heads);
  model.padded_head_dim = round_up(model.head_dim, kPanel);
  require(model.max_position_embeddings <= kMaxPositions,
          "max_position_embeddings is " + std::to_string(model.max_position_embeddings) +
              ", want at most " + std::to_string(kMaxPositions));
  model.num_split_layers = view.num_split_layers;
  model.passage_position = view.embeddings.passage_position;
  require(model.passage_position < model.max_position_embeddings,
          "passages begin at position " + std::to_string(model.passage_position) + " of " +
              std::to_string(model.max_position_embeddings));
  model.head = view.head;
  require((model.head == HeadKind::kMemory) == (memory.num_layers > 0),
          memory.num_layers > 0 ? "it must end in keys and values for a decoder"
                                : "it ends in keys and values for a decoder: it is no whole model");

  Jobs jobs{sums_in_16_bits};
  build_embeddings(view.embeddings, view.embedding_norm, model.embeddings, jobs);
  build_projection(view, model, jobs);
  model.layers = std::vector<Layer>(view.layers.size());
  for (size_t i = 0; i < view.layers.size(); ++i)
    build_layer(view.layers[i], model, model.layers[i], jobs);
  if (model.head == HeadKind::kMemory)
    build_memory(view, memory, model, jobs);
  else
    build_head(view, model, jobs);
  jobs.run(num_threads);
  return model;
}

} // namespace bert_rt
