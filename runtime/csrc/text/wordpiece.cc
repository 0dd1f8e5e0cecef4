#include "text/wordpiece.h"

#include <algorithm>
#include <array>
#include <bit>
#include <stdexcept>
#include <utility>

namespace bert_rt {
namespace {

enum class Kind : uint8_t { kWord, kSpace, kPunctuation, kOther };

// Of every byte. kOther are control characters, which the normalizer takes out of words, and all
// that is not ASCII.
constexpr std::array<Kind, 256> kKinds = [] {
  std::array<Kind, 256> kinds{};
  for (size_t c = 0; c < 256; ++c) {
    const bool is_alphanumeric =
        (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
    kinds[c] = is_alphanumeric       ? Kind::kWord
               : c > ' ' && c < 0x7f ? Kind::kPunctuation
                                     : Kind::kOther;
  }
  for (const char c : {' ', '\t', '\n', '\r'}) kinds[static_cast<size_t>(c)] = Kind::kSpace;
  return kinds;
}();

Kind kind(char c) { return kKinds[static_cast<uint8_t>(c)]; }
bool is_continuation(char c) { return (static_cast<uint8_t>(c) & 0xc0u) == 0x80u; }
char lowered(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + ('a' - 'A')) : c; }

// FNV-1a, a byte at a time, so that every prefix of a word has its hash on the way.
constexpr uint64_t kHashStart = 0xcbf29ce484222325u;
constexpr uint64_t hashed(uint64_t hash, char c) {
  return (hash ^ static_cast<uint8_t>(c)) * 0x100000001b3u;
}
// FNV's last bits know little of the first bytes.
size_t place(uint64_t hash) { return static_cast<size_t>(hash ^ (hash >> 29)); }

} // namespace

WordPiece::Table::Table(size_t count) : slots_(std::bit_ceil(2 * count + 2)) {}

void WordPiece::Table::insert(std::string_view piece, int32_t id) {
  if (piece.empty()) return;
  uint64_t hash = kHashStart;
  for (const char c : piece) hash = hashed(hash, c);
  size_t at = place(hash) & (slots_.size() - 1);
  while (slots_[at].size != 0) at = (at + 1) & (slots_.size() - 1);
  slots_[at] = {hash, static_cast<uint32_t>(pool_.size()), static_cast<uint32_t>(piece.size()), id};
  pool_ += piece;
}

int32_t WordPiece::Table::find(uint64_t hash, std::string_view piece) const {
  for (size_t at = place(hash) & (slots_.size() - 1); slots_[at].size != 0;
       at = (at + 1) & (slots_.size() - 1)) {
    const Slot& slot = slots_[at];
    if (slot.hash == hash && std::string_view(pool_).substr(slot.begin, slot.size) == piece)
      return slot.id;
  }
  return -1;
}

WordPiece::WordPiece(const std::vector<std::string>& tokens, const std::vector<int32_t>& ids,
                     WordPieceSettings settings)
    : settings_(std::move(settings)), first_(tokens.size()), next_(tokens.size()) {
  if (tokens.size() != ids.size())
    throw std::invalid_argument("ids: got " + std::to_string(ids.size()) +
                                ", want one for each of " + std::to_string(tokens.size()) +
                                " tokens");
  if (settings_.max_chars < 0 || settings_.max_chars > kMostChars)
    throw std::invalid_argument("max_chars: got " + std::to_string(settings_.max_chars) +
                                ", want 0 to " + std::to_string(kMostChars));
  for (size_t i = 0; i < tokens.size(); ++i) {
    const std::string_view token = tokens[i];
    first_.insert(token, ids[i]);
    if (token.starts_with(settings_.prefix))
      next_.insert(token.substr(settings_.prefix.size()), ids[i]);
    longest_ = std::max(longest_, token.size());
  }
}

bool WordPiece::encode(std::string_view text, std::vector<Token>& tokens,
                       std::vector<Rest>& rests) const {
  size_t at = 0, multibyte = 0; // bytes before `at` that begin no character
  const auto character = [&multibyte](size_t byte) {
    return static_cast<int32_t>(byte - multibyte);
  };
  bool goes_on = false; // the last run of words for the library
  while (true) {
    while (at < text.size() && kind(text[at]) == Kind::kSpace) ++at;
    if (at == text.size()) return true;
    size_t end = at;
    bool is_plain = true;
    for (; end < text.size() && kind(text[end]) != Kind::kSpace; ++end)
      is_plain = is_plain && kind(text[end]) != Kind::kOther;
    if (!is_plain) {
      const int32_t begin = character(at);
      multibyte += static_cast<size_t>(std::count_if(text.begin() + static_cast<ptrdiff_t>(at),
                                                     text.begin() + static_cast<ptrdiff_t>(end),
                                                     is_continuation));
      if (goes_on) {
        rests.back().end = character(end);
      } else {
        if (rests.size() > text.size() / kBytesPerRest) return false;
        rests.push_back({static_cast<int32_t>(tokens.size()), begin, character(end)});
      }
    }
    goes_on = !is_plain;
    while (is_plain && at < end) {
      size_t stop = at + 1;
      if (kind(text[at]) == Kind::kWord)
        while (stop < end && kind(text[stop]) == Kind::kWord) ++stop;
      encode_word(text.substr(at, stop - at), character(at), tokens);
      at = stop;
    }
    at = end;
  }
}

// One word without white space and punctuation, or one punctuation character.
void WordPiece::encode_word(std::string_view word, int32_t begin,
                            std::vector<Token>& tokens) const {
  const size_t before = tokens.size();
  const auto end = begin + static_cast<int32_t>(word.size());
  const auto give_up = [&] {
    tokens.resize(before);
    tokens.push_back({settings_.unknown_id, begin, end});
  };
  if (word.size() > static_cast<size_t>(settings_.max_chars)) return give_up();
  std::string lower(word);
  if (settings_.lowercase) std::transform(lower.begin(), lower.end(), lower.begin(), lowered);
  const std::string_view letters = lower;
  std::array<uint64_t, kMostChars> hashes; // of letters[start], of it and the next one, ...
  for (size_t start = 0; start < letters.size();) {
    const Table& table = start == 0 ? first_ : next_;
    const size_t most = std::min(letters.size() - start, longest_);
    uint64_t hash = kHashStart;
    for (size_t i = 0; i < most; ++i) hashes[i] = hash = hashed(hash, letters[start + i]);
    int32_t id = -1;
    size_t size = most;
    for (; size > 0; --size) {
      id = table.find(hashes[size - 1], letters.substr(start, size));
      if (id >= 0) break;
    }
    if (size == 0) return give_up();
    tokens.push_back(
        {id, begin + static_cast<int32_t>(start), begin + static_cast<int32_t>(start + size)});
    start += size;
  }
}

} // namespace bert_rt
