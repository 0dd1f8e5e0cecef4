#include "decoding/decoder_model.h"

#include "graph/match_decoder.h"
#include "model/model_parts.h"

namespace bert_rt {
namespace {

void build_layer(const DecoderLayerView& view, const DecoderModel& model, DecoderLayer& layer,
                 Jobs& jobs) {
  const int d = model.hidden_size;
  require(view.num_heads == model.num_heads, "the layers differ in their number of heads");
  check_shape(view.qkv, d, 3 * d, "query-key-value weight");
  check_shape(view.attention, d, d, "attention output weight");
  check_shape(view.cross_query, d, d, "cross attention's query weight");
  check_shape(view.cross_attention, d, d, "cross attention's output weight");
  const IndexMap width = identity(d, kPanel);
  const auto heads = [&model](int parts) {
    return padded_heads(parts, model.num_heads, model.head_dim);
  };
  build_linear(view.qkv, width, heads(3), layer.qkv, jobs);
  build_linear(view.attention, heads(1), width, layer.attention, jobs);
  build_linear(view.cross_query, width, heads(1), layer.cross_query, jobs);
  build_linear(view.cross_attention, heads(1), width, layer.cross_attention, jobs);
  build_feed_forward(view.ffn1, view.ffn2, d, model.intermediate_size, layer.feed_forward, jobs);
  layer.norm1 = build_norm(view.norm1, d);
  layer.norm2 = build_norm(view.norm2, d);
  layer.norm3 = build_norm(view.norm3, d);
  layer.attention_scale = view.attention_scale;
  layer.cross_scale = view.cross_scale;
}

void build_vocabulary(const DecoderView& view, DecoderModel& model, Jobs& jobs) {
  const int d = model.hidden_size, v = model.vocab_size;
  check_shape(view.transform, d, d, "transform weight");
  build_linear(view.transform, identity(d, kPanel), identity(d, kPanel), model.transform, jobs);
  model.transform_norm = build_norm(view.transform_norm, d);
  check_shape(view.vocabulary, d, v, "vocabulary weight");
  build_linear(view.vocabulary, identity(d, kPanel), identity(v, kPanel), model.vocabulary, jobs);
  for (int c = v; c < model.vocabulary.n; ++c)
    model.vocabulary.bias[static_cast<size_t>(c)] = kPaddingScore;
}

constexpr ptrdiff_t aligned(ptrdiff_t bytes) { return (bytes + 63) / 64 * 64; }

} // namespace

size_t DecoderModel::bytes() const {
  size_t total = embeddings.bytes() + transform.bytes() + vocabulary.bytes();
  for (const DecoderLayer& l : layers)
    total += l.qkv.bytes() + l.attention.bytes() + l.cross_query.bytes() +
             l.cross_attention.bytes() + l.feed_forward.bytes();
  return total;
}

CellLayout DecoderModel::cell_layout(int layer) const {
  const ptrdiff_t width = context_width(), scales = ptrdiff_t{4} * num_heads;
  const ptrdiff_t k = kCellHeader + layer * aligned(2 * width + 2 * scales);
  return {k, k + width, k + 2 * width, k + 2 * width + scales};
}

size_t DecoderModel::cell_bytes() const {
  return static_cast<size_t>(cell_layout(static_cast<int>(layers.size())).k);
}

DecoderModel load_decoder(std::string_view file, int num_threads, bool sums_in_16_bits) {
  const onnx::Graph graph = onnx::read(file);
  const DecoderView view = match_decoder(graph);
  DecoderModel model;
  model.hidden_size = view.layers[0].norm3.d;
  model.vocab_size = view.embeddings.vocab_size;
  model.max_position_embeddings = view.embeddings.max_position_embeddings;
  model.num_heads = view.layers[0].num_heads;
  model.intermediate_size = view.layers[0].ffn1.n;
  model.head_dim = check_heads(model.hidden_size, model.num_heads);
  model.padded_head_dim = round_up(model.head_dim, kPanel);
  require(view.embeddings.d == model.hidden_size,
          "the embeddings are " + std::to_string(view.embeddings.d) + " wide, the layers " +
              std::to_string(model.hidden_size));
  require(view.embeddings.type_vocab_size == 0, "a decoder has no token types to read");
  require(model.max_position_embeddings <= kMaxPositions,
          "max_position_embeddings is " + std::to_string(model.max_position_embeddings) +
              ", want at most " + std::to_string(kMaxPositions));

  Jobs jobs{sums_in_16_bits};
  build_embeddings(view.embeddings, view.embedding_norm, model.embeddings, jobs);
  model.layers = std::vector<DecoderLayer>(view.layers.size());
  for (size_t i = 0; i < view.layers.size(); ++i)
    build_layer(view.layers[i], model, model.layers[i], jobs);
  build_vocabulary(view, model, jobs);
  jobs.run(num_threads);
  return model;
}

} // namespace bert_rt
