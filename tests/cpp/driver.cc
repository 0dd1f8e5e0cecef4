// Runs under the sanitizers: every kernel table on random shapes against scalar, the engine on
// random batches with several thread counts, the reader on damaged files, WordPiece on any bytes.
//
//   driver MODEL.onnx [rounds]
//   driver MODEL.onnx LOGITS
//
// LOGITS holds a batch and its logits as another machine computed them, which must be equal bit for
// bit here, with every table: int32 B, T, cu_seqlens, input_ids, token_type_ids, then float32 start
// and end logits.
#include "cpu/cpu_features.h"
#include "decode_checks.h"
#include "engine.h"
#include "kernel_checks.h"
#include "text/wordpiece.h"

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <random>
#include <stdexcept>
#include <string>

namespace bert_rt {

#if defined(BERT_RT_X86)
const Kernels* avxvnni_soft_kernels() noexcept;
#endif

namespace {

struct Sequences {
  std::vector<int32_t> ids, types, cu{0}, ranges;
  // Logits of all tokens, or of some.
  Batch batch(bool is_all_read = true) const {
    return {ids.data(), types.data(), cu.data(), static_cast<int>(cu.size()) - 1,
            is_all_read ? nullptr : ranges.data()};
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
    s.ranges.push_back(between(random, 0, length));
    s.ranges.push_back(between(random, s.ranges.back(), length));
  }
  return s;
}

// Start and end logits one behind the other, or the logits of all tokens.
std::vector<float> logits(Engine& engine, const Sequences& s, bool is_all_read = true) {
  const bool is_spans = engine.model().head == HeadKind::kSpans;
  const size_t width = is_spans ? 2 : static_cast<size_t>(engine.model().num_labels);
  std::vector<float> out(width * s.ids.size());
  const Batch batch = s.batch(is_all_read);
  engine.check(batch, static_cast<int>(s.ids.size()));
  engine.run(batch, is_spans ? Output{out.data(), out.data() + s.ids.size(), nullptr}
                             : Output{nullptr, nullptr, out.data()});
  return out;
}

// What is left of all logits where only those in the ranges are read.
std::vector<float> read_only(const Sequences& s, std::vector<float> all, HeadKind head) {
  const size_t count = s.ids.size(), width = all.size() / std::max<size_t>(count, 1);
  for (size_t i = 0; i + 1 < s.cu.size(); ++i)
    for (int32_t t = s.cu[i]; t < s.cu[i + 1]; ++t) {
      const int32_t place = t - s.cu[i];
      if (place == 0 || (place >= s.ranges[2 * i] && place < s.ranges[2 * i + 1])) continue;
      const auto row = static_cast<size_t>(t);
      for (size_t k = 0; k < width; ++k)
        all[head == HeadKind::kSpans ? k * count + row : row * width + k] = 0.0f;
    }
  return all;
}

void check_engine(Random& random, const std::string& model, int rounds) {
  Engine alone(model, {1, "", 0, 0});
  for (const Kernels* table : supported_kernels())
    for (const int threads : {2, 3}) {
      Engine engine(model, {threads, table->name, 0, between(random, 1, 300)});
      for (int i = 0; i < rounds; ++i) {
        const Sequences s = random_sequences(random, engine.model());
        const std::vector<float> all = logits(alone, s);
        expect(same(logits(engine, s), all), "engine");
        expect(same(logits(engine, s, false), read_only(s, all, engine.model().head)),
               "engine, some logits read");
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
      if (engine.model().head != HeadKind::kPooled) logits(engine, s);
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

std::string read_file(const char* path) {
  std::ifstream file(path, std::ios::binary);
  expect(file.good(), std::string("cannot read ") + path);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

void check_logits(const std::string& model, const std::string& file) {
  const char* next = file.data();
  const auto take = [&](auto& numbers, size_t count) {
    const size_t bytes = count * sizeof numbers[0];
    expect(bytes <= static_cast<size_t>(file.data() + file.size() - next), "LOGITS is whole");
    numbers.resize(count);
    std::memcpy(numbers.data(), next, bytes);
    next += bytes;
  };
  std::vector<int32_t> sizes;
  take(sizes, 2);
  const auto tokens = static_cast<size_t>(sizes[1]);
  Sequences s;
  take(s.cu, static_cast<size_t>(sizes[0]) + 1);
  take(s.ids, tokens);
  take(s.types, tokens);
  std::vector<float> want;
  take(want, 2 * tokens);
  const auto check = [&](const std::string& isa) {
    Engine engine(model, {2, isa, 0, 0});
    const std::string name = engine.kernels().name;
    expect(same(logits(engine, s), want), "logits of the other machine: " + name);
    return name;
  };
  for (const Kernels* table : supported_kernels())
    std::printf("%s: logits equal the other machine's\n", check(table->name).c_str());
  std::printf("%s: chosen here\n", check("").c_str());
}

int run(int argc, char** argv) {
  if (argc < 2) throw std::runtime_error("usage: driver MODEL.onnx [rounds | LOGITS]");
  const std::string model = read_file(argv[1]);
  const std::string argument = argc > 2 ? argv[2] : "10";
  if (argument.find_first_not_of("0123456789") != std::string::npos) {
    check_logits(model, read_file(argv[2]));
    return 0;
  }
  const int rounds = std::stoi(argument);
  Random random(1);
  const Kernels& scalar = select_kernels("scalar");
  std::vector<const Kernels*> tables = supported_kernels();
#if defined(BERT_RT_X86)
  if (cpu_features().avx2 && cpu_features().fma) tables.push_back(avxvnni_soft_kernels());
#endif
  for (const Kernels* table : tables) {
    check_kernels(random, *table, scalar, rounds);
    check_decode_kernels(random, *table, scalar, rounds);
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
