#include "graph/match.h"

#include "graph/parts.h"

#include <algorithm>

namespace bert_rt {
namespace {

using onnx::DataType;
using std::string_view;

class Matcher : private GraphParts {
 public:
  using GraphParts::GraphParts;

  BertView match() {
    BertView view;
    string_view x = match_head(view);
    while (true) {
      if (view.layers.size() > graph_.nodes.size()) fail_graph("the layers form a cycle");
      NormView norm = match_norm(x);
      const Node& add = want(norm.input, "Add", 2);
      const int side = linear_side(add);
      if (side < 0) {
        view.embedding_norm = norm;
        view.embeddings = match_embeddings(add);
        break;
      }
      if (view.has_projection) fail(add, "only embeddings may be projected");
      LayerView layer = match_layer(norm, add, side);
      x = layer.qkv.input;
      view.layers.push_back(layer);
      if (is(x, "Add")) { // of embeddings that are narrower or wider than the layers
        view.has_projection = true;
        view.projection = match_linear(x);
        x = view.projection.input;
      }
    }
    std::reverse(view.layers.begin(), view.layers.end());
    if (view.layers.empty()) fail_graph("it has no encoder layer");
    if (view.embeddings.passage_position > 0) match_split(view);
    return view;
  }

 private:
  LayerView match_layer(const NormView& norm2, const Node& add2, int side2) const {
    LayerView layer;
    layer.norm2 = norm2;
    layer.ffn2 = match_linear(add2.inputs[static_cast<size_t>(side2)]);
    layer.ffn1 = match_linear(gelu_input(layer.ffn2.input));
    const string_view x1 = layer.ffn1.input;
    if (add2.inputs[static_cast<size_t>(1 - side2)] != x1)
      fail(add2, "the residual must be the input of the feed-forward layer");
    layer.norm1 = match_norm(x1);
    const Node& add1 = want(layer.norm1.input, "Add", 2);
    const int side1 = linear_side(add1);
    if (side1 < 0) fail(add1, "want the attention output and a residual");
    layer.attention = match_linear(add1.inputs[static_cast<size_t>(side1)]);
    match_attention(layer);
    if (add1.inputs[static_cast<size_t>(1 - side1)] != layer.qkv.input)
      fail(add1, "the residual must be the input of the attention");
    return layer;
  }

  void match_attention(LayerView& layer) const {
    const Node& attention = want(layer.attention.input, "Attention", 3);
    const Node& split = want(attention.inputs[0], "Split", 1);
    if (split.outputs.size() != 3 || integer(split, "axis", 0) == 0)
      fail(split, "want queries, keys and values split along the last axis");
    for (size_t i = 0; i < 3; ++i)
      if (attention.inputs[i] != split.outputs[i])
        fail(attention, "want the outputs of Split in order q, k, v");
    layer.qkv = match_linear(split.inputs[0]);
    if (attention.inputs.size() > 3) layer.mask = attention.inputs[3];
    set_heads(attention, layer.norm1.d, layer.num_heads, layer.attention_scale);
  }

  // The lowest layers have a mask of their own, by which a text sees itself only.
  void match_split(BertView& view) const {
    if (view.head != HeadKind::kSpans) fail_graph("split layers are for answering questions");
    const string_view lower = view.layers.front().mask, upper = view.layers.back().mask;
    if (lower == upper) fail_graph("no layer is split, though the two texts' positions are");
    for (const LayerView& layer : view.layers) {
      const bool is_split = layer.mask == lower;
      const bool comes_late = is_split && view.num_split_layers < &layer - view.layers.data();
      if ((!is_split && layer.mask != upper) || comes_late)
        fail_graph("want one mask for the lowest layers and another for those above");
      view.num_split_layers += is_split;
    }
    const Node& sum = want(lower, "Add", 2);
    const Node* differ = nullptr;
    for (size_t i = 0; i < 2; ++i) {
      const Node& addend = want(sum.inputs[i], "Unsqueeze", 2);
      const Node& scaled = want(addend.inputs[0], "Mul", 2);
      if (is(scaled.inputs[0], "Abs")) differ = &want(scaled.inputs[0], "Abs", 1);
    }
    if (differ == nullptr) fail(sum, "want the difference of token types");
    const Node& difference = want(differ->inputs[0], "Sub", 2);
    for (size_t i = 0; i < 2; ++i) {
      const Node& types = want(want(difference.inputs[i], "Unsqueeze", 2).inputs[0], "Cast", 1);
      if (types.inputs[0] != "token_type_ids") fail(types, "want token_type_ids");
    }
  }

  // The two logits of every token, of which `output` is column `index`: by Gather or by Split.
  string_view span_source(string_view output, int64_t index) const {
    if (is(output, "Gather")) {
      const Node& gather = want(output, "Gather", 2);
      const int64_t axis = integer(gather, "axis", 0);
      if ((axis != 2 && axis != -1) || !is_index(gather.inputs[1], index))
        fail(gather, "want start logits first and end logits second");
      return gather.inputs[0];
    }
    const Node& squeeze = want(output, "Squeeze", 1);
    const Node& split = want(squeeze.inputs[0], "Split", 1);
    if (split.outputs.size() != 2 || split.outputs[static_cast<size_t>(index)] != squeeze.inputs[0])
      fail(split, "want start logits first and end logits second");
    return split.inputs[0];
  }

  // Returns the value that the head reads: the last hidden state.
  string_view match_head(BertView& view) const {
    const auto has = [this](string_view name) {
      return std::find(graph_.outputs.begin(), graph_.outputs.end(), name) != graph_.outputs.end();
    };
    if (has("start_logits") && has("end_logits")) {
      const string_view both = span_source("start_logits", 0);
      if (span_source("end_logits", 1) != both)
        fail_graph("start_logits and end_logits come from different layers");
      view.head = HeadKind::kSpans;
      view.output = match_linear(both);
      if (view.output.n != 2) fail_graph("the head must give two logits a token");
      return view.output.input;
    }
    if (has("cross_keys.0")) return match_memory(view);
    if (!has("logits")) fail_graph("its outputs are neither start_logits, end_logits nor logits");
    view.output = match_linear("logits");
    if (is(view.output.input, "LayerNormalization")) { // of the last layer
      view.head = HeadKind::kTokens;
      return view.output.input;
    }
    view.head = HeadKind::kPooled;
    view.pooler = match_linear(match_activation(view));
    const Node& gather = want(view.pooler.input, "Gather", 2);
    if (integer(gather, "axis", 0) != 1 || !is_index(gather.inputs[1], 0))
      fail(gather, "want the first token of every sequence");
    return gather.inputs[0];
  }

  // Keys, then values, of each layer of a decoder.
  string_view match_memory(BertView& view) const {
    view.head = HeadKind::kMemory;
    const Node& split = want("cross_keys.0", "Split", 1);
    if (integer(split, "axis", 0) != -1 && integer(split, "axis", 0) != 2)
      fail(split, "want axis -1");
    if (split.inputs.size() > 1) fail(split, "want parts of equal width");
    for (size_t i = 0; i < split.outputs.size(); ++i) {
      const std::string name = i % 2 == 0 ? "cross_keys." : "cross_values.";
      if (split.outputs[i] != name + std::to_string(i / 2))
        fail(split, "want the keys and the values of each layer in turn");
    }
    view.num_memories = static_cast<int>(split.outputs.size());
    view.output = match_linear(split.inputs[0]);
    string_view states = view.output.input;
    if (!is(states, "LayerNormalization")) {
      view.has_states = true;
      view.states = match_linear(states);
      states = view.states.input;
    }
    return states;
  }

  // Returns the input of the activation between the two layers of a classifier.
  string_view match_activation(BertView& view) const {
    const string_view value = view.output.input;
    if (is(value, "Gelu")) {
      view.pooler_activation = Activation::kGelu;
      return gelu_input(value);
    }
    const bool is_relu = is(value, "Relu");
    view.pooler_activation = is_relu ? Activation::kRelu : Activation::kTanh;
    return want(value, is_relu ? "Relu" : "Tanh", 1).inputs[0];
  }
};

} // namespace

BertView match_bert(const onnx::Graph& graph) { return Matcher(graph).match(); }

} // namespace bert_rt
