#include "graph/parts.h"

#include "kernels.h"

#include <algorithm>
#include <cmath>

namespace bert_rt {

using onnx::DataType;
using std::string_view;

// Which input of an Add is a linear layer; -1: none.
int GraphParts::linear_side(const Node& add) const {
  for (int side = 0; side < 2; ++side) {
    const Node* inner = producer(add.inputs[static_cast<size_t>(side)]);
    if (inner == nullptr || inner->op_type != "Add" || inner->inputs.size() != 2) continue;
    for (size_t at = 0; at < 2; ++at) {
      const string_view product = inner->inputs[1 - at];
      if (constant(inner->inputs[at]) != nullptr && (is(product, "MatMul") || is(product, "Add")))
        return side;
    }
  }
  return -1;
}

void GraphParts::match_quantized(LinearView& view, const Node& weights, string_view input) const {
  view.is_int8 = true;
  const Tensor& w = tensor(weights, weights.inputs[0], DataType::kInt8, {-1, -1});
  GraphParts::set_shape(view, weights, w);
  view.weights_s8 = reinterpret_cast<const int8_t*>(w.bytes());
  if (weights.inputs.size() < 2) fail(weights, "want a scale");
  view.weight_scale = floats(weights, weights.inputs[1], {view.n});
  if (integer(weights, "axis", 1) != 1 && integer(weights, "axis", 1) != -1)
    fail(weights, "weights must be quantized along axis 1");
  if (weights.inputs.size() > 2 && !weights.inputs[2].empty()) {
    const Tensor& zero = tensor(weights, weights.inputs[2], DataType::kInt8, {view.n});
    if (std::any_of(zero.bytes(), zero.bytes() + view.n, [](uint8_t z) { return z != 0; }))
      fail(weights, "weights must be symmetric (zero_point 0)");
  }
  const Node& dequantize = want(input, "DequantizeLinear", 3);
  const Node& quantize = want(dequantize.inputs[0], "QuantizeLinear", 3);
  if (quantize.inputs[1] != dequantize.inputs[1] || quantize.inputs[2] != dequantize.inputs[2])
    fail(dequantize, "scale and zero_point differ from its QuantizeLinear");
  view.input_scale = *floats(quantize, quantize.inputs[1], {});
  if (!(view.input_scale >= 1e-20f && view.input_scale <= 1e20f))
    fail(quantize, "the scale must be positive");
  view.input_zero_point = *tensor(quantize, quantize.inputs[2], DataType::kUint8, {}).bytes();
  view.input = quantize.inputs[0];
  if (!is(view.input, "Mul")) return;
  const Node& mul = want(view.input, "Mul", 2);
  const size_t at = constant(mul.inputs[1]) != nullptr ? 1 : 0;
  view.smooth = floats(mul, mul.inputs[at], {view.k});
  view.input = mul.inputs[1 - at];
}
void GraphParts::set_shape(LinearView& view, const Node& user, const Tensor& weights) {
  if (weights.dims[0] > kMaxWidth || weights.dims[1] > kMaxWidth)
    fail(user, "the weight matrix is too large");
  view.k = static_cast<int>(weights.dims[0]);
  view.n = static_cast<int>(weights.dims[1]);
}

LinearView GraphParts::match_linear(string_view output) const {
  LinearView view;
  const Node& add = want(output, "Add", 2);
  const size_t side = constant(add.inputs[1]) != nullptr ? 0 : 1;
  const bool has_outliers = is(add.inputs[side], "Add");
  const Node& sum = has_outliers ? want(add.inputs[side], "Add", 2) : add;
  const size_t at = has_outliers ? outlier_side(sum) : 0;
  const Node& product = want(has_outliers ? sum.inputs[1 - at] : add.inputs[side], "MatMul", 2);
  if (is(product.inputs[1], "DequantizeLinear")) {
    GraphParts::match_quantized(view, want(product.inputs[1], "DequantizeLinear", 2),
                                product.inputs[0]);
  } else {
    const Tensor& w = tensor(product, product.inputs[1], DataType::kFloat, {-1, -1});
    GraphParts::set_shape(view, product, w);
    view.weights_f32 = data<float>(w);
    view.input = product.inputs[0];
  }
  view.bias = floats(add, add.inputs[1 - side], {view.n});
  if (has_outliers) match_outliers(view, want(sum.inputs[at], "MatMul", 2));
  return view;
}

// Which input of the sum is the product of gathered channels.
size_t GraphParts::outlier_side(const Node& sum) const {
  for (size_t side = 0; side < 2; ++side) {
    const Node& product = want(sum.inputs[side], "MatMul", 2);
    if (is(product.inputs[0], "Gather")) return side;
  }
  fail(sum, "want a quantized product and one of outlier channels");
}
void GraphParts::match_outliers(LinearView& view, const Node& product) const {
  const Node& gather = want(product.inputs[0], "Gather", 2);
  if (!view.is_int8 || gather.inputs[0] != view.input)
    fail(gather, "outlier channels must come from the input of the quantized product");
  if (integer(gather, "axis", 0) != -1 && integer(gather, "axis", 0) != 2)
    fail(gather, "want axis -1");
  const Tensor& channels = tensor(gather, gather.inputs[1], DataType::kInt64, {-1});
  if (channels.dims[0] > kPanel)
    fail(gather, "want at most " + std::to_string(kPanel) + " outlier channels");
  view.num_outliers = static_cast<int>(channels.dims[0]);
  view.outlier_channels = data<int64_t>(channels);
  for (int i = 0; i < view.num_outliers; ++i)
    if (view.outlier_channels[i] < 0 || view.outlier_channels[i] >= view.k)
      fail(gather, "an outlier channel is out of range");
  view.outlier_weight = floats(product, product.inputs[1], {channels.dims[0], view.n});
}

NormView GraphParts::match_norm(string_view output) const {
  const Node& norm = want(output, "LayerNormalization", 3);
  NormView view;
  view.input = norm.inputs[0];
  const int64_t axis = integer(norm, "axis", -1);
  if (axis != -1 && axis != 2) fail(norm, "want axis -1");
  const Tensor& gamma = tensor(norm, norm.inputs[1], DataType::kFloat, {-1});
  if (gamma.dims[0] > kMaxWidth) fail(norm, "it is too wide");
  view.d = static_cast<int>(gamma.dims[0]);
  view.gamma = data<float>(gamma);
  view.beta = floats(norm, norm.inputs[2], {view.d});
  const auto eps = norm.attributes.find("epsilon");
  view.eps = eps == norm.attributes.end() ? 1e-5f : eps->second.f;
  if (!(view.eps >= 0.0f && view.eps <= 1.0f)) fail(norm, "epsilon must lie in [0, 1]");
  return view;
}

string_view GraphParts::gelu_input(string_view output) const {
  const Node& gelu = want(output, "Gelu", 1);
  const auto approximate = gelu.attributes.find("approximate");
  if (approximate != gelu.attributes.end() && approximate->second.s != "none")
    fail(gelu, "want approximate=\"none\"");
  return gelu.inputs[0];
}

void GraphParts::collect_addends(const Node& add, int depth,
                                 std::vector<string_view>& leaves) const {
  for (size_t i = 0; i < 2; ++i) {
    if (depth == 0 && is(add.inputs[i], "Add"))
      GraphParts::collect_addends(want(add.inputs[i], "Add", 2), depth + 1, leaves);
    else
      leaves.push_back(add.inputs[i]);
  }
}

EmbeddingView GraphParts::match_embeddings(const Node& add) const {
  EmbeddingView view;
  std::vector<string_view> leaves;
  GraphParts::collect_addends(add, 0, leaves);
  for (const string_view leaf : leaves) {
    if (is(leaf, "Slice"))
      GraphParts::match_positions(view, want(leaf, "Slice", 3));
    else if (is(leaf, "Mul"))
      GraphParts::match_quantized_words(view, want(leaf, "Mul", 2));
    else if (constant(leaf) != nullptr)
      GraphParts::match_only_type(view, add, leaf);
    else
      GraphParts::match_table(view, want(leaf, "Gather", 2));
  }
  const size_t wanted = view.type == nullptr ? 2 : 3;
  if (leaves.size() != wanted || view.position == nullptr || view.vocab_size == 0)
    fail(add, "want one word and one position embedding, and at most one of types");
  return view;
}
void GraphParts::set_width(EmbeddingView& view, const Node& user, int64_t width) {
  if (width > kMaxWidth || (view.d != 0 && view.d != width))
    fail(user, "the embedding tables differ in width or are too wide");
  view.d = static_cast<int>(width);
}

void GraphParts::match_table(EmbeddingView& view, const Node& gather) const {
  const Tensor& table = tensor(gather, gather.inputs[0], DataType::kFloat, {-1, -1});
  GraphParts::set_width(view, gather, table.dims[1]);
  if (is(gather.inputs[1], "Add")) {
    GraphParts::match_split_positions(view, gather);
    view.position = data<float>(table);
    view.max_position_embeddings = static_cast<int>(table.dims[0]);
  } else if (gather.inputs[1] == "token_type_ids") {
    view.type = data<float>(table);
    view.type_vocab_size = static_cast<int>(table.dims[0]);
  } else if (gather.inputs[1] == "position_ids") {
    view.position = data<float>(table);
    view.max_position_embeddings = static_cast<int>(table.dims[0]);
  } else {
    if (gather.inputs[1] != "input_ids") fail(gather, "want input_ids as indices");
    view.word_f32 = data<float>(table);
    view.vocab_size = static_cast<int>(table.dims[0]);
  }
}

// place + type * (place in the second text + offset - place).
void GraphParts::match_split_positions(EmbeddingView& view, const Node& gather) const {
  const Node& sum = want(gather.inputs[1], "Add", 2);
  const size_t side = is(sum.inputs[0], "Mul") ? 0 : 1;
  const string_view place = sum.inputs[1 - side];
  const Node& product = want(sum.inputs[side], "Mul", 2);
  const size_t types = product.inputs[0] == "token_type_ids" ? 0 : 1;
  if (product.inputs[types] != "token_type_ids") fail(product, "want token_type_ids");
  const Node& difference = want(product.inputs[1 - types], "Sub", 2);
  const Node& moved = want(difference.inputs[0], "Add", 2);
  const size_t at = constant(moved.inputs[1]) != nullptr ? 1 : 0;
  const Tensor* offset = constant(moved.inputs[at]);
  if (difference.inputs[1] != place || offset == nullptr ||
      offset->data_type != static_cast<int>(DataType::kInt64) || offset->count() != 1)
    fail(difference, "want the place in the second text and an offset, less the place");
  GraphParts::match_count(place, "");
  GraphParts::match_count(moved.inputs[1 - at], "token_type_ids");
  const int64_t position = *data<int64_t>(*offset);
  if (position < 1 || position >= kMaxWidth) fail(moved, "the offset is out of range");
  view.passage_position = static_cast<int>(position);
}

// How many of a sequence's tokens come before each, or, of those that count, up to it, less one.
void GraphParts::match_count(string_view value, string_view counted) const {
  const Node& less = want(value, "Sub", 2);
  const Node& sum = want(less.inputs[0], "CumSum", 2);
  const bool is_whole = counted.empty() && is_index(want(sum.inputs[0], "Expand", 2).inputs[0], 1);
  if (!is_index(less.inputs[1], 1) || !is_index(sum.inputs[1], 1) ||
      integer(sum, "exclusive", 0) != 0 || integer(sum, "reverse", 0) != 0 ||
      (!is_whole && sum.inputs[0] != counted))
    fail(sum, "want a count of the tokens of a sequence, from 0 on");
}

// One vector for all tokens: the model has types and does not read them.
void GraphParts::match_only_type(EmbeddingView& view, const Node& add, string_view value) const {
  const Tensor& row = tensor(add, value, DataType::kFloat, {-1});
  GraphParts::set_width(view, add, row.dims[0]);
  view.type = data<float>(row);
}

void GraphParts::match_positions(EmbeddingView& view, const Node& slice) const {
  const Tensor& table = tensor(slice, slice.inputs[0], DataType::kFloat, {-1, -1});
  const int64_t start = *data<int64_t>(tensor(slice, slice.inputs[1], DataType::kInt64, {1}));
  if (start < 0 || start >= table.dims[0]) fail(slice, "positions must start in the table");
  GraphParts::set_width(view, slice, table.dims[1]);
  view.position = data<float>(table) + start * table.dims[1];
  view.max_position_embeddings = static_cast<int>(table.dims[0] - start);
}

void GraphParts::match_quantized_words(EmbeddingView& view, const Node& mul) const {
  const size_t side = is(mul.inputs[0], "Cast") ? 0 : 1;
  const Node& cast = want(mul.inputs[side], "Cast", 1);
  const Node& words = want(cast.inputs[0], "Gather", 2);
  const Node& scales = want(mul.inputs[1 - side], "Gather", 2);
  if (words.inputs[1] != "input_ids" || scales.inputs[1] != "input_ids")
    fail(mul, "want input_ids as indices");
  const Tensor& table = tensor(words, words.inputs[0], DataType::kInt8, {-1, -1});
  view.word_s8 = reinterpret_cast<const int8_t*>(table.bytes());
  view.vocab_size = static_cast<int>(table.dims[0]);
  view.word_scale = floats(scales, scales.inputs[0], {table.dims[0], 1});
  GraphParts::set_width(view, mul, table.dims[1]);
}

void GraphParts::set_heads(const Node& attention, int d, int& num_heads, float& scale) {
  const int64_t heads = integer(attention, "q_num_heads", 0);
  if (heads < 1 || heads > 1024 || integer(attention, "kv_num_heads", 0) != heads)
    fail(attention, "want q_num_heads == kv_num_heads, both from 1 to 1024");
  if (integer(attention, "is_causal", 0) != 0) fail(attention, "must not be causal");
  if (attention.attributes.count("softcap") != 0 && attention.attributes.at("softcap").f != 0)
    fail(attention, "softcap is not supported");
  num_heads = static_cast<int>(heads);
  if (d % num_heads != 0) fail(attention, "hidden_size must be a multiple of the heads");
  const auto given = attention.attributes.find("scale");
  scale = given != attention.attributes.end() && given->second.f != 0
              ? given->second.f
              : 1.0f / std::sqrt(static_cast<float>(d / num_heads));
  if (!(scale > 0.0f && scale < 1e6f)) fail(attention, "the scale must be positive");
}

} // namespace bert_rt
