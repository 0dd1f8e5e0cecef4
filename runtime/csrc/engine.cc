#include "engine.h"

#include "cpu/cpu_features.h"

#include <algorithm>
#include <numeric>
#include <stdexcept>
#include <unistd.h>

namespace bert_rt {
namespace {

constexpr int kDefaultGroupTokens = 256;
constexpr int kLateGroupShare = 4; // a late group has this part of the others' tokens
constexpr size_t kMostSplit = 5;   // below so many groups each number is tried, then only all
constexpr int kMaxThreads = 1024;
constexpr size_t kMiB = size_t{1} << 20;

std::string number(int64_t x) { return std::to_string(x); }

} // namespace

struct Engine::Team {
  explicit Team(int size)
      : pool(size), barrier(size), pid(getpid()), loads(static_cast<size_t>(size)) {}
  std::mutex lock;
  ThreadPool pool;
  Barrier barrier;
  pid_t pid;
  std::vector<int> order; // kept from run to run, so that nothing is allocated
  std::vector<Group> groups;
  std::vector<double> loads;
};

Engine::Engine(std::string_view onnx_file, const EngineSettings& settings)
    : kernels_(select_kernels(settings.isa)),
      model_(
          load_model(onnx_file, std::clamp(settings.num_threads, 1, 8), kernels_.sums_in_16_bits)),
      encoder_(model_, kernels_), num_threads_(settings.num_threads) {
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
  if (ceiling_bytes() > ceiling) {
    group_tokens_ = longest;
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
  }
  team_ = std::make_unique<Team>(num_threads_);
}

Engine::~Engine() {
  // Threads do not survive a fork: there is nothing to join, and the old pool stays behind.
  if (team_ != nullptr && team_->pid != getpid()) static_cast<void>(team_.release());
}

size_t Engine::ceiling_bytes() const {
  return weight_bytes() + static_cast<size_t>(num_threads_) * (workspace_bytes_ + scratch_bytes_);
}

Engine::Team& Engine::team() {
  if (team_->pid != getpid()) {
    // Its threads live in the parent only, and one of them may have been changing its vectors.
    static_cast<void>(team_.release());
    team_ = std::make_unique<Team>(num_threads_);
  }
  return *team_;
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
}

// Multiply-adds of one layer, for balance only.
double Engine::cost(int tokens) const {
  const double d = model_.hidden_size, f = model_.intermediate_size, t = tokens;
  return t * (4.0 * d * d + 2.0 * d * f) + 2.0 * t * t * d * 4.0; // attention is slower a step
}

// Longest first; short sequences share a group, so that the GEMMs get enough rows. The last groups,
// those that threads wait for each other at, are smaller.
void Engine::plan(const Batch& batch, std::vector<int>& order, std::vector<Group>& groups) const {
  const auto length = [&batch](int s) { return batch.cu_seqlens[s + 1] - batch.cu_seqlens[s]; };
  order.resize(static_cast<size_t>(batch.num_sequences));
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return length(a) > length(b); });
  groups.clear();
  int64_t left = batch.cu_seqlens[batch.num_sequences];
  for (int i = 0; i < batch.num_sequences; ++i) {
    const int tokens = length(order[static_cast<size_t>(i)]);
    const bool is_late = num_threads_ > 1 && left <= int64_t{num_threads_} * group_target_;
    const int target = is_late ? group_target_ / kLateGroupShare : group_target_;
    if (groups.empty() || groups.back().tokens + tokens > target) groups.push_back({i, 0, 0, 0.0});
    left -= tokens;
    Group& g = groups.back();
    ++g.count;
    g.tokens += tokens;
    g.cost += cost(tokens);
  }
}

// When the last thread is done if the groups outside [first, last) are dealt out whole, each to the
// thread that is free first.
double Engine::finish(const std::vector<Group>& groups, Span split,
                      std::vector<double>& loads) const {
  constexpr double kSplitLoss = 1.2; // what barriers and smaller pieces cost
  double shared = 0.0;
  std::fill(loads.begin(), loads.end(), 0.0);
  for (size_t i = 0; i < groups.size(); ++i) {
    if (i >= split.first && i < split.last)
      shared += groups[i].cost;
    else
      *std::min_element(loads.begin(), loads.end()) += groups[i].cost;
  }
  return kSplitLoss * shared / num_threads_ + *std::max_element(loads.begin(), loads.end());
}

// The groups that the whole team computes, one after another, because threads would wait for each
// other if all were dealt out: as many of the longest or of the shortest as are done the soonest.
Engine::Span Engine::choose_split(const std::vector<Group>& groups,
                                  std::vector<double>& loads) const {
  Span best{0, 0};
  if (num_threads_ == 1) return best;
  double soonest = finish(groups, best, loads);
  const auto consider = [&](Span span) {
    const double at = finish(groups, span, loads);
    if (at < soonest) soonest = at, best = span;
  };
  const size_t n = groups.size();
  for (size_t count = 1; count < std::min(n, kMostSplit); ++count) {
    consider({0, count});
    consider({n - count, n});
  }
  consider({0, n});
  return best;
}

void Engine::run(const Batch& batch, const Output& out) {
  if (batch.num_sequences == 0) return;
  Team& team = this->team();
  const std::lock_guard<std::mutex> guard(team.lock);
  std::vector<int>& order = team.order;
  std::vector<Group>& groups = team.groups;
  plan(batch, order, groups);
  const Span split = choose_split(groups, team.loads);
  Workspace shared = carve_workspace(model_, group_tokens_, workspaces_[0].data());
  for (size_t i = split.first; i < split.last; ++i) {
    const Group& g = groups[i];
    const int rows = encoder_.gather(batch, order.data() + g.first, g.count, shared);
    team.pool.run([&](int rank) {
      const Seat seat{rank, num_threads_, &team.barrier,
                      scratch_[static_cast<size_t>(rank)].data()};
      encoder_.run(batch, g.count, rows, shared, seat, out);
    });
  }
  std::atomic<size_t> next{0};
  const size_t num_whole = groups.size() - (split.last - split.first);
  const auto serve = [&](int rank) {
    const auto at = static_cast<size_t>(rank);
    Workspace w = carve_workspace(model_, group_tokens_, workspaces_[at].data());
    for (size_t i = next++; i < num_whole; i = next++) {
      const Group& g = groups[i < split.first ? i : i + (split.last - split.first)];
      const int rows = encoder_.gather(batch, order.data() + g.first, g.count, w);
      encoder_.run(batch, g.count, rows, w, {0, 1, nullptr, scratch_[at].data()}, out);
    }
  };
  if (num_whole == 1 || num_threads_ == 1)
    serve(0);
  else if (num_whole > 1)
    team.pool.run(serve);
}

} // namespace bert_rt
