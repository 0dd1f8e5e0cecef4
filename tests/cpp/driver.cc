// Runs under the sanitizers: every kernel table on random shapes against scalar, the engine on
// random batches with several thread counts, the reader on damaged files, WordPiece on any bytes.
//
//   driver MODEL.onnx [rounds]
#include "cpu_features.h"
#include "engine.h"
#include "ops/pack.h"
#include "ops/split.h"
#include "text/wordpiece.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iterator>
#include <numeric>
#include <random>
#include <stdexcept>
#include <string>

namespace bert_rt {

#if defined(BERT_RT_X86)
const Kernels* avxvnni_soft_kernels() noexcept;
#endif

namespace {

using Random = std::mt19937;

int between(Random& random, int low, int high) {
  return std::uniform_int_distribution<int>(low, high)(random);
}

void expect(bool holds, const std::string& what) {
  if (!holds) throw std::runtime_error("failed: " + what);
}

template <class T>
bool same(const std::vector<T>& a, const std::vector<T>& b) {
  return std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0;
}

// Exactly sized vectors: a byte too far is an error under AddressSanitizer.
void check_gemm(Random& random, const Kernels& kernels, const Kernels& scalar) {
  const int m = between(random, 1, 70), n = 16 * between(random, 1, 9);
  const int k = random() % 2 == 0 ? 4 * between(random, 1, 16) : 64 * between(random, 1, 6);
  const auto kp = static_cast<size_t>(padded_k(k)), rows = static_cast<size_t>(m),
             columns = static_cast<size_t>(n);
  std::vector<uint8_t> a(rows * kp);
  std::vector<int8_t> w(static_cast<size_t>(k) * columns), packed(columns * kp);
  std::vector<int32_t> init(columns);
  for (auto& x : a) x = static_cast<uint8_t>(random());
  // Up to 32 hardly any four overflows 16 bits, from 90 on most do.
  const int largest = between(random, 1, 4) * 32;
  for (auto& x : w) x = static_cast<int8_t>(between(random, -largest, std::min(largest, 127)));
  IndexMap row_map(static_cast<size_t>(k)), column_map(columns);
  std::iota(row_map.begin(), row_map.end(), 0);
  std::iota(column_map.begin(), column_map.end(), 0);
  pack_s8(w.data(), n, row_map, column_map, packed.data(), init.data());
  std::vector<float> scale(columns, 1e-4f), bias(columns, 0.1f), mult(columns, 20.0f);
  const GemmArgs args{a.data(),
                      static_cast<ptrdiff_t>(kp),
                      packed.data(),
                      static_cast<ptrdiff_t>(kp) * 16,
                      init.data(),
                      m,
                      n,
                      k};
  std::vector<int8_t> capped = packed;
  const SplitRest rest = split_s8(capped.data(), n, k);
  GemmArgs split = args;
  split.b = capped.data();
  split.rest = rest.view();
  const auto run = [&](const Kernels& table) {
    std::vector<int32_t> s32(rows * columns);
    std::vector<float> panels(rows * columns), sums(rows * columns, 0.5f);
    std::vector<uint8_t> codes(rows * columns);
    const Dequantize dequantize{scale.data(), bias.data()};
    table.gemm_s32(args, s32.data(), n);
    table.gemm_dequantize_panels(args, dequantize, panels.data(), ptrdiff_t{m} * 16);
    table.gemm_dequantize_residual(args, dequantize, sums.data(), sums.data(), n);
    table.gemm_dequantize_gelu_quantize(args, dequantize, {mult.data(), 5.0f}, codes.data(), n);
    if (table.sums_in_16_bits) {
      std::vector<int32_t> again(rows * columns);
      table.gemm_s32(split, again.data(), n);
      expect(same(again, s32), "gemm_s32 of weights in two parts");
      table.gemm_dequantize_panels(split, dequantize, panels.data(), ptrdiff_t{m} * 16);
      table.gemm_dequantize_gelu_quantize(split, dequantize, {mult.data(), 5.0f}, codes.data(), n);
    }
    return std::tuple(s32, panels, sums, codes);
  };
  const auto got = run(kernels), want = run(scalar);
  expect(same(std::get<0>(got), std::get<0>(want)), "gemm_s32");
  expect(same(std::get<1>(got), std::get<1>(want)), "gemm_dequantize_panels");
  expect(same(std::get<2>(got), std::get<2>(want)), "gemm_dequantize_residual");
  expect(same(std::get<3>(got), std::get<3>(want)), "gemm_dequantize_gelu_quantize");
}

void check_attention(Random& random, const Kernels& kernels, const Kernels& scalar) {
  const int s = between(random, 1, 150), h = 16 * between(random, 1, 6);
  const auto count = static_cast<size_t>(s * h);
  std::vector<float> q(count), k(count), v(count);
  std::normal_distribution<float> normal;
  for (auto* x : {&q, &k, &v})
    for (auto& value : *x) value = normal(random);
  const auto run = [&](const Kernels& table) {
    std::vector<float> out(count);
    Buffer<uint8_t> scratch(attention_scratch_bytes(s, h));
    AttentionArgs args{};
    args.q = q.data();
    args.k = k.data();
    args.v = v.data();
    args.ld_panel = ptrdiff_t{s} * 16;
    args.s = s;
    args.h = h;
    args.scale = 0.2f;
    args.out_f32 = out.data();
    args.ldo = h;
    args.scratch = scratch.data();
    table.attention_head(table, args);
    return out;
  };
  expect(same(run(kernels), run(scalar)), "attention_head");
}

struct Sequences {
  std::vector<int32_t> ids, types, cu{0};
  Batch batch() const {
    return {ids.data(), types.data(), cu.data(), static_cast<int>(cu.size()) - 1};
  }
};

Sequences random_sequences(Random& random, const Model& model) {
  Sequences s;
  const int count = between(random, 1, 12);
  for (int i = 0; i < count; ++i) {
    const int length = between(random, 1, model.max_position_embeddings);
    for (int t = 0; t < length; ++t) {
      s.ids.push_back(between(random, 0, model.vocab_size - 1));
      s.types.push_back(between(random, 0, std::max(model.type_vocab_size, 1) - 1));
    }
    s.cu.push_back(static_cast<int32_t>(s.ids.size()));
  }
  return s;
}

std::vector<float> logits(Engine& engine, const Sequences& s) {
  std::vector<float> out(2 * s.ids.size());
  engine.check(s.batch(), static_cast<int>(s.ids.size()));
  engine.run(s.batch(), {out.data(), out.data() + s.ids.size(), nullptr});
  return out;
}

void check_engine(Random& random, const std::string& model, int rounds) {
  Engine alone(model, {1, "", 0, 0});
  for (const Kernels* table : supported_kernels())
    for (const int threads : {2, 3}) {
      Engine engine(model, {threads, table->name, 0, between(random, 1, 300)});
      for (int i = 0; i < rounds; ++i) {
        const Sequences s = random_sequences(random, engine.model());
        expect(same(logits(engine, s), logits(alone, s)), "engine");
      }
    }
}

// Any damage ends in an exception or in a model that still runs.
void check_damage(Random& random, const std::string& model, int rounds) {
  for (int i = 0; i < rounds; ++i) {
    std::string damaged = model;
    if (i % 2 == 0) damaged.resize(random() % model.size());
    for (int flips = between(random, i % 2, 4); flips > 0 && !damaged.empty(); --flips) {
      // Most of the file is weights: half of the damage goes to the structure at the start.
      const size_t limit =
          random() % 2 == 0 ? damaged.size() : std::min<size_t>(4000, damaged.size());
      damaged[random() % limit] = static_cast<char>(random());
    }
    try {
      Engine engine(damaged, {1, "", 0, 0});
      const Sequences s = random_sequences(random, engine.model());
      if (engine.model().head == Head::kQuestionAnswering) logits(engine, s);
    } catch (const std::invalid_argument&) {
    } catch (const std::bad_alloc&) {
    }
  }
}

// Any bytes, in blocks of exactly their size: spans lie in the text, one behind the other.
void check_wordpiece(Random& random) {
  const WordPiece wordpiece({"[UNK]", "a", "ab", "##b", "##ba", "-", "\xc3\xa9"},
                            {0, 1, 2, 3, 4, 5, 6}, {"##", 0, 20, true});
  const std::string letters = "aaAbb- \n\x07\xc3\xa9";
  std::vector<char> text(static_cast<size_t>(between(random, 0, 80)));
  const bool is_any = random() % 4 == 0;
  for (char& c : text)
    c = is_any ? static_cast<char>(random()) : letters[random() % letters.size()];
  std::vector<WordPiece::Token> tokens;
  std::vector<WordPiece::Rest> rests;
  if (!wordpiece.encode({text.data(), text.size()}, tokens, rests)) return;
  int32_t end = 0;
  for (const WordPiece::Token& token : tokens) {
    expect(token.begin >= end && token.end > token.begin, "tokens stand one behind the other");
    end = token.end;
  }
  expect(end <= static_cast<int32_t>(text.size()), "tokens stand in the text");
  for (const WordPiece::Rest& rest : rests)
    expect(rest.end <= static_cast<int32_t>(text.size()) &&
               rest.at <= static_cast<int32_t>(tokens.size()),
           "what is left to the library stands in the text");
}

int run(int argc, char** argv) {
  if (argc < 2) throw std::runtime_error("usage: driver MODEL.onnx [rounds]");
  std::ifstream file(argv[1], std::ios::binary);
  expect(file.good(), std::string("cannot read ") + argv[1]);
  const std::string model((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  const int rounds = argc > 2 ? std::atoi(argv[2]) : 10;
  Random random(1);
  const Kernels& scalar = select_kernels("scalar");
  std::vector<const Kernels*> tables = supported_kernels();
#if defined(BERT_RT_X86)
  if (cpu_features().avx2 && cpu_features().fma) tables.push_back(avxvnni_soft_kernels());
#endif
  for (const Kernels* table : tables) {
    for (int i = 0; i < 4 * rounds; ++i) check_gemm(random, *table, scalar);
    for (int i = 0; i < rounds; ++i) check_attention(random, *table, scalar);
    std::printf("%s: kernels equal scalar\n", table->name);
  }
  check_engine(random, model, rounds);
  std::printf("engine: equal on every table and thread count\n");
  check_damage(random, model, 40 * rounds);
  std::printf("reader: survived damage\n");
  for (int i = 0; i < 400 * rounds; ++i) check_wordpiece(random);
  std::printf("wordpiece: spans lie in the text\n");
  return 0;
}

} // namespace
} // namespace bert_rt

int main(int argc, char** argv) {
  try {
    return bert_rt::run(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
