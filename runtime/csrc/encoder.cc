#include "encoder.h"

#include <algorithm>
#include <cmath>

namespace bert_rt {
namespace {

bool keeps_float(const Model& model) {
  return std::any_of(model.layers.begin(), model.layers.end(), [](const Layer& l) {
    return !l.attention.is_int8 || l.feed_forward.keeps_float();
  });
}

} // namespace

Workspace carve_workspace(const Model& model, int tokens, uint8_t* block) {
  Carver carver(block);
  Workspace w;
  const auto t = static_cast<size_t>(tokens), d = static_cast<size_t>(model.hidden_size);
  const int width = model.context_width();
  const int f = round_up(model.intermediate_size, kPanel);
  w.ldx = padded_k(std::max(model.hidden_size, model.states.n));
  w.ldc = padded_k(width);
  w.ldf = padded_k(f);
  w.ld_panel = ptrdiff_t{tokens | 1} * kPanel; // odd: panels must not fall into the same sets
  w.x = carver.take<float>(t * d);
  if (model.projection.n > 0)
    w.embedded = carver.take<float>(t * static_cast<size_t>(model.embeddings.size));
  w.x_u8 = carver.take<uint8_t>(t * static_cast<size_t>(w.ldx));
  const int columns = std::max(3 * width, 2 * model.memory.width());
  w.qkv =
      carver.take<float>(static_cast<size_t>(columns / kPanel) * static_cast<size_t>(w.ld_panel));
  w.context = carver.take<uint8_t>(t * static_cast<size_t>(w.ldc));
  w.hidden = carver.take<uint8_t>(t * static_cast<size_t>(w.ldf));
  if (keeps_float(model)) {
    w.context_f32 = carver.take<float>(t * static_cast<size_t>(width));
    w.hidden_f32 = carver.take<float>(t * static_cast<size_t>(f));
    w.sum_f32 = carver.take<float>(t * d);
  }
  if (std::any_of(model.layers.begin(), model.layers.end(),
                  [](const Layer& l) { return l.feed_forward.outliers_up.n > 0; }))
    w.outliers = carver.take<float>(t * kPanel);
  const size_t labels = static_cast<size_t>(round_up(model.num_labels, kPanel));
  w.head = carver.take<float>(model.head == HeadKind::kPooled ? d + labels : t * labels);
  if (model.states.n > 0) w.states = carver.take<float>(t * static_cast<size_t>(model.states.n));
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
    const int32_t start = batch.first_positions == nullptr ? 0 : batch.first_positions[s];
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
      w.positions[row] = start + position;
      if (position > 0 && (position < begin || position >= end)) continue;
      w.read_rows[read] = row;
      w.read_tokens[read++] = first + position;
    }
  }
  w.offsets[count] = row;
  w.read_offsets[count] = read;
  return row;
}

Rows Encoder::rows_of(const Workspace& w, Range r) const {
  const ptrdiff_t begin = r.begin, d = model_.hidden_size;
  const auto from = [](auto* buffer, ptrdiff_t at) {
    return buffer == nullptr ? buffer : buffer + at;
  };
  Rows rows;
  rows.num = r.size();
  rows.d = model_.hidden_size;
  rows.x = w.x + begin * d;
  rows.x_u8 = w.x_u8 + begin * w.ldx;
  rows.hidden = w.hidden + begin * w.ldf;
  rows.hidden_f32 = from(w.hidden_f32, begin * round_up(model_.intermediate_size, kPanel));
  rows.sum_f32 = from(w.sum_f32, begin * d);
  rows.outliers = from(w.outliers, begin * kPanel);
  rows.ldx = w.ldx;
  rows.ldf = w.ldf;
  return rows;
}

// Two loops a layer: rows up to its queries, keys and values, and then the heads, which need those
// of all rows.
void Encoder::run(const Batch& batch, int count, int rows, const Workspace& w, Crew& crew,
                  const Output& out) const {
  const std::vector<Layer>& layers = model_.layers;
  const int tile = kernels_.tile.mr, heads = count * model_.num_heads;
  const bool is_split = batch.projections != nullptr;
  const auto first = static_cast<size_t>(is_split ? model_.num_split_layers : 0);
  const size_t last = layers.size() - 1;
  // Of the last layer only what is read is computed, but for keys and values. Every loop works on
  // rows apart from each other, so they may as well move.
  const int num_read = w.read_offsets[count];
  const bool reads_all = num_read == rows;
  for (size_t i = first; i <= last; ++i) {
    const Part part = i < last || reads_all ? Part::kAll : Part::kKeysAndValues;
    crew.share(rows, tile, [&](Range r, uint8_t*) {
      if (i == first && is_split) return load(batch, part, w, r);
      i == first ? embed(batch, w, r) : finish(layers[i - 1], &layers[i].qkv, w, r);
      project(layers[i], part, w, r);
    });
    if (i < last)
      crew.share(heads, 1,
                 [&](Range r, uint8_t* scratch) { attend(layers[i], w, w.offsets, r, scratch); });
  }
  const Layer& layer = layers[last];
  Workspace read = w;
  if (!reads_all) {
    read.x = w.read_x;
    read.rows = w.read_tokens;
    read.offsets = w.read_offsets;
    crew.share(num_read, tile, [&](Range r, uint8_t*) {
      if (first == last && is_split) return load(batch, Part::kQueries, read, r);
      gather_read(w, r);
      project(layer, Part::kQueries, read, r);
    });
  }
  crew.share(heads, 1,
             [&](Range r, uint8_t* scratch) { attend(layer, w, read.offsets, r, scratch); });
  const bool is_memory = model_.head == HeadKind::kMemory;
  const Linear* next = is_memory && model_.states.n == 0 ? &model_.output : nullptr;
  crew.share(num_read, tile, [&](Range r, uint8_t*) {
    finish(layer, next, read, r);
    if (model_.head == HeadKind::kSpans || model_.head == HeadKind::kTokens)
      score_tokens(read, r, out);
  });
  if (is_memory) remember(count, num_read, read, crew, out);
  if (model_.head == HeadKind::kPooled) classify(count, read, out);
}

void Encoder::run_split(const Batch& batch, int count, int rows, const Workspace& w, Crew& crew,
                        float* states, float* projections) const {
  const std::vector<Layer>& layers = model_.layers;
  const int tile = kernels_.tile.mr, heads = count * model_.num_heads;
  const auto end = static_cast<size_t>(model_.num_split_layers);
  const bool has_states = batch.states != nullptr;
  for (size_t i = 0; i < end && !has_states; ++i) {
    crew.share(rows, tile, [&](Range r, uint8_t*) {
      i == 0 ? embed(batch, w, r) : finish(layers[i - 1], &layers[i].qkv, w, r);
      project(layers[i], Part::kAll, w, r);
    });
    crew.share(heads, 1,
               [&](Range r, uint8_t* scratch) { attend(layers[i], w, w.offsets, r, scratch); });
  }
  const ptrdiff_t d = model_.hidden_size;
  crew.share(rows, tile, [&](Range r, uint8_t*) {
    if (has_states) {
      load_states(batch, w, r);
      quantize(kernels_, layers[end].qkv, rows_of(w, r));
    } else {
      finish(layers[end - 1], &layers[end].qkv, w, r);
      for (int row = r.begin; row < r.end; ++row)
        std::copy_n(w.x + row * d, d, states + w.rows[row] * d);
    }
    project(layers[end], Part::kAll, w, r);
    store_projections(w, r, projections);
  });
}

// What comes after attention.
void Encoder::finish(const Layer& layer, const Linear* next, const Workspace& w, Range r) const {
  const Rows rows = rows_of(w, r);
  const ptrdiff_t width = model_.context_width();
  const float* context_f32 = w.context_f32 == nullptr ? nullptr : w.context_f32 + r.begin * width;
  add_linear(kernels_, layer.attention, w.context + r.begin * w.ldc, w.ldc, context_f32, width,
             rows);
  normalise(kernels_, layer.norm1, &layer.feed_forward.up, rows);
  add_feed_forward(kernels_, layer.feed_forward, rows);
  normalise(kernels_, layer.norm2, next, rows);
}

// In place of embeddings and split layers.
void Encoder::load_states(const Batch& batch, const Workspace& w, Range r) const {
  const ptrdiff_t d = model_.hidden_size;
  for (int row = r.begin; row < r.end; ++row)
    std::copy_n(batch.states[w.rows[row] - batch.cu_seqlens[0]], d, w.x + row * d);
}

// In place of `project`, too. Projections come from memory, in an order that only we know: each is
// fetched while the one two rows before it is copied.
void Encoder::load(const Batch& batch, Part part, const Workspace& w, Range r) const {
  constexpr int kRowsAhead = 2;
  load_states(batch, w, r);
  const Columns columns = columns_of(part);
  const auto from_of = [&](int row) {
    return batch.projections[w.rows[row] - batch.cu_seqlens[0]];
  };
  for (int row = r.begin; row < r.end; ++row) {
    const float *from = from_of(row), *later = from_of(std::min(row + kRowsAhead, r.end - 1));
    float* to = w.qkv + ptrdiff_t{row} * kPanel;
    for (int c = columns.begin; c < columns.end; c += kPanel) {
      __builtin_prefetch(later + c);
      std::copy_n(from + c, kPanel, to + c / kPanel * w.ld_panel);
    }
  }
}

void Encoder::store_projections(const Workspace& w, Range r, float* projections) const {
  const Columns columns = columns_of(Part::kAll);
  for (int row = r.begin; row < r.end; ++row) {
    const float* from = w.qkv + ptrdiff_t{row} * kPanel;
    float* to = projections + ptrdiff_t{w.rows[row]} * columns.end;
    for (int c = 0; c < columns.end; c += kPanel)
      std::copy_n(from + c / kPanel * w.ld_panel, kPanel, to + c);
  }
}

// Moves rows that are read together, and quantizes them again in their new place.
void Encoder::gather_read(const Workspace& w, Range r) const {
  const ptrdiff_t d = model_.hidden_size;
  for (int row = r.begin; row < r.end; ++row)
    std::copy_n(w.x + w.read_rows[row] * d, d, w.read_x + row * d);
  Rows rows = rows_of(w, r);
  rows.x = w.read_x + r.begin * d;
  quantize(kernels_, model_.layers.back().qkv, rows);
}

void Encoder::embed(const Batch& batch, const Workspace& w, Range r) const {
  const Embeddings& embeddings = model_.embeddings;
  const ptrdiff_t e = embeddings.size, d = model_.hidden_size;
  const Linear &projection = model_.projection, &next = model_.layers[0].qkv;
  float* out = projection.n > 0 ? w.embedded : w.x;
  for (int row = r.begin; row < r.end; ++row) {
    const int32_t id = batch.input_ids[w.rows[row]];
    const int32_t type = model_.type_vocab_size > 0 ? batch.token_type_ids[w.rows[row]] : 0;
    embed_token(kernels_, embeddings, id, type, w.positions[row], out + row * e);
  }
  const Rows rows = rows_of(w, r);
  if (projection.n == 0) {
    normalise(kernels_, embeddings.norm, &next, rows);
    return;
  }
  Rows narrow = rows;
  narrow.x = w.embedded + r.begin * e;
  narrow.d = embeddings.size;
  normalise(kernels_, embeddings.norm, nullptr, narrow);
  kernels_.gemm_f32(float_args(projection, narrow.x, e, rows.x, d, rows.num));
  quantize(kernels_, next, rows);
}

Encoder::Columns Encoder::columns_of(Part part) const {
  const int width = model_.context_width();
  return {part == Part::kKeysAndValues ? width : 0,
          part == Part::kQueries ? width : model_.projection_width()};
}

// Queries, keys and values of the rows, as float panels.
void Encoder::project(const Layer& layer, Part part, const Workspace& w, Range r) const {
  const Columns columns = columns_of(part);
  apply_to_panels(kernels_, layer.qkv, columns.begin, columns.end, rows_of(w, r),
                  w.qkv + ptrdiff_t{r.begin} * kPanel + columns.begin / kPanel * w.ld_panel,
                  w.ld_panel);
}

// A unit is a head of a sequence. Queries, and what comes out, are rows of their own.
void Encoder::attend(const Layer& layer, const Workspace& w, const int* query_offsets, Range units,
                     uint8_t* scratch) const {
  const int heads = model_.num_heads, h = model_.padded_head_dim;
  const ptrdiff_t panels = h / kPanel, width = model_.context_width();
  const Linear& next = layer.attention;
  for (int unit = units.begin; unit < units.end; ++unit) {
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
    args.scratch = scratch;
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

// Keys and values for a decoder, a layer at a time.
void Encoder::remember(int count, int num_rows, const Workspace& w, Crew& crew,
                       const Output& out) const {
  const MemoryShape& shape = model_.memory;
  const int h = shape.padded_head_dim(), width = shape.width(), tile = kernels_.tile.mr;
  const auto inputs = [&](Range r) {
    Rows rows = rows_of(w, r);
    if (model_.states.n > 0) {
      rows.x = w.states + ptrdiff_t{r.begin} * model_.states.n;
      rows.d = model_.states.n;
    }
    return rows;
  };
  if (model_.states.n > 0)
    crew.share(num_rows, tile, [&](Range r, uint8_t*) {
      const Rows rows = inputs(r);
      apply_linear(kernels_, model_.states, rows_of(w, r), rows.x);
      quantize(kernels_, model_.output, rows);
    });
  for (int layer = 0; layer < shape.num_layers; ++layer) {
    const int first = layer * 2 * width;
    crew.share(num_rows, tile, [&](Range r, uint8_t*) {
      apply_to_panels(kernels_, model_.output, first, first + 2 * width, inputs(r),
                      w.qkv + ptrdiff_t{r.begin} * kPanel, w.ld_panel);
    });
    crew.share(count * shape.num_heads, 1, [&](Range units, uint8_t*) {
      for (int unit = units.begin; unit < units.end; ++unit) {
        const int i = unit / shape.num_heads, head = unit % shape.num_heads;
        const int tokens = w.offsets[i + 1] - w.offsets[i];
        const float* k =
            w.qkv + ptrdiff_t{head} * (h / kPanel) * w.ld_panel + ptrdiff_t{w.offsets[i]} * kPanel;
        kernels_.pack_head(kernels_,
                           {k, k + width / kPanel * w.ld_panel, w.ld_panel, tokens, h,
                            memory_head(shape, out.memories[w.sequences[i]], layer, head, tokens)});
      }
    });
  }
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
