// Runs under the sanitizers: sources that join and leave with random beams, on every table and
// thread count, against an engine of one thread; and damaged graphs.
//
//   decoding_driver ENCODER.onnx DECODER.onnx [rounds]
#include "cpu/cpu_features.h"
#include "decoding/encoder_decoder.h"
#include "kernel_checks.h"

#include <cstdio>
#include <fstream>
#include <iterator>

namespace bert_rt {
namespace {

std::string read_file(const char* path) {
  std::ifstream file(path, std::ios::binary);
  expect(file.good(), std::string("cannot read ") + path);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

// Logits of all steps, and what the best tokens of some are, one behind the other.
std::vector<float> decode(std::shared_ptr<EncoderDecoder> engine, Random random) {
  const Model& encoder = engine->encoder().model();
  const DecoderModel& model = engine->decoder_model();
  Decoding decoding(std::move(engine));
  std::vector<float> all;
  for (int i = 0; i < 12; ++i) {
    std::vector<int32_t> ids, types, cu{0};
    for (int joining = decoding.num_rows() == 0 ? 1 : between(random, 0, 2); joining > 0;
         --joining) {
      const int length = between(random, 1, encoder.max_position_embeddings);
      for (int t = 0; t < length; ++t) ids.push_back(between(random, 0, encoder.vocab_size - 1));
      cu.push_back(static_cast<int32_t>(ids.size()));
    }
    types.resize(ids.size());
    decoding.add({ids.data(), types.data(), cu.data(), static_cast<int>(cu.size()) - 1},
                 static_cast<int>(ids.size()));
    std::vector<int32_t> tokens, parents;
    for (int row = 0; row < decoding.num_rows(); ++row)
      for (int copies = between(random, 0, 2); copies > 0 && tokens.size() < 40; --copies) {
        tokens.push_back(between(random, 0, model.vocab_size - 1));
        parents.push_back(row);
      }
    const auto rows = static_cast<int>(tokens.size());
    std::vector<float> scores(tokens.size() * static_cast<size_t>(model.vocab_size));
    std::vector<int32_t> best(tokens.size() * 3);
    StepOutput out;
    if (i % 3 == 2) {
      out = {nullptr, 3, scores.data(), best.data()};
    } else {
      out.logits = scores.data();
    }
    decoding.step(tokens.data(), parents.data(), rows, out);
    all.insert(all.end(), scores.begin(), scores.end());
    for (const int32_t token : best) all.push_back(static_cast<float>(token));
  }
  decoding.step(nullptr, nullptr, 0, {});
  expect(decoding.num_cells() == 0 && decoding.num_rows() == 0, "all cells are free");
  return all;
}

void check_damage(Random& random, const std::string& encoder, const std::string& decoder,
                  int rounds) {
  for (int i = 0; i < rounds; ++i) {
    std::string files[2] = {encoder, decoder};
    std::string& damaged = files[i % 2];
    if (i % 4 < 2) damaged.resize(random() % damaged.size());
    for (int flips = between(random, i % 4 < 2 ? 0 : 1, 4); flips > 0 && !damaged.empty();
         --flips) {
      const size_t limit =
          random() % 2 == 0 ? damaged.size() : std::min<size_t>(4000, damaged.size());
      damaged[random() % limit] = static_cast<char>(random());
    }
    try {
      decode(std::make_shared<EncoderDecoder>(files[0], files[1], EngineSettings{1, "", 0, 0}),
             random);
    } catch (const std::invalid_argument&) {
    } catch (const std::bad_alloc&) {
    }
  }
}

int run(int argc, char** argv) {
  if (argc < 3) throw std::runtime_error("usage: decoding_driver ENCODER DECODER [rounds]");
  const std::string encoder = read_file(argv[1]), decoder = read_file(argv[2]);
  const int rounds = argc > 3 ? std::stoi(argv[3]) : 10;
  Random random(1);
  const auto open = [&](int threads, const std::string& isa) {
    return std::make_shared<EncoderDecoder>(encoder, decoder, EngineSettings{threads, isa, 0, 0});
  };
  const auto alone = open(1, "");
  for (const Kernels* table : supported_kernels())
    for (const int threads : {1, 2, 3}) {
      const auto engine = open(threads, table->name);
      for (int i = 0; i < rounds; ++i) {
        random.discard(1);
        expect(same(decode(engine, random), decode(alone, random)), "decoding");
      }
    }
  std::printf("decoding: equal on every table and thread count\n");
  check_damage(random, encoder, decoder, 40 * rounds);
  std::printf("reader: survived damage\n");
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
