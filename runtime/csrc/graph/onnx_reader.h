// A small reader of ONNX files: just the protobuf wire format and the messages of a graph. It
// trusts no length, copies no weight, and throws std::invalid_argument on anything damaged.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace bert_rt::onnx {

enum class DataType : int { kFloat = 1, kUint8 = 2, kInt8 = 3, kInt32 = 6, kInt64 = 7 };

// A constant. `data` points into the file or, for the typed fields, into `owned`.
struct Tensor {
  std::string_view name;
  std::vector<int64_t> dims;
  int data_type = 0;
  std::string_view data;
  std::string owned;

  int64_t count() const; // number of elements
  const uint8_t* bytes() const {
    return reinterpret_cast<const uint8_t*>(owned.empty() ? data.data() : owned.data());
  }
};

struct Attribute {
  int64_t i = 0;
  float f = 0.0f;
  std::string_view s;
  std::vector<int64_t> ints;
};

struct Node {
  std::string_view op_type;
  std::string_view name;
  std::vector<std::string_view> inputs;
  std::vector<std::string_view> outputs;
  std::map<std::string_view, Attribute> attributes;
};

// A parsed graph; it views the file's bytes, which must outlive it.
struct Graph {
  int64_t opset = 0;
  std::vector<Node> nodes;
  std::map<std::string_view, Tensor> constants; // initializers and Constant nodes
  std::vector<std::string_view> inputs;
  std::vector<std::string_view> outputs;
};

Graph read(std::string_view file);

} // namespace bert_rt::onnx
