#include "encoder.h"

#include <algorithm>
#include <cmath>

namespace bert_rt {
namespace {

bool keeps_float(const Model& model) {
  return std::any_of(model.layers.begin(), model.layers.end(), [](const Layer& l) {
    return !l.attention.is_int8 || !l.ffn1.is_int8 || !l.ffn2.is_int8;
  });
}

GemmArgs gemm_args(const Linear& linear, const uint8_t* a, ptrdiff_t lda, int rows) {
  return {a,        lda,      linear.weights_s8.data(), linear.ldb(), linear.init.data(), rows,
          linear.n, linear.k, linear.rest.view()};
}

GemmF32Args float_args(const Linear& linear, const float* a, ptrdiff_t lda, float* c, ptrdiff_t ldc,
                       int rows) {
  return {a,        lda,     linear.weights_f32.data(), linear.bias.data(), 0, c, ldc, rows,
          linear.n, linear.k};
}

} // namespace

Workspace carve_workspace(const Model& model, int tokens, uint8_t* block) {
  Carver carver(block);
  Workspace w;
  const auto t = static_cast<size_t>(tokens), d = static_cast<size_t>(model.hidden_size);
  const int width = model.context_width();
  const int f = round_up(model.intermediate_size, kPanel);
  w.ldx = padded_k(model.hidden_size);
  w.ldc = padded_k(width);
  w.ldf = padded_k(f);
  w.ld_panel = ptrdiff_t{tokens | 1} * kPanel; // odd: panels must not fall into the same sets
  w.x = carver.take<float>(t * d);
  if (model.projection.n > 0)
    w.embedded = carver.take<float>(t * static_cast<size_t>(model.embedding_size));
  w.x_u8 = carver.take<uint8_t>(t * static_cast<size_t>(w.ldx));
  w.qkv =
      carver.take<float>(static_cast<size_t>(3 * width / kPanel) * static_cast<size_t>(w.ld_panel));
  w.context = carver.take<uint8_t>(t * static_cast<size_t>(w.ldc));
  w.hidden = carver.take<uint8_t>(t * static_cast<size_t>(w.ldf));
  if (keeps_float(model)) {
    w.context_f32 = carver.take<float>(t * static_cast<size_t>(width));
    w.hidden_f32 = carver.take<float>(t * static_cast<size_t>(f));
    w.sum_f32 = carver.take<float>(t * d);
  }
  if (std::any_of(model.layers.begin(), model.layers.end(),
                  [](const Layer& l) { return l.outliers_up.n > 0; }))
    w.outliers = carver.take<float>(t * kPanel);
  const size_t labels = static_cast<size_t>(round_up(model.num_labels, kPanel));
  w.head = carver.take<float>(model.head == HeadKind::kPooled ? d + labels : t * labels);
  w.rows = carver.take<int>(t);
  w.positions = carver.take<int>(t);
  w.sequences = carver.take<int>(t);
  w.offsets = carver.take<int>(t + 1);
  w.read_x = carver.take<float>(t * d);
  w.read_rows = carver.take<int>(t);
  w.read_tokens = carver.take<int>(t);
  w.read_offsets = carver.take<int>(t + 1);
  w.bytes = carver.used();
  return w;
}

size_t workspace_bytes(const Model& model, int tokens) {
  return carve_workspace(model, tokens, nullptr).bytes;
}

int Encoder::gather(const Batch& batch, const int* sequences, int count, Workspace& w) const {
  int row = 0, read = 0;
  for (int i = 0; i < count; ++i) {
    const int s = sequences[i];
    const int32_t first = batch.cu_seqlens[s], length = batch.cu_seqlens[s + 1] - first;
    int32_t begin = 0, end = length;
    if (model_.head == HeadKind::kPooled) {
      end = 0;
    } else if (batch.logit_ranges != nullptr) {
      begin = batch.logit_ranges[2 * s];
      end = batch.logit_ranges[2 * s + 1];
    }
    w.sequences[i] = s;
    w.offsets[i] = row;
    w.read_offsets[i] = read;
    for (int32_t position = 0; position < length; ++position, ++row) {
      w.rows[row] = first + position;
      w.positions[row] = position;
      if (position > 0 && (position < begin || position >= end)) continue;
      w.read_rows[read] = row;
      w.read_tokens[read++] = first + position;
    }
  }
  w.offsets[count] = row;
  w.read_offsets[count] = read;
  return row;
}

// Whole register tiles for every thread but the last.
Encoder::Range Encoder::share(int rows, const Seat& seat) const {
  const int mr = kernels_.tile.mr;
  const int64_t tiles = (rows + mr - 1) / mr;
  const auto bound = [&](int rank) {
    return std::min(rows, static_cast<int>(tiles * rank / seat.size) * mr);
  };
  return {bound(seat.rank), bound(seat.rank + 1)};
}

void Encoder::run(const Batch& batch, int count, int rows, const Workspace& w, const Seat& seat,
                  const Output& out) const {
  const auto meet = [&seat] {
    if (seat.barrier != nullptr) seat.barrier->wait();
  };
  const Range r = share(rows, seat);
  embed(batch, w, r);
  const size_t last = model_.layers.size() - 1;
  for (size_t i = 0; i < last; ++i) {
    const Layer& layer = model_.layers[i];
    project(layer, Part::kAll, w, r);
    meet();
    attend(layer, count, w, w.offsets, seat);
    meet();
    finish(layer, &model_.layers[i + 1].qkv, w, r);
  }
  // Of the last layer only what is read is computed, but for keys and values. Every step works on
  // rows apart from each other, so they may as well move.
  const Layer& layer = model_.layers[last];
  const int num_read = w.read_offsets[count];
  Workspace read = w;
  Range read_range = r;
  if (num_read == rows) {
    project(layer, Part::kAll, w, r);
  } else {
    project(layer, Part::kKeysAndValues, w, r);
    meet(); // all rows of x are there, and those of x_u8 are read no more
    read_range = share(num_read, seat);
    gather_read(w, read_range);
    read.x = w.read_x;
    read.rows = w.read_tokens;
    read.offsets = w.read_offsets;
    project(layer, Part::kQueries, read, read_range);
  }
  meet();
  attend(layer, count, w, read.offsets, seat);
  meet();
  finish(layer, nullptr, read, read_range);
  if (model_.head != HeadKind::kPooled) {
    score_tokens(read, read_range, out);
  } else {
    meet();
    if (seat.rank == 0) classify(count, read, out);
  }
}

// What comes after attention.
void Encoder::finish(const Layer& layer, const Linear* next, const Workspace& w, Range r) const {
  add_linear(layer.attention, w.context, w.ldc, w.context_f32, model_.context_width(), w, r);
  normalise(layer.norm1, &layer.ffn1, w, r);
  feed_forward(layer, w, r);
  normalise(layer.norm2, next, w, r);
}

// Moves rows that are read together, and quantizes them again in their new place.
void Encoder::gather_read(const Workspace& w, Range r) const {
  const ptrdiff_t d = model_.hidden_size;
  for (int row = r.begin; row < r.end; ++row)
    std::copy_n(w.x + w.read_rows[row] * d, d, w.read_x + row * d);
  const Linear& next = model_.layers.back().qkv;
  if (next.is_int8)
    kernels_.quantize_rows(w.read_x + r.begin * d, d, r.size(), model_.hidden_size,
                           {next.mult.data(), next.zero_point}, w.x_u8 + r.begin * w.ldx, w.ldx);
}

void Encoder::embed(const Batch& batch, const Workspace& w, Range r) const {
  const ptrdiff_t e = model_.embedding_size, d = model_.hidden_size;
  const Linear &projection = model_.projection, &next = model_.layers[0].qkv;
  float* out = projection.n > 0 ? w.embedded : w.x;
  for (int row = r.begin; row < r.end; ++row) {
    const int32_t id = batch.input_ids[w.rows[row]];
    const int32_t type = model_.type_vocab_size > 0 ? batch.token_type_ids[w.rows[row]] : 0;
    const bool is_int8 = model_.word_s8.size() > 0;
    kernels_.embed_row(
        {is_int8 ? model_.word_s8.data() + id * e : nullptr,
         is_int8 ? nullptr : model_.word_f32.data() + id * e,
         is_int8 ? model_.word_scale[static_cast<size_t>(id)] : 1.0f, model_.type.data() + type * e,
         model_.position.data() + w.positions[row] * e, out + row * e, model_.embedding_size});
  }
  const LayerNorm& norm = model_.embedding_norm;
  if (projection.n == 0) {
    normalise(norm, &next, w, r);
    return;
  }
  float *from = w.embedded + r.begin * e, *x = w.x + r.begin * d;
  kernels_.layer_norm_rows({from, e, norm.gamma.data(), norm.beta.data(), norm.eps, r.size(),
                            model_.embedding_size, nullptr, 0.0f, nullptr, 0});
  kernels_.gemm_f32(float_args(projection, from, e, x, d, r.size()));
  if (next.is_int8)
    kernels_.quantize_rows(x, d, r.size(), model_.hidden_size, {next.mult.data(), next.zero_point},
                           w.x_u8 + r.begin * w.ldx, w.ldx);
}

// Normalises x in place and quantizes it for the next linear layer.
void Encoder::normalise(const LayerNorm& norm, const Linear* next, const Workspace& w,
                        Range r) const {
  const ptrdiff_t d = model_.hidden_size;
  const bool quantizes = next != nullptr && next->is_int8;
  kernels_.layer_norm_rows({w.x + r.begin * d, d, norm.gamma.data(), norm.beta.data(), norm.eps,
                            r.size(), model_.hidden_size, quantizes ? next->mult.data() : nullptr,
                            quantizes ? next->zero_point : 0.0f, w.x_u8 + r.begin * w.ldx, w.ldx});
}

// Queries, keys and values of the rows, as float panels.
void Encoder::project(const Layer& layer, Part part, const Workspace& w, Range r) const {
  const Linear& l = layer.qkv;
  const int width = model_.context_width();
  const int first = part == Part::kKeysAndValues ? width : 0;
  const int end = part == Part::kQueries ? width : l.n;
  float* out = w.qkv + ptrdiff_t{r.begin} * kPanel;
  if (l.is_int8) {
    const GemmArgs all = gemm_args(l, w.x_u8 + r.begin * w.ldx, w.ldx, r.size());
    const GemmArgs args = columns_of(all, first, end - first);
    kernels_.gemm_dequantize_panels(args, {l.scale.data() + first, l.bias.data() + first},
                                    out + first / kPanel * w.ld_panel, w.ld_panel);
    return;
  }
  const ptrdiff_t d = model_.hidden_size;
  for (int n = first; n < end; n += kPanel) { // a float layer, a panel at a time
    GemmF32Args args =
        float_args(l, w.x + r.begin * d, d, out + n / kPanel * w.ld_panel, kPanel, r.size());
    args.b += ptrdiff_t{n} * l.k;
    args.bias += n;
    args.n = kPanel;
    kernels_.gemm_f32(args);
  }
}

// Heads of sequences are dealt out to the team. Queries, and what comes out, are rows of their own.
void Encoder::attend(const Layer& layer, int count, const Workspace& w, const int* query_offsets,
                     const Seat& seat) const {
  const int heads = model_.num_heads, h = model_.padded_head_dim;
  const ptrdiff_t panels = h / kPanel, width = model_.context_width();
  const Linear& next = layer.attention;
  for (int unit = seat.rank; unit < count * heads; unit += seat.size) {
    const int sequence = unit / heads, head = unit % heads;
    const ptrdiff_t row = query_offsets[sequence];
    const float* q = w.qkv + head * panels * w.ld_panel;
    const float* k = q + heads * panels * w.ld_panel + ptrdiff_t{w.offsets[sequence]} * kPanel;
    AttentionArgs args{};
    args.q = q + row * kPanel;
    args.k = k;
    args.v = k + heads * panels * w.ld_panel;
    args.ld_panel = w.ld_panel;
    args.m = query_offsets[sequence + 1] - query_offsets[sequence];
    args.s = w.offsets[sequence + 1] - w.offsets[sequence];
    args.h = h;
    args.scale = layer.attention_scale;
    args.scratch = seat.scratch;
    if (next.is_int8) {
      args.quantize = {next.mult.data() + ptrdiff_t{head} * h, next.zero_point};
      args.out_u8 = w.context + row * w.ldc + ptrdiff_t{head} * h;
      args.ldo = w.ldc;
    } else {
      args.out_f32 = w.context_f32 + row * width + ptrdiff_t{head} * h;
      args.ldo = width;
    }
    kernels_.attention_head(kernels_, args);
  }
}

// x += linear(a).
void Encoder::add_linear(const Linear& linear, const uint8_t* a, ptrdiff_t lda, const float* a_f32,
                         ptrdiff_t lda_f32, const Workspace& w, Range r) const {
  const ptrdiff_t d = model_.hidden_size;
  float* x = w.x + r.begin * d;
  if (linear.is_int8) {
    kernels_.gemm_dequantize_residual(gemm_args(linear, a + r.begin * lda, lda, r.size()),
                                      {linear.scale.data(), linear.bias.data()}, x, x, d);
    return;
  }
  float* y = w.sum_f32 + r.begin * d;
  kernels_.gemm_f32(float_args(linear, a_f32 + r.begin * lda_f32, lda_f32, y, d, r.size()));
  for (ptrdiff_t i = 0; i < r.size() * d; ++i) x[i] += y[i];
}

// x += gelu(outlier columns of ffn1) times their rows of ffn2, in float.
void Encoder::add_outliers(const Layer& layer, const Workspace& w, Range r) const {
  const Linear& up = layer.outliers_up;
  const ptrdiff_t d = model_.hidden_size;
  float* y = w.outliers + ptrdiff_t{r.begin} * kPanel;
  float* x = w.x + r.begin * d;
  if (up.is_int8)
    kernels_.gemm_dequantize_residual(gemm_args(up, w.x_u8 + r.begin * w.ldx, w.ldx, r.size()),
                                      {up.scale.data(), up.bias.data()}, nullptr, y, kPanel);
  else
    kernels_.gemm_f32(float_args(up, x, d, y, kPanel, r.size()));
  kernels_.gelu_rows(y, kPanel, r.size(), kPanel);
  GemmF32Args down = float_args(layer.outliers_down, y, kPanel, x, d, r.size());
  down.bias = x;
  down.ld_bias = d;
  kernels_.gemm_f32(down);
}

void Encoder::feed_forward(const Layer& layer, const Workspace& w, Range r) const {
  const Linear &up = layer.ffn1, &down = layer.ffn2;
  const ptrdiff_t d = model_.hidden_size, f = up.n;
  uint8_t* hidden = w.hidden + r.begin * w.ldf;
  const GemmArgs args = gemm_args(up, w.x_u8 + r.begin * w.ldx, w.ldx, r.size());
  const Dequantize dequantize{up.scale.data(), up.bias.data()};
  const Quantize quantize{down.mult.data(), down.zero_point};
  if (up.is_int8 && down.is_int8) {
    kernels_.gemm_dequantize_gelu_quantize(args, dequantize, quantize, hidden, w.ldf);
  } else {
    float* y = w.hidden_f32 + r.begin * f;
    if (up.is_int8)
      kernels_.gemm_dequantize_residual(args, dequantize, nullptr, y, f);
    else
      kernels_.gemm_f32(float_args(up, w.x + r.begin * d, d, y, f, r.size()));
    kernels_.gelu_rows(y, f, r.size(), up.n);
    if (down.is_int8) kernels_.quantize_rows(y, f, r.size(), up.n, quantize, hidden, w.ldf);
  }
  if (layer.outliers_up.n > 0) add_outliers(layer, w, r);
  add_linear(down, w.hidden, w.ldf, w.hidden_f32, f, w, r);
}

void Encoder::score_tokens(const Workspace& w, Range r, const Output& out) const {
  const ptrdiff_t d = model_.hidden_size, n = model_.output.n;
  float* first = w.head + r.begin * n;
  kernels_.gemm_f32(float_args(model_.output, w.x + r.begin * d, d, first, n, r.size()));
  for (int row = r.begin; row < r.end; ++row) {
    const float* logits = w.head + row * n;
    const ptrdiff_t token = w.rows[row];
    if (model_.head == HeadKind::kTokens) {
      std::copy_n(logits, model_.num_labels, out.logits + token * model_.num_labels);
    } else {
      out.start_logits[token] = logits[0];
      out.end_logits[token] = logits[1];
    }
  }
}

// Between the two layers of a classifier, on one row.
void Encoder::activate(float* pooled) const {
  float* end = pooled + model_.hidden_size;
  switch (model_.pooler_activation) {
  case Activation::kTanh:
    std::transform(pooled, end, pooled, [](float v) { return std::tanh(v); });
    break;
  case Activation::kRelu:
    std::transform(pooled, end, pooled, [](float v) { return std::max(v, 0.0f); });
    break;
  case Activation::kGelu: kernels_.gelu_rows(pooled, model_.hidden_size, 1, model_.hidden_size);
  }
}

void Encoder::classify(int count, const Workspace& w, const Output& out) const {
  const ptrdiff_t d = model_.hidden_size;
  float *pooled = w.head, *logits = w.head + d;
  for (int i = 0; i < count; ++i) {
    const float* first = w.x + w.offsets[i] * d;
    kernels_.gemm_f32(float_args(model_.pooler, first, d, pooled, d, 1));
    activate(pooled);
    kernels_.gemm_f32(float_args(model_.output, pooled, d, logits, model_.output.n, 1));
    std::copy_n(logits, model_.num_labels,
                out.logits + ptrdiff_t{w.sequences[i]} * model_.num_labels);
  }
}

} // namespace bert_rt
