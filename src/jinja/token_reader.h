// Reads the tokens of a template one by one, and says what is wrong with them.
#pragma once

#include <algorithm>
#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"
#include "jinja/lexer.h"

namespace mobe::jinja {

using Names = std::initializer_list<std::string_view>;

inline bool Contains(Names names, std::string_view name) {
  return std::ranges::find(names, name) != names.end();
}

// Of blocks and expressions in one another, and links of a chain.
inline constexpr int kMaxNesting = 100;

// Counts levels for as long as it lives.
class Level {
 public:
  explicit Level(int* level) : level_(level) { ++*level_; }
  Level(const Level&) = delete;
  Level& operator=(const Level&) = delete;
  ~Level() { --*level_; }

 private:
  int* level_;
};

class TokenReader {
 public:
  using Kind = Token::Kind;

  explicit TokenReader(std::vector<Token> tokens)
      : tokens_(std::move(tokens)) {}

  const Token& Current() const { return tokens_[position_]; }
  // Behind the current one, which is not kEnd.
  const Token& Next() const { return tokens_[position_ + 1]; }
  bool At(Kind kind) const { return Current().kind == kind; }
  bool At(Kind kind, std::string_view text) const {
    return At(kind) && Current().text == text;
  }
  bool AtOperator(std::string_view text) const {
    return At(Kind::kOperator, text);
  }
  bool AtName(std::string_view text) const { return At(Kind::kName, text); }

  Token Take() { return tokens_[position_++]; }  // never the last, kEnd
  bool TakeOperator(std::string_view text) {
    if (!AtOperator(text)) return false;
    ++position_;
    return true;
  }
  bool TakeName(std::string_view text) {
    if (!AtName(text)) return false;
    ++position_;
    return true;
  }

  template <class... Args>
  [[noreturn]] void FailHere(ErrorKind kind, fmt::format_string<Args...> format,
                             Args&&... args) const {
    Fail(kind, "line {}: {}", Current().line,
         fmt::format(format, std::forward<Args>(args)...));
  }

  // What is there, for messages.
  std::string Found() const;

  void Expect(Kind kind, const char* what) {
    if (!At(kind)) {
      FailHere(ErrorKind::kCorruptFile, "expected {}, found {}", what, Found());
    }
    ++position_;
  }
  void ExpectOperator(const char* text) {
    if (!AtOperator(text)) {
      FailHere(ErrorKind::kCorruptFile, "expected {}, found {}", text, Found());
    }
    ++position_;
  }
  void ExpectName(const char* text) {
    if (!AtName(text)) {
      FailHere(ErrorKind::kCorruptFile, "expected {}, found {}", text, Found());
    }
    ++position_;
  }
  std::string ExpectAnyName() {
    if (!At(Kind::kName)) {
      FailHere(ErrorKind::kCorruptFile, "expected a name, found {}", Found());
    }
    return Take().text;
  }

  // A new level of nesting, where functions call themselves.
  [[nodiscard]] Level Nest() {
    if (level_ == kMaxNesting) {
      FailHere(ErrorKind::kUnsupported, "nested deeper than {} levels",
               kMaxNesting);
    }
    return Level(&level_);
  }

  // One more in a chain that nests to the left, such as a.b.c or a + b + c.
  void CountLink(int* links) const {
    if (++*links > kMaxNesting) {
      FailHere(ErrorKind::kUnsupported,
               "an expression is a chain of more than {} parts", kMaxNesting);
    }
  }

 private:
  std::vector<Token> tokens_;
  size_t position_ = 0;
  int level_ = 0;
};

}  // namespace mobe::jinja
