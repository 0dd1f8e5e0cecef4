#include "graph/onnx_reader.h"

#include <cstring>
#include <stdexcept>

namespace bert_rt::onnx {
namespace {

constexpr int64_t kMaxElements = int64_t{1} << 33;

[[noreturn]] void fail(const std::string& what) {
  throw std::invalid_argument("model.onnx: " + what);
}

// One message's fields, in file order.
class Fields {
 public:
  explicit Fields(std::string_view bytes) : left_(bytes) {}

  // Moves to the next field; false at the end.
  bool next() {
    if (left_.empty()) return false;
    const uint64_t key = varint();
    if (key >> 32 != 0 || key >> 3 == 0) fail("damaged field key");
    number_ = static_cast<int>(key >> 3);
    type_ = static_cast<int>(key & 7);
    switch (type_) {
    case 0: integer_ = varint(); break;
    case 1: bytes_ = take(8); break;
    case 2: {
      const uint64_t length = varint();
      if (length > left_.size()) fail("a length reaches beyond the end of the file");
      bytes_ = take(static_cast<size_t>(length));
      break;
    }
    case 5: bytes_ = take(4); break;
    default: fail("unknown wire type " + std::to_string(type_));
    }
    return true;
  }

  int number() const { return number_; }
  int64_t integer() const {
    want(0);
    return static_cast<int64_t>(integer_);
  }
  std::string_view bytes() const {
    want(2);
    return bytes_;
  }
  float real() const {
    want(5);
    float value = 0.0f;
    std::memcpy(&value, bytes_.data(), 4);
    return value;
  }
  // A repeated number: packed or one at a time.
  void integers(std::vector<int64_t>& to) const {
    if (type_ == 0) {
      to.push_back(integer());
      return;
    }
    Fields packed(bytes());
    while (!packed.left_.empty()) to.push_back(static_cast<int64_t>(packed.varint()));
  }
  void reals(std::string& to) const {
    if (type_ != 5 && (bytes().size() % 4) != 0) fail("damaged float data");
    to.append(bytes_);
  }

 private:
  void want(int type) const {
    if (type_ != type)
      fail("field " + std::to_string(number_) + " has wire type " + std::to_string(type_) +
           ", want " + std::to_string(type));
  }
  std::string_view take(size_t count) {
    if (count > left_.size()) fail("the file ends within a field");
    const std::string_view piece = left_.substr(0, count);
    left_.remove_prefix(count);
    return piece;
  }
  uint64_t varint() {
    uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      if (left_.empty()) fail("the file ends within a number");
      const auto byte = static_cast<uint8_t>(left_.front());
      left_.remove_prefix(1);
      value |= uint64_t{byte & 0x7fu} << shift;
      if (byte < 0x80u) return value;
    }
    fail("a number is longer than 64 bits");
  }

  std::string_view left_;
  std::string_view bytes_;
  uint64_t integer_ = 0;
  int number_ = 0;
  int type_ = 0;
};

size_t element_size(int data_type) {
  switch (static_cast<DataType>(data_type)) {
  case DataType::kFloat:
  case DataType::kInt32: return 4;
  case DataType::kUint8:
  case DataType::kInt8: return 1;
  case DataType::kInt64: return 8;
  }
  return 0; // a type that no BERT graph computes with
}

// int32_data and int64_data -> the bytes that raw_data would hold.
std::string narrowed(const std::vector<int64_t>& values, size_t size) {
  std::string bytes(values.size() * size, '\0');
  for (size_t i = 0; i < values.size(); ++i) std::memcpy(&bytes[i * size], &values[i], size);
  return bytes;
}

Tensor read_tensor(std::string_view bytes) {
  Tensor t;
  std::vector<int64_t> integers;
  std::string floats;
  Fields f(bytes);
  while (f.next()) {
    switch (f.number()) {
    case 1: f.integers(t.dims); break;
    case 2: t.data_type = static_cast<int>(f.integer()); break;
    case 4: f.reals(floats); break;
    case 5:
    case 7: f.integers(integers); break;
    case 8: t.name = f.bytes(); break;
    case 9: t.data = f.bytes(); break;
    case 13: fail("a tensor has external data; weights must be inside the file");
    case 14:
      if (f.integer() != 0) fail("a tensor has external data; weights must be inside the file");
      break;
    default: break;
    }
  }
  const size_t size = element_size(t.data_type);
  if (size == 0) return t; // kept by name; an error only where it is used
  if (!floats.empty()) t.owned = std::move(floats);
  if (!integers.empty()) t.owned = narrowed(integers, size);
  const size_t stored = t.owned.empty() ? t.data.size() : t.owned.size();
  const auto count = static_cast<uint64_t>(t.count());
  if (stored != count * size)
    fail("tensor '" + std::string(t.name) + "' holds " + std::to_string(stored) + " bytes, want " +
         std::to_string(count * size));
  // The file gives no alignment: a misaligned constant is copied.
  if (t.owned.empty() && reinterpret_cast<uintptr_t>(t.data.data()) % size != 0) t.owned = t.data;
  return t;
}

Node read_node(std::string_view bytes, Graph& graph) {
  Node node;
  std::vector<Tensor> values;
  Fields f(bytes);
  while (f.next()) {
    switch (f.number()) {
    case 1: node.inputs.push_back(f.bytes()); break;
    case 2: node.outputs.push_back(f.bytes()); break;
    case 3: node.name = f.bytes(); break;
    case 4: node.op_type = f.bytes(); break;
    case 5: {
      std::string_view name;
      Attribute a;
      Fields g(f.bytes());
      while (g.next()) {
        switch (g.number()) {
        case 1: name = g.bytes(); break;
        case 2: a.f = g.real(); break;
        case 3: a.i = g.integer(); break;
        case 4: a.s = g.bytes(); break;
        case 5: values.push_back(read_tensor(g.bytes())); break;
        case 8: g.integers(a.ints); break;
        default: break;
        }
      }
      node.attributes.emplace(name, std::move(a));
      break;
    }
    case 7:
      if (!f.bytes().empty() && f.bytes() != "ai.onnx")
        fail("node '" + std::string(node.name) + "' is of domain '" + std::string(f.bytes()) +
             "', want the default domain");
      break;
    default: break;
    }
  }
  if (node.op_type == "Constant" && node.outputs.size() == 1 && values.size() == 1)
    graph.constants.insert_or_assign(node.outputs[0], std::move(values[0]));
  return node;
}

std::string_view value_name(std::string_view bytes) {
  std::string_view name;
  Fields f(bytes);
  while (f.next())
    if (f.number() == 1) name = f.bytes();
  return name;
}

void read_graph(std::string_view bytes, Graph& graph) {
  Fields f(bytes);
  while (f.next()) {
    switch (f.number()) {
    case 1: {
      Node node = read_node(f.bytes(), graph);
      graph.nodes.push_back(std::move(node));
      break;
    }
    case 5: {
      Tensor t = read_tensor(f.bytes());
      graph.constants.insert_or_assign(t.name, std::move(t));
      break;
    }
    case 11: graph.inputs.push_back(value_name(f.bytes())); break;
    case 12: graph.outputs.push_back(value_name(f.bytes())); break;
    default: break;
    }
  }
}

} // namespace

int64_t Tensor::count() const {
  int64_t n = 1;
  for (const int64_t d : dims) {
    if (d < 0 || d > kMaxElements || (d > 0 && n > kMaxElements / d))
      fail("tensor '" + std::string(name) + "' has an impossible shape");
    n *= d;
  }
  return n;
}

Graph read(std::string_view file) {
  Graph graph;
  bool has_graph = false;
  Fields f(file);
  while (f.next()) {
    if (f.number() == 7) {
      if (has_graph) fail("it holds more than one graph");
      has_graph = true;
      read_graph(f.bytes(), graph);
    } else if (f.number() == 8) {
      std::string_view domain;
      int64_t version = 0;
      Fields g(f.bytes());
      while (g.next()) {
        if (g.number() == 1) domain = g.bytes();
        if (g.number() == 2) version = g.integer();
      }
      if (domain.empty() || domain == "ai.onnx") graph.opset = version;
    }
  }
  if (!has_graph) fail("it holds no graph (not an ONNX file?)");
  return graph;
}

} // namespace bert_rt::onnx
