// BERT's WordPiece for words of plain ASCII: what most of most texts in English is. Everything else
// is left to the `tokenizers` library, a run of words at a time.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace bert_rt {

struct WordPieceSettings {
  std::string prefix;    // of a piece that continues a word, "##"
  int32_t unknown_id;    // of a word that cannot be put together, or is too long
  int max_chars = 100;   // of a word
  bool lowercase = true; // letters are looked up so
};

class WordPiece {
 public:
  // A token and its characters of the text.
  struct Token {
    int32_t id, begin, end;
  };
  // Characters of the text that are left to the library; their tokens belong before token `at`.
  struct Rest {
    int32_t at, begin, end;
  };
  // With more rests than one in so many bytes, one call of the library for all is faster.
  static constexpr size_t kBytesPerRest = 48;
  static constexpr int kMostChars = 256; // of a word, at most

  // tokens[i] has ids[i]. Throws std::invalid_argument where they differ in number, or max_chars
  // is above kMostChars.
  WordPiece(const std::vector<std::string>& tokens, const std::vector<int32_t>& ids,
            WordPieceSettings settings);

  // Splits at white space and around punctuation, and takes the longest piece each time. Returns
  // false where too much is left to the library; tokens and rests then mean nothing. `text` is
  // valid UTF-8 of less than 2^31 bytes.
  bool encode(std::string_view text, std::vector<Token>& tokens, std::vector<Rest>& rests) const;

 private:
  // Pieces by their bytes: open addressing, at most half full.
  class Table {
   public:
    explicit Table(size_t count);
    void insert(std::string_view piece, int32_t id);
    // The id of a piece whose hash is known, or -1.
    int32_t find(uint64_t hash, std::string_view piece) const;

   private:
    struct Slot {
      uint64_t hash = 0;
      uint32_t begin = 0, size = 0; // of the bytes in pool_; 0: free
      int32_t id = -1;
    };
    std::vector<Slot> slots_;
    std::string pool_;
  };
  void encode_word(std::string_view word, int32_t begin, std::vector<Token>& tokens) const;

  WordPieceSettings settings_;
  Table first_, next_; // pieces that begin a word, and those that continue one, without the prefix
  size_t longest_ = 0;
};

} // namespace bert_rt
