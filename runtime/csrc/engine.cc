#include "engine.h"

#include "cpu/cpu_features.h"
#include "cpu/thread_pool.h"
#include "reuse/segments.h"

#include <algorithm>
#include <memory>
#include <numeric>
#include <stdexcept>
#include <unistd.h>

namespace bert_rt {
namespace {

constexpr int kDefaultGroupTokens = 256;
constexpr int kLateGroupShare = 4; // a late group has this part of the others' tokens
constexpr int kMaxThreads = 1024;
// Of sequences that go through split layers, and then through the others, at once.
constexpr int kStateTokens = 4096;
constexpr size_t kMiB = size_t{1} << 20;

std::string number(int64_t x) { return std::to_string(x); }

} // namespace

struct Engine::Team {
  Team(int size, size_t max_cache_bytes)
      : pool(size), crews(static_cast<size_t>(size)), pid(getpid()), cache(max_cache_bytes) {}
  std::mutex lock;
  ThreadPool pool;
  Crews crews;
  pid_t pid;
  std::vector<int> order; // kept from run to run, so that nothing is allocated
  std::vector<Group> groups;
  Segments segments;
  ContextCache cache; // a forked child begins with an empty one
};

Engine::Engine(std::string_view onnx_file, const EngineSettings& settings,
               const MemoryShape& memory)
    : kernels_(select_kernels(settings.isa)),
      model_(load_model(onnx_file, std::clamp(settings.num_threads, 1, 8), kernels_.sums_in_16_bits,
                        memory)),
      encoder_(model_, kernels_), num_threads_(settings.num_threads),
      max_cache_bytes_(static_cast<size_t>(std::max(settings.max_context_cache_mb, 0)) * kMiB) {
  if (num_threads_ < 1 || num_threads_ > kMaxThreads)
    throw std::invalid_argument("num_threads: got " + number(num_threads_) + ", want 1 to " +
                                number(kMaxThreads));
  const int longest = model_.max_position_embeddings;
  const int wanted = settings.group_tokens > 0 ? settings.group_tokens : kDefaultGroupTokens;
  group_tokens_ = std::max(wanted, longest);
  scratch_bytes_ = attention_scratch_bytes(longest, model_.padded_head_dim);
  // Under a tight ceiling groups shrink, but one longest sequence a thread must fit.
  const size_t ceiling =
      settings.max_memory_mb > 0 ? static_cast<size_t>(settings.max_memory_mb) * kMiB : SIZE_MAX;
  workspace_bytes_ = workspace_bytes(model_, group_tokens_);
  if (model_.num_split_layers > 0) state_tokens_ = std::max(kStateTokens, longest);
  if (ceiling_bytes() > ceiling) {
    group_tokens_ = longest;
    if (model_.num_split_layers > 0) state_tokens_ = longest;
    workspace_bytes_ = workspace_bytes(model_, group_tokens_);
  }
  if (ceiling_bytes() > ceiling)
    throw std::invalid_argument("max_memory_mb: got " + number(settings.max_memory_mb) +
                                ", want at least " +
                                number(static_cast<int64_t>(ceiling_bytes() / kMiB + 1)) +
                                " for this model and " + number(num_threads_) + " threads");
  group_target_ = std::min(wanted, group_tokens_);
  for (int i = 0; i < num_threads_; ++i) {
    workspaces_.emplace_back(workspace_bytes_);
    scratch_.emplace_back(scratch_bytes_);
    scratch_of_threads_.push_back(scratch_.back().data());
  }
  const auto tokens = static_cast<size_t>(state_tokens_);
  states_ = Buffer<float>(tokens * static_cast<size_t>(model_.hidden_size));
  projections_ = Buffer<float>(tokens * static_cast<size_t>(model_.projection_width()));
  team_ = new Team(num_threads_, max_cache_bytes_);
}

Engine::~Engine() {
  // Threads do not survive a fork: there is nothing to join, and the old pool stays behind.
  const Team* team = team_;
  if (team->pid == getpid()) delete team;
}

size_t Engine::ceiling_bytes() const {
  const auto state_size = static_cast<size_t>(model_.hidden_size + model_.projection_width());
  return weight_bytes() + static_cast<size_t>(num_threads_) * (workspace_bytes_ + scratch_bytes_) +
         static_cast<size_t>(state_tokens_) * state_size * sizeof(float);
}

Engine::Team& Engine::team() {
  Team* team = team_.load(std::memory_order_acquire);
  if (team->pid == getpid()) return *team;
  // Its threads live in the parent only, and one of them may have been changing its vectors.
  // Several callers may come here at a time: one team becomes everybody's.
  auto own = std::make_unique<Team>(num_threads_, max_cache_bytes_);
  if (team_.compare_exchange_strong(team, own.get(), std::memory_order_acq_rel))
    return *own.release();
  return *team;
}

void Engine::check(const Batch& batch, int num_tokens) const {
  const int b = batch.num_sequences;
  if (b < 0 || batch.cu_seqlens[0] != 0)
    throw std::invalid_argument("cu_seqlens[0]: got " + number(batch.cu_seqlens[0]) + ", want 0");
  for (int i = 0; i < b; ++i) {
    const int64_t length = int64_t{batch.cu_seqlens[i + 1]} - batch.cu_seqlens[i];
    if (length < 1 || length > model_.max_position_embeddings)
      throw std::invalid_argument("cu_seqlens: sequence " + number(i) + " has " + number(length) +
                                  " tokens, want 1 to " + number(model_.max_position_embeddings));
  }
  if (batch.cu_seqlens[b] != num_tokens)
    throw std::invalid_argument("cu_seqlens: ends at " + number(batch.cu_seqlens[b]) +
                                ", want the " + number(num_tokens) + " tokens of input_ids");
  for (int i = 0; i < b && batch.logit_ranges != nullptr; ++i) {
    const int32_t begin = batch.logit_ranges[2 * i], end = batch.logit_ranges[2 * i + 1];
    const int32_t length = batch.cu_seqlens[i + 1] - batch.cu_seqlens[i];
    if (begin < 0 || end < begin || end > length)
      throw std::invalid_argument("logit_ranges[" + number(i) + "]: got " + number(begin) + " to " +
                                  number(end) + ", want a range of the sequence's " +
                                  number(length) + " tokens");
  }
  for (int t = 0; t < num_tokens; ++t) {
    if (batch.input_ids[t] < 0 || batch.input_ids[t] >= model_.vocab_size)
      throw std::invalid_argument("input_ids[" + number(t) + "]: got " +
                                  number(batch.input_ids[t]) + ", want 0 to " +
                                  number(model_.vocab_size - 1));
    if (model_.type_vocab_size == 0) continue; // types are not read
    if (batch.token_type_ids[t] < 0 || batch.token_type_ids[t] >= model_.type_vocab_size)
      throw std::invalid_argument("token_type_ids[" + number(t) + "]: got " +
                                  number(batch.token_type_ids[t]) + ", want 0 to " +
                                  number(model_.type_vocab_size - 1));
  }
  if (model_.num_split_layers > 0) check_texts(batch);
}

// With split layers: a first text of type 0 and a second of type 1, which its positions hold.
void Engine::check_texts(const Batch& batch) const {
  for (int i = 0; i < batch.num_sequences; ++i) {
    const int begin = passage_begin(batch, i), end = batch.cu_seqlens[i + 1];
    for (int t = begin; t < end; ++t)
      if (batch.token_type_ids[t] != 1)
        throw std::invalid_argument(
            "token_type_ids[" + number(t) + "]: got " + number(batch.token_type_ids[t]) +
            " behind a token of type 1, want 1: the model has split layers");
    const int most = model_.max_position_embeddings - model_.passage_position;
    if (end - begin > most)
      throw std::invalid_argument("token_type_ids: sequence " + number(i) + " has " +
                                  number(end - begin) + " tokens of type 1, want at most " +
                                  number(most) + ": the model has split layers");
  }
}

// Longest first; short sequences share a group, so that the GEMMs get enough rows. The last groups,
// those that threads wait for each other at, are smaller.
void Engine::plan(const Batch& batch, std::vector<int>& order, std::vector<Group>& groups) const {
  const auto length = [&batch](int s) { return batch.cu_seqlens[s + 1] - batch.cu_seqlens[s]; };
  order.resize(static_cast<size_t>(batch.num_sequences));
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return length(a) > length(b); });
  groups.clear();
  int64_t left = batch.cu_seqlens[batch.num_sequences] - batch.cu_seqlens[0];
  for (int i = 0; i < batch.num_sequences; ++i) {
    const int tokens = length(order[static_cast<size_t>(i)]);
    const bool is_late = num_threads_ > 1 && left <= int64_t{num_threads_} * group_target_;
    const int target = is_late ? group_target_ / kLateGroupShare : group_target_;
    if (groups.empty() || groups.back().tokens + tokens > target) groups.push_back({i, 0, 0});
    left -= tokens;
    Group& g = groups.back();
    ++g.count;
    g.tokens += tokens;
  }
}

void Engine::run(const Batch& batch, const Output& out) {
  if (batch.num_sequences == 0) return;
  Team& team = this->team();
  const std::lock_guard<std::mutex> guard(team.lock);
  if (model_.num_split_layers > 0)
    run_split(team, batch, &out, nullptr);
  else
    compute(team, batch, [&](int count, int rows, const Workspace& w, Crew& crew) {
      encoder_.run(batch, count, rows, w, crew, out);
    });
}

void Engine::prepare(const Batch& passages, float* states) {
  if (passages.num_sequences == 0 || model_.num_split_layers == 0) return;
  Team& team = this->team();
  const std::lock_guard<std::mutex> guard(team.lock);
  run_split(team, passages, nullptr, states);
}

void Engine::keep(const Batch& passages, const float* states) {
  Team& team = this->team();
  const std::lock_guard<std::mutex> guard(team.lock);
  const auto d = static_cast<size_t>(model_.hidden_size);
  for (int i = 0; i < passages.num_sequences; ++i) {
    const int first = passages.cu_seqlens[i], tokens = passages.cu_seqlens[i + 1] - first;
    team.cache.insert(passages.input_ids + first, tokens, states + static_cast<size_t>(first) * d,
                      static_cast<size_t>(tokens) * d);
  }
}

void Engine::forget() {
  Team& team = this->team();
  const std::lock_guard<std::mutex> guard(team.lock);
  team.cache.clear();
}

size_t Engine::context_bytes(int tokens) const {
  return ContextCache::entry_bytes(tokens, static_cast<size_t>(tokens) *
                                               static_cast<size_t>(model_.hidden_size));
}

ContextCacheFacts Engine::context_cache() {
  Team& team = this->team();
  const std::lock_guard<std::mutex> guard(team.lock);
  const ContextCache& cache = team.cache;
  return {cache.size(), cache.bytes(), cache.max_bytes(), cache.num_hits(), cache.num_misses()};
}

// Sequences in turns of bounded size: the split layers over their different parts, then the others
// over the whole, where something is to come out.
void Engine::run_split(Team& team, const Batch& batch, const Output* out, float* states) {
  for (int first = 0, end = 0; first < batch.num_sequences; first = end) {
    const int32_t* cu = batch.cu_seqlens;
    for (end = first + 1; end < batch.num_sequences; ++end)
      if (cu[end + 1] - cu[first] > state_tokens_) break;
    Batch turn = batch;
    turn.num_sequences = end - first;
    turn.cu_seqlens += first;
    if (turn.logit_ranges != nullptr) turn.logit_ranges += ptrdiff_t{2} * first;
    Segments& segments = team.segments;
    segments.cut(turn, model_.passage_position,
                 {states_.data(), projections_.data(), static_cast<size_t>(model_.hidden_size),
                  static_cast<size_t>(model_.projection_width())},
                 team.cache);
    const Batch parts = segments.parts(), bare = segments.bare_parts();
    compute(team, parts, [&](int count, int rows, const Workspace& w, Crew& crew) {
      encoder_.run_split(parts, count, rows, w, crew, states_.data(), projections_.data());
    });
    compute(team, bare, [&](int count, int rows, const Workspace& w, Crew& crew) {
      encoder_.run_split(bare, count, rows, w, crew, nullptr, segments.bare_projections());
    });
    turn.states = segments.states_of_tokens();
    turn.projections = segments.projections_of_tokens();
    if (out != nullptr)
      compute(team, turn, [&](int count, int rows, const Workspace& w, Crew& crew) {
        encoder_.run(turn, count, rows, w, crew, *out);
      });
    if (states != nullptr) {
      const auto d = static_cast<size_t>(model_.hidden_size);
      for (int t = cu[first]; t < cu[end]; ++t)
        std::copy_n(turn.states[t - cu[first]], d, states + static_cast<size_t>(t) * d);
    }
    segments.keep(team.cache, out == nullptr); // last, since it drops what was found
  }
}

// Calls work on all sequences, in groups: each is led by the thread that takes it.
template <class Work>
void Engine::compute(Team& team, const Batch& batch, const Work& work) {
  if (batch.num_sequences == 0) return;
  std::vector<int>& order = team.order;
  std::vector<Group>& groups = team.groups;
  plan(batch, order, groups);
  team.crews.reset(groups.size(), scratch_of_threads_);
  const auto serve = [&](int rank) {
    const auto at = static_cast<size_t>(rank);
    Workspace w = carve_workspace(model_, group_tokens_, workspaces_[at].data());
    team.crews.run(at, scratch_[at].data(), [&](size_t i, Crew& crew) {
      const Group& g = groups[i];
      const int rows = encoder_.gather(batch, order.data() + g.first, g.count, w);
      work(g.count, rows, w, crew);
    });
  };
  if (num_threads_ == 1)
    serve(0);
  else
    team.pool.run(serve);
}

void Engine::run_together(int units, const std::function<void(int rank, int size)>& work) {
  Team& team = this->team();
  const std::lock_guard<std::mutex> guard(team.lock);
  const int size = std::clamp(units, 1, num_threads_);
  if (size == 1)
    work(0, 1);
  else
    team.pool.run([&](int rank) {
      if (rank < size) work(rank, size);
    });
}

} // namespace bert_rt
