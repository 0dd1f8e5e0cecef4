#include "decoding/decoder.h"

#include <algorithm>

namespace bert_rt {

// Everything for one block of rows. Float buffers are few rows here, so they are always there.
Decoder::Workspace Decoder::carve(uint8_t* block) const {
  Carver carver(block);
  Workspace w;
  const size_t m = kBlockRows, d = static_cast<size_t>(model_.hidden_size);
  const int width = model_.context_width(), f = round_up(model_.intermediate_size, kPanel);
  const auto columns = static_cast<size_t>(width);
  w.ldx = padded_k(model_.hidden_size);
  w.ldc = padded_k(width);
  w.ldf = padded_k(f);
  w.ld_panel = ptrdiff_t{kBlockRows | 1} * kPanel; // odd: panels must not fall into the same sets
  w.x = carver.take<float>(m * d);
  w.transformed = carver.take<float>(m * d);
  w.x_u8 = carver.take<uint8_t>(m * static_cast<size_t>(w.ldx));
  w.qkv = carver.take<float>(m * 3 * columns);
  w.cross = carver.take<float>(columns / kPanel * static_cast<size_t>(w.ld_panel));
  w.context = carver.take<uint8_t>(m * static_cast<size_t>(w.ldc));
  w.context_f32 = carver.take<float>(m * columns);
  w.hidden = carver.take<uint8_t>(m * static_cast<size_t>(w.ldf));
  w.hidden_f32 = carver.take<float>(m * static_cast<size_t>(f));
  w.sum_f32 = carver.take<float>(m * d);
  w.outliers = carver.take<float>(m * kPanel);
  w.scores = carver.take<float>(kScoreRows * static_cast<size_t>(model_.vocabulary.n));
  w.blocks = carver.take<float>(2 * static_cast<size_t>(model_.vocabulary.n / kScoreBlock + 1));
  w.scratch = carver.take<uint8_t>(
      std::max(cached_attention_scratch_bytes(model_.max_position_embeddings),
               attend_scratch_bytes(max_source_tokens_, model_.padded_head_dim)));
  w.bytes = carver.used();
  return w;
}

Rows Decoder::rows_of(const Workspace& w, int num) const {
  Rows rows;
  rows.num = num;
  rows.d = model_.hidden_size;
  rows.x = w.x;
  rows.x_u8 = w.x_u8;
  rows.hidden = w.hidden;
  rows.hidden_f32 = w.hidden_f32;
  rows.sum_f32 = w.sum_f32;
  rows.outliers = w.outliers;
  rows.ldx = w.ldx;
  rows.ldf = w.ldf;
  return rows;
}

void Decoder::run(const StepRow* rows, int begin, int end, uint8_t* workspace,
                  const StepOutput& out) const {
  const Workspace w = carve(workspace);
  for (int first = begin; first < end; first += kBlockRows) {
    const int num = std::min(kBlockRows, end - first);
    run_block(rows + first, num, w);
    score(first, num, w, out);
  }
}

void Decoder::run_block(const StepRow* rows, int num, const Workspace& w) const {
  const Rows r = rows_of(w, num);
  const ptrdiff_t d = model_.hidden_size, width = model_.context_width();
  for (int i = 0; i < num; ++i)
    embed_token(kernels_, model_.embeddings, rows[i].token, 0, rows[i].num_tokens - 1, w.x + i * d);
  normalise(kernels_, model_.embeddings.norm, &model_.layers[0].qkv, r);
  for (size_t i = 0; i < model_.layers.size(); ++i) {
    const DecoderLayer& layer = model_.layers[i];
    const auto index = static_cast<int>(i);
    apply_linear(kernels_, layer.qkv, r, w.qkv);
    attend_to_targets(layer, index, rows, w, r);
    add_linear(kernels_, layer.attention, w.context, w.ldc, w.context_f32, width, r);
    normalise(kernels_, layer.norm1, &layer.cross_query, r);
    apply_to_panels(kernels_, layer.cross_query, 0, layer.cross_query.n, r, w.cross, w.ld_panel);
    attend_to_sources(layer, index, rows, w, r);
    add_linear(kernels_, layer.cross_attention, w.context, w.ldc, w.context_f32, width, r);
    normalise(kernels_, layer.norm2, &layer.feed_forward.up, r);
    add_feed_forward(kernels_, layer.feed_forward, r);
    const bool is_last = i + 1 == model_.layers.size();
    normalise(kernels_, layer.norm3, is_last ? &model_.transform : &model_.layers[i + 1].qkv, r);
  }
}

// Writes the keys and values of this token, then looks at them and at those before.
void Decoder::attend_to_targets(const DecoderLayer& layer, int index, const StepRow* rows,
                                const Workspace& w, const Rows& r) const {
  const ptrdiff_t width = model_.context_width();
  const CellLayout layout = model_.cell_layout(index);
  const Linear& next = layer.attention;
  for (int i = 0; i < r.num; ++i) {
    const float* q = w.qkv + i * 3 * width;
    const StepRow& row = rows[i];
    kernels_.store_cell({q + width, q + 2 * width, model_.num_heads, model_.padded_head_dim, layout,
                         row.cells[row.num_tokens - 1]});
    CachedAttentionArgs args{};
    args.q = q;
    args.cells = row.cells;
    args.s = row.num_tokens;
    args.num_heads = model_.num_heads;
    args.h = model_.padded_head_dim;
    args.scale = layer.attention_scale;
    args.layout = layout;
    args.scratch = w.scratch;
    if (next.is_int8) {
      args.quantize = {next.mult.data(), next.zero_point};
      args.out_u8 = w.context + i * w.ldc;
    } else {
      args.out_f32 = w.context_f32 + i * width;
    }
    kernels_.cached_attention(args);
  }
}

// Rows of one source stand together: they are the queries of one attention.
void Decoder::attend_to_sources(const DecoderLayer& layer, int index, const StepRow* rows,
                                const Workspace& w, const Rows& r) const {
  const ptrdiff_t width = model_.context_width();
  const int h = model_.padded_head_dim;
  const MemoryShape shape = model_.memory();
  const Linear& next = layer.cross_attention;
  for (int first = 0, end = 0; first < r.num; first = end) {
    while (end < r.num && rows[end].memory == rows[first].memory) ++end;
    const StepRow& row = rows[first];
    for (int head = 0; head < model_.num_heads; ++head) {
      const ptrdiff_t column = ptrdiff_t{head} * h;
      AttendArgs args{};
      args.q = w.cross + column / kPanel * w.ld_panel + ptrdiff_t{first} * kPanel;
      args.ld_panel = w.ld_panel;
      args.m = end - first;
      args.s = row.source_tokens;
      args.h = h;
      args.scale = layer.cross_scale;
      args.from = memory_head(shape, row.memory, index, head, row.source_tokens);
      args.scratch = w.scratch;
      if (next.is_int8) {
        args.quantize = {next.mult.data() + column, next.zero_point};
        args.out_u8 = w.context + first * w.ldc + column;
        args.ldo = w.ldc;
      } else {
        args.out_f32 = w.context_f32 + first * width + column;
        args.ldo = width;
      }
      kernels_.attend(kernels_, args);
    }
  }
}

void Decoder::score(int first_row, int num, const Workspace& w, const StepOutput& out) const {
  const ptrdiff_t d = model_.hidden_size, v = model_.vocab_size, n = model_.vocabulary.n;
  Rows r = rows_of(w, num);
  apply_linear(kernels_, model_.transform, r, w.transformed);
  kernels_.gelu_rows(w.transformed, d, num, model_.hidden_size);
  r.x = w.transformed;
  normalise(kernels_, model_.transform_norm, &model_.vocabulary, r);
  for (int first = 0; first < num; first += kScoreRows) {
    Rows some = r;
    some.num = std::min(kScoreRows, num - first);
    some.x += first * d;
    some.x_u8 += first * w.ldx;
    apply_linear(kernels_, model_.vocabulary, some, w.scores);
    for (int i = 0; i < some.num; ++i) {
      const ptrdiff_t row = first_row + first + i;
      if (out.logits != nullptr)
        std::copy_n(w.scores + i * n, v, out.logits + row * v);
      else
        find_best(kernels_, w.scores + i * n, model_.vocabulary.n, model_.vocab_size, w.blocks,
                  {out.count, out.log_probs + row * out.count, out.tokens + row * out.count});
    }
  }
}

} // namespace bert_rt
