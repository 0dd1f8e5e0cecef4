#include "graph/walk.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>

namespace bert_rt {

using onnx::DataType;
using onnx::Node;
using onnx::Tensor;
using std::string_view;

GraphWalk::GraphWalk(const onnx::Graph& graph) : graph_(graph) {
  for (const Node& node : graph.nodes)
    for (const string_view output : node.outputs)
      if (!output.empty() && !producers_.emplace(output, &node).second)
        fail(node, "its output '" + std::string(output) + "' is written twice");
}

void GraphWalk::fail_graph(const std::string& what) {
  throw std::invalid_argument("model.onnx: " + what);
}

void GraphWalk::fail(const Node& node, const std::string& what) {
  const string_view name = !node.name.empty()      ? node.name
                           : !node.outputs.empty() ? node.outputs[0]
                                                   : string_view("?");
  fail_graph("node '" + std::string(name) + "' (" + std::string(node.op_type) + "): " + what);
}

const Node* GraphWalk::producer(string_view value) const {
  const auto it = producers_.find(value);
  return it == producers_.end() ? nullptr : it->second;
}

const Node& GraphWalk::want(string_view value, string_view op, size_t num_inputs) const {
  const Node* node = producer(value);
  if (node == nullptr)
    fail_graph("value '" + std::string(value) + "' must come from " + std::string(op));
  if (node->op_type != op) fail(*node, "want " + std::string(op) + " here");
  if (node->inputs.size() < num_inputs)
    fail(*node, "want at least " + std::to_string(num_inputs) + " inputs");
  return *node;
}

bool GraphWalk::is(string_view value, string_view op) const {
  const Node* node = producer(value);
  return node != nullptr && node->op_type == op;
}

const Tensor* GraphWalk::constant(string_view value) const {
  const auto it = graph_.constants.find(value);
  return it == graph_.constants.end() ? nullptr : &it->second;
}

bool GraphWalk::is_index(string_view value, int64_t index) const {
  const Tensor* t = constant(value);
  return t != nullptr && t->data_type == static_cast<int>(DataType::kInt64) && t->count() == 1 &&
         *data<int64_t>(*t) == index;
}

const Tensor& GraphWalk::tensor(const Node& user, string_view value, DataType type,
                                const std::vector<int64_t>& dims) const {
  const Tensor* t = constant(value);
  if (t == nullptr) fail(user, "input '" + std::string(value) + "' must be a constant");
  bool fits = t->data_type == static_cast<int>(type) && t->dims.size() == dims.size();
  for (size_t i = 0; fits && i < dims.size(); ++i)
    fits = dims[i] < 0 ? t->dims[i] > 0 && t->dims[i] <= kMaxVocab : t->dims[i] == dims[i];
  if (!fits) {
    std::string got = "type " + std::to_string(t->data_type) + " shape";
    for (const int64_t d : t->dims) got.append(1, ' ').append(std::to_string(d));
    std::string wanted = "type " + std::to_string(static_cast<int>(type)) + " shape";
    for (const int64_t d : dims) wanted.append(1, ' ').append(d < 0 ? "any" : std::to_string(d));
    fail(user, "constant '" + std::string(value) + "' has " + got + ", want " + wanted);
  }
  if (type == DataType::kFloat) {
    const float* p = data<float>(*t);
    if (!std::all_of(p, p + t->count(), [](float v) { return std::isfinite(v); }))
      fail(user, "constant '" + std::string(value) + "' is not finite");
  }
  return *t;
}

const float* GraphWalk::floats(const Node& user, string_view value,
                               const std::vector<int64_t>& dims) const {
  return data<float>(tensor(user, value, DataType::kFloat, dims));
}

int64_t GraphWalk::integer(const Node& node, string_view name, int64_t otherwise) {
  const auto it = node.attributes.find(name);
  return it == node.attributes.end() ? otherwise : it->second.i;
}

} // namespace bert_rt
