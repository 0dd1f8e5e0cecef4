#include "graph/match_decoder.h"

#include "graph/parts.h"

#include <algorithm>
#include <string>

namespace bert_rt {
namespace {

using std::string_view;

constexpr size_t kInputsWithPast = 6; // of an Attention

class Matcher : private GraphParts {
 public:
  using GraphParts::GraphParts;

  DecoderView match() {
    if (has_input("beam_idx"))
      fail_graph(
          "it has an input beam_idx, as earlier versions made it; compile the checkpoint again");
    DecoderView view;
    view.vocabulary = match_linear("logits");
    view.transform_norm = match_norm(view.vocabulary.input);
    view.transform = match_linear(gelu_input(view.transform_norm.input));
    string_view x = view.transform.input;
    for (int index = count_layers(); index > 0; --index) {
      view.layers.push_back(match_layer(x, std::to_string(index - 1)));
      x = view.layers.back().qkv.input;
    }
    if (view.layers.empty()) fail_graph("it has no inputs past_keys");
    std::reverse(view.layers.begin(), view.layers.end());
    view.embedding_norm = match_norm(x);
    view.embeddings = match_embeddings(want(view.embedding_norm.input, "Add", 2));
    return view;
  }

 private:
  bool has_input(string_view name) const {
    return std::find(graph_.inputs.begin(), graph_.inputs.end(), name) != graph_.inputs.end();
  }

  int count_layers() const {
    return static_cast<int>(
        std::count_if(graph_.inputs.begin(), graph_.inputs.end(), [](string_view name) {
          constexpr string_view prefix = "past_keys.";
          return name.substr(0, prefix.size()) == prefix;
        }));
  }

  // Splits norm(linear + residual); returns the value that the residual is.
  string_view match_sum(string_view output, NormView& norm, LinearView& linear) const {
    norm = match_norm(output);
    const Node& add = want(norm.input, "Add", 2);
    const int side = linear_side(add);
    if (side < 0) fail(add, "want a linear layer and a residual");
    linear = match_linear(add.inputs[static_cast<size_t>(side)]);
    return add.inputs[static_cast<size_t>(1 - side)];
  }

  DecoderLayerView match_layer(string_view output, const std::string& index) const {
    DecoderLayerView layer;
    const string_view x2 = match_sum(output, layer.norm3, layer.ffn2);
    layer.ffn1 = match_linear(gelu_input(layer.ffn2.input));
    if (layer.ffn1.input != x2)
      fail_graph("layer " + index + ": the residual must be the input of the feed-forward layer");
    const string_view x1 = match_sum(x2, layer.norm2, layer.cross_attention);
    match_cross_attention(layer, index);
    if (layer.cross_query.input != x1)
      fail_graph("layer " + index + ": the residual must be the input of the cross attention");
    const string_view x = match_sum(x1, layer.norm1, layer.attention);
    match_self_attention(layer, index);
    if (layer.qkv.input != x)
      fail_graph("layer " + index + ": the residual must be the input of the self-attention");
    return layer;
  }

  void match_cross_attention(DecoderLayerView& layer, const std::string& index) const {
    const Node& attention = want(layer.cross_attention.input, "Attention", 3);
    if (attention.inputs[1] != "cross_keys." + index ||
        attention.inputs[2] != "cross_values." + index)
      fail(attention, "want cross_keys and cross_values of layer " + index);
    layer.cross_query = match_linear(attention.inputs[0]);
    set_heads(attention, layer.norm3.d, layer.num_heads, layer.cross_scale);
  }

  void match_self_attention(DecoderLayerView& layer, const std::string& index) const {
    const Node& attention = want(layer.attention.input, "Attention", kInputsWithPast);
    const Node& split = want(attention.inputs[0], "Split", 1);
    if (split.outputs.size() != 3 || split.inputs.size() > 1 || integer(split, "axis", 0) == 0 ||
        split.outputs[0] != attention.inputs[0])
      fail(split, "want queries, keys and values split along the last axis, in this order");
    for (size_t i = 1; i <= 2; ++i) {
      const std::string past = (i == 1 ? "past_keys." : "past_values.") + index;
      if (attention.inputs[i] != split.outputs[i] || attention.inputs[i + 3] != past)
        fail(attention, "want this token's keys and values behind " + past);
    }
    layer.qkv = match_linear(split.inputs[0]);
    int num_heads = 0;
    set_heads(attention, layer.norm3.d, num_heads, layer.attention_scale);
    if (num_heads != layer.num_heads) fail(attention, "both attentions must have as many heads");
  }
};

} // namespace

DecoderView match_decoder(const onnx::Graph& graph) { return Matcher(graph).match(); }

} // namespace bert_rt
