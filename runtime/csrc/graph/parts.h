// Recognises the parts that graphs of encoders and decoders have in common, and hands out views of
// their constants.
#pragma once

#include "graph/match.h"
#include "graph/walk.h"

#include <string_view>
#include <vector>

namespace bert_rt {

class GraphParts : protected GraphWalk {
 public:
  using GraphWalk::GraphWalk;

 protected:
  // Which input of an Add is a linear layer; -1: none.
  int linear_side(const Node& add) const;
  LinearView match_linear(std::string_view output) const;
  NormView match_norm(std::string_view output) const;
  // The value before an exact GELU.
  std::string_view gelu_input(std::string_view output) const;
  // Checks an Attention node whose inputs are d wide.
  static void set_heads(const Node& attention, int d, int& num_heads, float& scale);
  // The sum of embeddings of words and positions, and of types where the graph has them.
  EmbeddingView match_embeddings(const Node& add) const;

 private:
  void match_quantized(LinearView& view, const Node& weights, std::string_view input) const;
  static void set_shape(LinearView& view, const Node& user, const Tensor& weights);
  size_t outlier_side(const Node& sum) const;
  void match_outliers(LinearView& view, const Node& product) const;

  void collect_addends(const Node& add, int depth, std::vector<std::string_view>& leaves) const;
  static void set_width(EmbeddingView& view, const Node& user, int64_t width);
  void match_table(EmbeddingView& view, const Node& gather) const;
  void match_only_type(EmbeddingView& view, const Node& add, std::string_view value) const;
  void match_positions(EmbeddingView& view, const Node& slice) const;
  void match_split_positions(EmbeddingView& view, const Node& gather) const;
  void match_count(std::string_view value, std::string_view counted) const;
  void match_quantized_words(EmbeddingView& view, const Node& mul) const;
};

} // namespace bert_rt
