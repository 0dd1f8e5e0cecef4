#include "model/model_parts.h"

#include <algorithm>
#include <atomic>
#include <stdexcept>
#include <thread>

namespace bert_rt {
namespace {

constexpr const char* kDown = "output weight";

Buffer<float> copied(const float* from, size_t count) {
  Buffer<float> to(count);
  std::copy_n(from, count, to.data());
  return to;
}

Buffer<float> gathered(const float* from, const IndexMap& map, float factor) {
  Buffer<float> to(map.size());
  for (size_t i = 0; i < map.size(); ++i) {
    const int at = map[i];
    to[i] = at < 0 ? 0.0f : (from == nullptr ? 1.0f : from[at]) * factor;
  }
  return to;
}

void build_outliers(const LinearView& up, const LinearView& down, FeedForward& to, Jobs& jobs) {
  IndexMap channels(kPanel, -1);
  for (int i = 0; i < down.num_outliers; ++i)
    channels[static_cast<size_t>(i)] = static_cast<int>(down.outlier_channels[i]);
  build_linear(up, identity(up.k, kPanel), channels, to.outliers_up, jobs);
  LinearView weights;
  weights.k = down.num_outliers;
  weights.n = down.n;
  weights.weights_f32 = down.outlier_weight;
  const std::vector<float> no_bias(static_cast<size_t>(down.n), 0.0f);
  weights.bias = no_bias.data();
  build_linear(weights, identity(down.num_outliers, 1), identity(down.n, kPanel), to.outliers_down,
               jobs);
}

} // namespace

void Jobs::run(int num_threads) {
  weights = Block(weight_bytes);
  std::atomic<size_t> next{0};
  std::atomic<bool> failed{false};
  const auto work = [&] {
    try {
      for (size_t i = next++; i < list.size(); i = next++) list[i]();
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

void fail_model(const std::string& what) { throw std::invalid_argument("model.onnx: " + what); }

void require(bool holds, const std::string& what) {
  if (!holds) fail_model(what);
}

void check_shape(const LinearView& view, int k, int n, const char* what) {
  require(view.k == k && view.n == n, std::string(what) + " has shape [" + std::to_string(view.k) +
                                          ", " + std::to_string(view.n) + "], want [" +
                                          std::to_string(k) + ", " + std::to_string(n) + "]");
  require(view.num_outliers == 0 || std::string_view(what) == kDown,
          std::string(what) + " has outlier channels, which only the output layer may have");
  // |acc| <= 255 * 127 * K must stay within int32.
  require(k <= 65536, std::string(what) + " is too deep for int32 accumulation");
}

int check_heads(int d, int num_heads) {
  require(d % kPanel == 0, "the hidden states are " + std::to_string(d) +
                               " wide, want a multiple of " + std::to_string(kPanel));
  require(num_heads >= 1 && d % num_heads == 0, "hidden_size must be a multiple of the heads");
  const int head_dim = d / num_heads;
  require(round_up(head_dim, kPanel) <= kMaxHeadDim, "the heads are " + std::to_string(head_dim) +
                                                         " wide, want at most " +
                                                         std::to_string(kMaxHeadDim));
  return head_dim;
}

IndexMap identity(int n, int multiple) {
  IndexMap map(static_cast<size_t>(round_up(n, multiple)), -1);
  for (int i = 0; i < n; ++i) map[static_cast<size_t>(i)] = i;
  return map;
}

IndexMap padded_heads(int parts, int num_heads, int head_dim) {
  IndexMap map;
  for (int head = 0; head < parts * num_heads; ++head)
    for (int c = 0; c < round_up(head_dim, kPanel); ++c)
      map.push_back(c < head_dim ? head * head_dim + c : -1);
  return map;
}

// Fills `to` but for the packed weights, which a job packs later.
void build_linear(const LinearView& view, IndexMap rows, IndexMap columns, Linear& to, Jobs& jobs) {
  to.k = static_cast<int>(rows.size());
  to.n = static_cast<int>(columns.size());
  to.is_int8 = view.is_int8;
  to.bias = gathered(view.bias, columns, 1.0f);
  const auto n = static_cast<size_t>(to.n), k = static_cast<size_t>(to.k);
  if (!view.is_int8) {
    jobs.list.emplace_back([&to, &jobs, at = jobs.reserve<float>(n * k), view, n, k,
                            rows = std::move(rows), columns = std::move(columns)] {
      to.weights_f32 = jobs.weights.slice<float>(at, n * k);
      pack_f32(view.weights_f32, view.n, rows, columns, to.weights_f32.data());
    });
    return;
  }
  to.scale = gathered(view.weight_scale, columns, view.input_scale);
  to.mult = gathered(view.smooth, rows, 1.0f / view.input_scale);
  to.zero_point = static_cast<float>(view.input_zero_point);
  const size_t count = n * static_cast<size_t>(padded_k(to.k));
  jobs.list.emplace_back([&to, &jobs, at = jobs.reserve<int8_t>(count), view, n, count,
                          rows = std::move(rows), columns = std::move(columns)] {
    to.weights_s8 = jobs.weights.slice<int8_t>(at, count);
    to.init = Buffer<int32_t>(n);
    pack_s8(view.weights_s8, view.n, rows, columns, to.weights_s8.data(), to.init.data());
    for (size_t i = 0; i < n; ++i) to.init[i] *= -view.input_zero_point;
    if (jobs.sums_in_16_bits) to.rest = split_s8(to.weights_s8.data(), to.n, to.k);
  });
}

LayerNorm build_norm(const NormView& view, int d) {
  require(view.d == d,
          "a LayerNormalization is " + std::to_string(view.d) + " wide, want " + std::to_string(d));
  const auto count = static_cast<size_t>(d);
  return {copied(view.gamma, count), copied(view.beta, count), view.eps};
}

void build_feed_forward(const LinearView& up, const LinearView& down, int d, int f, FeedForward& to,
                        Jobs& jobs) {
  check_shape(up, d, f, "intermediate weight");
  check_shape(down, f, d, kDown);
  const IndexMap width = identity(d, kPanel), inner = identity(f, kPanel);
  build_linear(up, width, inner, to.up, jobs);
  build_linear(down, inner, width, to.down, jobs);
  if (down.num_outliers > 0) build_outliers(up, down, to, jobs);
}

void build_embeddings(const EmbeddingView& view, const NormView& norm, Embeddings& to, Jobs& jobs) {
  const auto d = static_cast<size_t>(view.d), v = static_cast<size_t>(view.vocab_size);
  const auto types = static_cast<size_t>(std::max(view.type_vocab_size, 1));
  const std::vector<float> no_type(d, 0.0f);
  to.size = view.d;
  to.norm = build_norm(norm, view.d);
  to.type = copied(view.type != nullptr ? view.type : no_type.data(), types * d);
  to.position = copied(view.position, static_cast<size_t>(view.max_position_embeddings) * d);
  jobs.list.emplace_back([&to, view, d, v] {
    if (view.word_s8 != nullptr) {
      to.word_s8 = Buffer<int8_t>(v * d);
      std::copy_n(view.word_s8, v * d, to.word_s8.data());
      to.word_scale = copied(view.word_scale, v);
    } else {
      to.word_f32 = copied(view.word_f32, v * d);
    }
  });
}

} // namespace bert_rt
