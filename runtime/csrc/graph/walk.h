// Steps through a graph from values to what makes them, and takes constants only of the type and
// shape that is wanted. Anything else throws std::invalid_argument naming the node.
#pragma once

#include "graph/onnx_reader.h"

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace bert_rt {

constexpr int64_t kMaxWidth = int64_t{1} << 20;
constexpr int64_t kMaxVocab = int64_t{1} << 26;

class GraphWalk {
 public:
  explicit GraphWalk(const onnx::Graph& graph);

 protected:
  using Node = onnx::Node;
  using Tensor = onnx::Tensor;

  [[noreturn]] static void fail_graph(const std::string& what);
  [[noreturn]] static void fail(const Node& node, const std::string& what);

  // The node that makes a value; null: none.
  const Node* producer(std::string_view value) const;
  // The same, where it must be of that kind and have that many inputs.
  const Node& want(std::string_view value, std::string_view op, size_t num_inputs) const;
  bool is(std::string_view value, std::string_view op) const;

  const Tensor* constant(std::string_view value) const;
  // Whether a value is a constant that holds this one index.
  bool is_index(std::string_view value, int64_t index) const;
  // A constant of that type and shape (-1: any length), its floats finite.
  const Tensor& tensor(const Node& user, std::string_view value, onnx::DataType type,
                       const std::vector<int64_t>& dims) const;
  const float* floats(const Node& user, std::string_view value,
                      const std::vector<int64_t>& dims) const;
  template <class T> // the reader aligns what it keeps
  static const T* data(const Tensor& t) {
    return reinterpret_cast<const T*>(t.bytes());
  }
  static int64_t integer(const Node& node, std::string_view name, int64_t otherwise);

  const onnx::Graph& graph_;

 private:
  std::map<std::string_view, const Node*> producers_;
};

} // namespace bert_rt
