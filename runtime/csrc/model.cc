#include "model.h"

#include "graph/match.h"
#include "ops/pack.h"

#include <algorithm>
#include <atomic>
#include <functional>
#include <stdexcept>
#include <thread>

namespace bert_rt {
namespace {

constexpr const char* kFfn2 = "output weight";

// What is left to do when the graph is checked: copies and packs weights.
struct Jobs {
  bool sums_in_16_bits; // of the instruction set
  std::vector<std::function<void()>> list = {};
};

[[noreturn]] void fail(const std::string& what) {
  throw std::invalid_argument("model.onnx: " + what);
}

void require(bool holds, const std::string& what) {
  if (!holds) fail(what);
}

Buffer<float> copied(const float* from, size_t count) {
  Buffer<float> to(count);
  std::copy_n(from, count, to.data());
  return to;
}

// 0, 1, ..., n - 1, padded with -1 to a multiple of `multiple`.
IndexMap identity(int n, int multiple) {
  IndexMap map(static_cast<size_t>(round_up(n, multiple)), -1);
  for (int i = 0; i < n; ++i) map[static_cast<size_t>(i)] = i;
  return map;
}

// Columns of `parts` matrices of heads side by side, every head padded with -1.
IndexMap padded_heads(int parts, int num_heads, int head_dim, int padded_head_dim) {
  IndexMap map;
  for (int head = 0; head < parts * num_heads; ++head)
    for (int c = 0; c < padded_head_dim; ++c)
      map.push_back(c < head_dim ? head * head_dim + c : -1);
  return map;
}

Buffer<float> gathered(const float* from, const IndexMap& map, float factor) {
  Buffer<float> to(map.size());
  for (size_t i = 0; i < map.size(); ++i) {
    const int at = map[i];
    to[i] = at < 0 ? 0.0f : (from == nullptr ? 1.0f : from[at]) * factor;
  }
  return to;
}

// Fills `to` but for the packed weights, which a job packs later.
void build_linear(const LinearView& view, IndexMap rows, IndexMap columns, Linear& to, Jobs& jobs) {
  to.k = static_cast<int>(rows.size());
  to.n = static_cast<int>(columns.size());
  to.is_int8 = view.is_int8;
  to.bias = gathered(view.bias, columns, 1.0f);
  const auto n = static_cast<size_t>(to.n), k = static_cast<size_t>(to.k);
  if (!view.is_int8) {
    jobs.list.emplace_back([&to, view, n, k, rows = std::move(rows), columns = std::move(columns)] {
      to.weights_f32 = Buffer<float>(n * k);
      pack_f32(view.weights_f32, view.n, rows, columns, to.weights_f32.data());
    });
    return;
  }
  to.scale = gathered(view.weight_scale, columns, view.input_scale);
  to.mult = gathered(view.smooth, rows, 1.0f / view.input_scale);
  to.zero_point = static_cast<float>(view.input_zero_point);
  jobs.list.emplace_back([&to, view, n, split = jobs.sums_in_16_bits, rows = std::move(rows),
                          columns = std::move(columns)] {
    to.weights_s8 = Buffer<int8_t>(n * static_cast<size_t>(padded_k(to.k)));
    to.init = Buffer<int32_t>(n);
    pack_s8(view.weights_s8, view.n, rows, columns, to.weights_s8.data(), to.init.data());
    for (size_t i = 0; i < n; ++i) to.init[i] *= -view.input_zero_point;
    if (split) to.rest = split_s8(to.weights_s8.data(), to.n, to.k);
  });
}

LayerNorm build_norm(const NormView& view, int d) {
  require(view.d == d,
          "a LayerNormalization is " + std::to_string(view.d) + " wide, want " + std::to_string(d));
  const auto count = static_cast<size_t>(d);
  return {copied(view.gamma, count), copied(view.beta, count), view.eps};
}

void check_shape(const LinearView& view, int k, int n, const char* what) {
  require(view.k == k && view.n == n, std::string(what) + " has shape [" + std::to_string(view.k) +
                                          ", " + std::to_string(view.n) + "], want [" +
                                          std::to_string(k) + ", " + std::to_string(n) + "]");
  require(view.num_outliers == 0 || std::string_view(what) == kFfn2,
          std::string(what) + " has outlier channels, which only the output layer may have");
  // |acc| <= 255 * 127 * K must stay within int32.
  require(k <= 65536, std::string(what) + " is too deep for int32 accumulation");
}

void build_outliers(const LayerView& view, Layer& layer, Jobs& jobs) {
  const LinearView& down = view.ffn2;
  IndexMap channels(kPanel, -1);
  for (int i = 0; i < down.num_outliers; ++i)
    channels[static_cast<size_t>(i)] = static_cast<int>(down.outlier_channels[i]);
  build_linear(view.ffn1, identity(view.ffn1.k, kPanel), channels, layer.outliers_up, jobs);
  LinearView weights;
  weights.k = down.num_outliers;
  weights.n = down.n;
  weights.weights_f32 = down.outlier_weight;
  const std::vector<float> no_bias(static_cast<size_t>(down.n), 0.0f);
  weights.bias = no_bias.data();
  build_linear(weights, identity(down.num_outliers, 1), identity(down.n, kPanel),
               layer.outliers_down, jobs);
}

void build_layer(const LayerView& view, const Model& model, Layer& layer, Jobs& jobs) {
  const int d = model.hidden_size, f = model.intermediate_size;
  require(view.num_heads == model.num_heads, "the layers differ in their number of heads");
  check_shape(view.qkv, d, 3 * d, "query-key-value weight");
  check_shape(view.attention, d, d, "attention output weight");
  check_shape(view.ffn1, d, f, "intermediate weight");
  check_shape(view.ffn2, f, d, kFfn2);
  const IndexMap width = identity(d, kPanel), inner = identity(f, kPanel);
  const auto heads = [&model](int parts) {
    return padded_heads(parts, model.num_heads, model.head_dim, model.padded_head_dim);
  };
  build_linear(view.qkv, width, heads(3), layer.qkv, jobs);
  build_linear(view.attention, heads(1), width, layer.attention, jobs);
  build_linear(view.ffn1, width, inner, layer.ffn1, jobs);
  build_linear(view.ffn2, inner, width, layer.ffn2, jobs);
  if (view.ffn2.num_outliers > 0) build_outliers(view, layer, jobs);
  layer.norm1 = build_norm(view.norm1, d);
  layer.norm2 = build_norm(view.norm2, d);
  layer.attention_scale = view.attention_scale;
}

void build_embeddings(const EmbeddingView& view, Model& model, Jobs& jobs) {
  const auto d = static_cast<size_t>(view.d), v = static_cast<size_t>(view.vocab_size);
  const auto types = static_cast<size_t>(std::max(view.type_vocab_size, 1));
  const std::vector<float> no_type(d, 0.0f);
  model.type = copied(view.type != nullptr ? view.type : no_type.data(), types * d);
  model.position = copied(view.position, static_cast<size_t>(view.max_position_embeddings) * d);
  jobs.list.emplace_back([&model, view, d, v] {
    if (view.word_s8 != nullptr) {
      model.word_s8 = Buffer<int8_t>(v * d);
      std::copy_n(view.word_s8, v * d, model.word_s8.data());
      model.word_scale = copied(view.word_scale, v);
    } else {
      model.word_f32 = copied(view.word_f32, v * d);
    }
  });
}

void run_jobs(Jobs& jobs, int num_threads) {
  std::atomic<size_t> next{0};
  std::atomic<bool> failed{false};
  const auto work = [&] {
    try {
      for (size_t i = next++; i < jobs.list.size(); i = next++) jobs.list[i]();
    } catch (const std::bad_alloc&) {
      failed = true;
    }
  };
  std::vector<std::thread> helpers;
  for (int i = 1; i < num_threads; ++i) helpers.emplace_back(work);
  work();
  for (std::thread& helper : helpers) helper.join();
  if (failed) throw std::bad_alloc();
}

} // namespace

size_t Model::bytes() const {
  size_t total = word_s8.bytes() + word_f32.bytes() + word_scale.bytes() + type.bytes() +
                 position.bytes() + projection.bytes() + output.bytes() + pooler.bytes();
  for (const Layer& l : layers)
    total += l.qkv.bytes() + l.attention.bytes() + l.ffn1.bytes() + l.ffn2.bytes() +
             l.outliers_up.bytes() + l.outliers_down.bytes();
  return total;
}

Model load_model(std::string_view file, int num_threads, bool sums_in_16_bits) {
  const onnx::Graph graph = onnx::read(file);
  const BertView view = match_bert(graph);
  Model model;
  model.hidden_size = view.layers[0].norm2.d;
  model.embedding_size = view.embeddings.d;
  model.vocab_size = view.embeddings.vocab_size;
  model.type_vocab_size = view.embeddings.type_vocab_size;
  model.max_position_embeddings = view.embeddings.max_position_embeddings;
  model.num_heads = view.layers[0].num_heads;
  model.intermediate_size = view.layers[0].ffn1.n;
  const int d = model.hidden_size, e = model.embedding_size;
  for (const int width : {d, e})
    require(width % kPanel == 0, "the hidden states are " + std::to_string(width) +
                                     " wide, want a multiple of " + std::to_string(kPanel));
  require(model.num_heads >= 1 && d % model.num_heads == 0,
          "hidden_size must be a multiple of the heads");
  model.head_dim = d / model.num_heads;
  model.padded_head_dim = round_up(model.head_dim, kPanel);
  require(model.padded_head_dim <= kMaxHeadDim, "the heads are " + std::to_string(model.head_dim) +
                                                    " wide, want at most " +
                                                    std::to_string(kMaxHeadDim));
  require(model.max_position_embeddings <= kMaxPositions,
          "max_position_embeddings is " + std::to_string(model.max_position_embeddings) +
              ", want at most " + std::to_string(kMaxPositions));

  Jobs jobs{sums_in_16_bits};
  build_embeddings(view.embeddings, model, jobs);
  model.embedding_norm = build_norm(view.embedding_norm, e);
  if (view.has_projection) {
    require(!view.projection.is_int8, "the projection of the embeddings must be in float");
    check_shape(view.projection, e, d, "projection of the embeddings");
    build_linear(view.projection, identity(e, kPanel), identity(d, kPanel), model.projection, jobs);
  } else {
    require(e == d, "the embeddings are " + std::to_string(e) + " wide, the layers " +
                        std::to_string(d) + ", and nothing is between them");
  }
  model.layers = std::vector<Layer>(view.layers.size());
  for (size_t i = 0; i < view.layers.size(); ++i)
    build_layer(view.layers[i], model, model.layers[i], jobs);
  model.head = view.head;
  require(!view.output.is_int8 && !view.pooler.is_int8, "the head must be in float");
  model.num_labels = view.output.n;
  check_shape(view.output, d, view.output.n, "head weight");
  build_linear(view.output, identity(d, kPanel), identity(view.output.n, kPanel), model.output,
               jobs);
  if (model.head == HeadKind::kPooled) {
    check_shape(view.pooler, d, d, "pooler weight");
    build_linear(view.pooler, identity(d, kPanel), identity(d, kPanel), model.pooler, jobs);
    model.pooler_activation = view.pooler_activation;
  }
  run_jobs(jobs, num_threads);
  return model;
}

} // namespace bert_rt
