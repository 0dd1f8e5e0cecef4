#include "ops/split.h"

#include <algorithm>
#include <vector>

namespace bert_rt {
namespace {

constexpr int kBound = 128; // of the weights of one sign in a 16-bit sum

// Of one sign the two must keep the bound together; of two signs each does alone.
bool fits(int w0, int w1) {
  return std::max(w0, 0) + std::max(w1, 0) <= kBound &&
         std::min(w0, 0) + std::min(w1, 0) >= -kBound;
}

// The fours of one column, filled pair by pair.
class Column {
 public:
  explicit Column(std::vector<RestFour>& to) : to_(to), begin_(to.size()) {}

  void add(int k, int w) {
    while (at_ % 2 != 0 && !fits(to_.back().w[at_ - 1], w)) ++at_; // alone in its pair
    if (at_ % 4 == 0) {
      to_.push_back({});
      at_ = 0;
    }
    to_.back().k[at_] = static_cast<uint16_t>(k);
    to_.back().w[at_] = static_cast<int8_t>(w);
    ++at_;
  }
  uint16_t count() const { return static_cast<uint16_t>(to_.size() - begin_); }

 private:
  std::vector<RestFour>& to_;
  size_t begin_;
  int at_ = 0; // next place in the last four
};

// Four weights that are added in one 16-bit lane, and their rows.
struct Lane {
  int8_t* w[4];
  int k[4];
};

// Takes from the largest weights of one sign until the bound holds.
void cap(const Lane& lane, int sign, Column& column) {
  const auto size = [&](int i) { return std::max(sign * *lane.w[i], 0); };
  int excess = size(0) + size(1) + size(2) + size(3) - kBound;
  while (excess > 0) {
    int largest = 0;
    for (int i = 1; i < 4; ++i)
      if (size(i) > size(largest)) largest = i;
    const int taken = std::min(excess, size(largest));
    column.add(lane.k[largest], sign * taken);
    *lane.w[largest] = static_cast<int8_t>(*lane.w[largest] - sign * taken);
    excess -= taken;
  }
}

} // namespace

SplitRest split_s8(int8_t* packed, int n, int k) {
  SplitRest rest;
  if (k > kMaxSplitDepth) return rest;
  std::vector<RestFour> fours;
  rest.first = Buffer<uint32_t>(static_cast<size_t>(n / kPanel + 1));
  rest.count = Buffer<uint16_t>(static_cast<size_t>(n));
  int8_t none[4] = {}; // stands for the second step where their number is odd
  for (int j = 0; j < n; ++j) {
    Column column(fours);
    int8_t* from = packed + ptrdiff_t{j / kPanel} * padded_k(k) * kPanel + j % kPanel * 4;
    for (int i = 0; i < k; i += 8) {
      int8_t* first = from + ptrdiff_t{i} * kPanel;
      int8_t* second = i + 4 < k ? first + ptrdiff_t{4} * kPanel : none;
      for (int p = 0; p < 4; p += 2) {
        const Lane lane{{first + p, first + p + 1, second + p, second + p + 1},
                        {i + p, i + p + 1, i + p + 4, i + p + 5}};
        int positive = 0, negative = 0;
        for (const int8_t* w : lane.w) {
          positive += std::max<int>(*w, 0);
          negative -= std::min<int>(*w, 0);
        }
        if (positive > kBound) cap(lane, 1, column);
        if (negative > kBound) cap(lane, -1, column);
      }
    }
    rest.count[static_cast<size_t>(j)] = column.count();
    if (j % kPanel == kPanel - 1)
      rest.first[static_cast<size_t>(j / kPanel + 1)] = static_cast<uint32_t>(fours.size());
  }
  rest.fours = Buffer<RestFour>(fours.size());
  std::copy(fours.begin(), fours.end(), rest.fours.data());
  return rest;
}

} // namespace bert_rt
