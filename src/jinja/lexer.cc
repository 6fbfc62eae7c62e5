#include "jinja/lexer.h"

#include <algorithm>
#include <charconv>

#include "base/error.h"
#include "base/json.h"
#include "base/unicode.h"
#include "jinja/python_text.h"

namespace mobe::jinja {
namespace {

constexpr size_t kMaxName = 100;

bool IsDigit(char c) { return c >= '0' && c <= '9'; }

bool IsNameCharacter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || IsDigit(c) ||
         c == '_';
}

// "\r\n" and "\r" as "\n", and none at the end.
std::string NormalizeLines(std::string_view source) {
  std::string out;
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] != '\r') {
      out += source[i];
    } else if (i + 1 == source.size() || source[i + 1] != '\n') {
      out += '\n';
    }
  }
  if (out.ends_with('\n')) out.pop_back();
  return out;
}

class Lexer {
 public:
  explicit Lexer(std::string_view source)
      : source_(NormalizeLines(source)), rest_(source_) {}

  std::vector<Token> Run() {
    while (!rest_.empty()) {
      const size_t at = FindTag(rest_);
      const std::string_view text = Take(std::min(at, rest_.size()));
      if (rest_.empty()) {
        AddText(text);
        break;
      }
      const char tag = rest_[1];
      Take(2);
      AddText(StripBeforeTag(text, tag, TakeSign(), text_from_line_begin_));
      if (tag == '#') {
        Comment();
      } else if (tag == '{') {
        Tag(Token::Kind::kPrintBegin, Token::Kind::kPrintEnd, "}}");
      } else if (!Raw()) {
        Tag(Token::Kind::kStatementBegin, Token::Kind::kStatementEnd, "%}");
      }
    }
    Add(Token::Kind::kEnd, "");
    return std::move(tokens_);
  }

 private:
  template <class... Args>
  [[noreturn]] void FailAt(ErrorKind kind, fmt::format_string<Args...> format,
                           Args&&... args) {
    Fail(kind, "line {}: {}", line_,
         fmt::format(format, std::forward<Args>(args)...));
  }

  // Where the next "{{", "{%" or "{#" begins; npos: nowhere.
  static size_t FindTag(std::string_view text) {
    size_t at = text.find('{');
    while (at != std::string_view::npos && at + 1 < text.size()) {
      const char next = text[at + 1];
      if (next == '{' || next == '%' || next == '#') return at;
      at = text.find('{', at + 1);
    }
    return std::string_view::npos;
  }

  std::string_view Take(size_t size) {
    const std::string_view taken = rest_.substr(0, size);
    line_ += static_cast<int>(std::ranges::count(taken, '\n'));
    if (!taken.empty()) at_line_begin_ = taken.ends_with('\n');
    rest_.remove_prefix(size);
    return taken;
  }

  bool TakeIf(std::string_view expected) {
    if (!rest_.starts_with(expected)) return false;
    Take(expected.size());
    return true;
  }

  void TakeSpace() {
    Take(rest_.size() - python::Strip(rest_, python::Sides::kLeft).size());
  }

  void Add(Token::Kind kind, std::string_view text) {
    tokens_.push_back({kind, std::string(text), line_});
  }

  void AddText(std::string_view text) {
    if (!text.empty()) Add(Token::Kind::kText, text);
  }

  // Behind the "{x" of a tag; a blank for none.
  char TakeSign() { return TakeIf("-") ? '-' : TakeIf("+") ? '+' : ' '; }

  // The text before a tag of this sign.
  static std::string_view StripBeforeTag(std::string_view text, char tag,
                                         char sign, bool from_line_begin) {
    if (sign == '-') return python::Strip(text, python::Sides::kRight);
    if (sign == '+' || tag == '{') return text;
    const size_t line = text.rfind('\n') + 1;  // 0 when there is none
    if (line == 0 && !from_line_begin) return text;
    const bool blank =
        python::Strip(text.substr(line), python::Sides::kRight).empty();
    return blank ? text.substr(0, line) : text;
  }

  // Behind the end of a block or comment.
  void TrimLineBreak() {
    TakeIf("\n");
    text_from_line_begin_ = at_line_begin_;
  }

  // Takes "%}", "-%}" or "+%}", or the same with '#', and the white space that
  // goes with it.
  bool TakeBlockEnd(std::string_view end) {
    for (const char sign : {'-', '+'}) {
      if (rest_.starts_with(sign) && rest_.substr(1).starts_with(end)) {
        Take(1 + end.size());
        if (sign == '-') TakeSpace();
        text_from_line_begin_ = at_line_begin_;
        return true;
      }
    }
    if (!TakeIf(end)) return false;
    TrimLineBreak();
    return true;
  }

  void Comment() {
    const size_t end = rest_.find("#}");
    if (end == std::string_view::npos) {
      FailAt(ErrorKind::kCorruptFile, "a comment has no end, expected #}}");
    }
    const bool sign =
        end > 0 && (rest_[end - 1] == '-' || rest_[end - 1] == '+');
    Take(end - (sign ? 1 : 0));
    TakeBlockEnd("#}");
  }

  // Takes `name` with white space around it.
  bool TakeWord(std::string_view name) {
    const std::string_view before = python::Strip(rest_, python::Sides::kLeft);
    if (!before.starts_with(name)) return false;
    Take(rest_.size() - before.size() + name.size());
    TakeSpace();
    return true;
  }

  // What has been read, to come back to.
  struct Place {
    std::string_view rest;
    int line;
    bool at_line_begin;
  };
  Place Here() const { return {rest_, line_, at_line_begin_}; }
  void GoTo(const Place& place) {
    rest_ = place.rest;
    line_ = place.line;
    at_line_begin_ = place.at_line_begin;
  }

  // Behind "{%": a raw block, to the end of its {% endraw %}.
  bool Raw() {
    const Place begin = Here();
    const bool named = TakeWord("raw");
    const bool strip = named && TakeIf("-%}");
    if (!strip && !(named && TakeIf("%}"))) {
      GoTo(begin);
      return false;
    }
    if (strip) TakeSpace();  // but no line break is trimmed
    const bool from_line_begin = at_line_begin_;
    const std::string_view body = rest_;
    for (;;) {
      const size_t tag = rest_.find("{%");
      if (tag == std::string_view::npos) {
        FailAt(ErrorKind::kCorruptFile,
               "a raw block has no end, expected {{% endraw %}}");
      }
      Take(tag);
      const std::string_view text = body.substr(0, body.size() - rest_.size());
      Take(2);
      const Place inside = Here();
      const char sign = TakeSign();
      if (TakeWord("endraw") && TakeBlockEnd("%}")) {
        AddText(StripBeforeTag(text, '%', sign, from_line_begin));
        return true;
      }
      GoTo(inside);
    }
  }

  void Tag(Token::Kind begin, Token::Kind end, std::string_view end_text) {
    Add(begin, "");
    const int begin_line = line_;
    std::string open;  // brackets
    for (;;) {
      TakeSpace();
      if (rest_.empty()) {
        line_ = begin_line;
        FailAt(ErrorKind::kCorruptFile, "a tag has no end, expected {}",
               end_text);
      }
      if (open.empty() && TakeTagEnd(end, end_text)) return;
      TakeToken(&open);
    }
  }

  bool TakeTagEnd(Token::Kind end, std::string_view end_text) {
    if (end == Token::Kind::kStatementEnd) {
      const int line = line_;
      if (!TakeBlockEnd(end_text)) return false;
      tokens_.push_back({end, "", line});
      return true;
    }
    const bool strip =
        rest_.starts_with('-') && rest_.substr(1).starts_with(end_text);
    if (!strip && !rest_.starts_with(end_text)) return false;
    Add(end, "");
    Take(end_text.size() + (strip ? 1 : 0));
    if (strip) TakeSpace();
    text_from_line_begin_ = at_line_begin_;
    return true;
  }

  void TakeToken(std::string* open) {
    const char c = rest_.front();
    if (IsDigit(c)) return TakeNumber();
    if (c == '\'' || c == '"') return TakeString(c);
    if (IsNameCharacter(c)) {
      const auto size = static_cast<size_t>(
          std::ranges::find_if_not(rest_, IsNameCharacter) - rest_.begin());
      if (size > kMaxName) {
        FailAt(ErrorKind::kUnsupported, "a name of more than {} characters",
               kMaxName);
      }
      Add(Token::Kind::kName, rest_.substr(0, size));
      Take(size);
      return;
    }
    // Longer ones first.
    static constexpr std::string_view kOperators[] = {
        "**", "//", "==", "!=", "<=", ">=", "+", "-", "*", "/", "%", "~", "<",
        ">",  "=",  ".",  ",",  ":",  "|",  "(", ")", "[", "]", "{", "}"};
    for (const std::string_view op : kOperators) {
      if (!rest_.starts_with(op)) continue;
      Balance(op.front(), open);
      Add(Token::Kind::kOperator, op);
      Take(op.size());
      return;
    }
    FailAt(ErrorKind::kUnsupported, "unexpected {}",
           Excerpt(rest_.substr(0, FirstCharacter(rest_).size)));
  }

  void Balance(char c, std::string* open) {
    constexpr std::string_view kOpen = "([{";
    constexpr std::string_view kClose = ")]}";
    if (kOpen.find(c) != std::string_view::npos) open->push_back(c);
    const size_t close = kClose.find(c);
    if (close == std::string_view::npos) return;
    if (open->empty() || open->back() != kOpen[close]) {
      FailAt(ErrorKind::kCorruptFile, "\"{}\" closes nothing", c);
    }
    open->pop_back();
  }

  size_t Digits(size_t from) const {
    while (from < rest_.size() && IsDigit(rest_[from])) ++from;
    return from;
  }

  void TakeNumber() {
    size_t size = Digits(0);
    bool is_float = false;
    const auto at = [this](size_t i) {
      return i < rest_.size() ? rest_[i] : ' ';
    };
    // "a.0.b" is an item of an item, not a number of its own.
    const bool behind_point = !tokens_.empty() &&
                              tokens_.back().kind == Token::Kind::kOperator &&
                              tokens_.back().text == ".";
    if (!behind_point && at(size) == '.' && IsDigit(at(size + 1))) {
      size = Digits(size + 1);
      is_float = true;
    }
    if (at(size) == 'e' || at(size) == 'E') {
      const size_t sign = at(size + 1) == '+' || at(size + 1) == '-' ? 1 : 0;
      if (IsDigit(at(size + 1 + sign))) {
        size = Digits(size + 1 + sign);
        is_float = true;
      }
    }
    const bool leading_zero = !is_float && size > 1 && at(0) == '0';
    if (leading_zero || IsNameCharacter(at(size))) {
      FailAt(ErrorKind::kUnsupported,
             "only plain decimal numbers are supported, found {}",
             Excerpt(rest_.substr(0, size + 1)));
    }
    Add(is_float ? Token::Kind::kFloat : Token::Kind::kInteger,
        rest_.substr(0, size));
    Take(size);
  }

  void TakeString(char quote) {
    const int line = line_;
    Take(1);
    std::string text;
    for (;;) {
      const size_t size = rest_.find_first_of(std::string{quote, '\\'});
      if (size == std::string_view::npos) {
        line_ = line;
        FailAt(ErrorKind::kCorruptFile, "a string has no end, expected {}",
               quote);
      }
      text += Take(size);
      if (Take(1).front() == quote) break;
      TakeEscape(&text);
    }
    tokens_.push_back({Token::Kind::kString, std::move(text), line});
  }

  // Behind a backslash, as in Python's literals. Bytes of a character that
  // needs no escape stay behind the backslash.
  void TakeEscape(std::string* text) {
    if (rest_.empty()) return;  // the string has no end either
    const char c = rest_.front();
    constexpr std::string_view kLetters = "\\'\"abfnrtv";
    constexpr std::string_view kMeant = "\\'\"\a\b\f\n\r\t\v";
    if (const size_t i = kLetters.find(c); i != std::string_view::npos) {
      Take(1);
      *text += kMeant[i];
    } else if (c == '\n') {
      Take(1);
    } else if (c == 'x' || c == 'u' || c == 'U') {
      Take(1);
      AddCharacter(TakeCode(c == 'x' ? 2 : c == 'u' ? 4 : 8, 16), text);
    } else if (c >= '0' && c <= '7') {
      const size_t end = rest_.find_first_not_of("01234567");
      AddCharacter(TakeCode(std::min<size_t>({end, rest_.size(), 3}), 8), text);
    } else if (c == 'N') {
      FailAt(ErrorKind::kUnsupported, "\\N in a string is not supported");
    } else if (static_cast<unsigned char>(c) >= 0x80) {
      FailAt(ErrorKind::kUnsupported,
             "a backslash before a character beyond ASCII");
    } else {
      *text += '\\';
    }
  }

  uint32_t TakeCode(size_t size, int base) {
    const std::string_view digits = Take(std::min(size, rest_.size()));
    uint32_t code = 0;
    const char* end = digits.data() + digits.size();
    const auto parsed = std::from_chars(digits.data(), end, code, base);
    if (digits.size() != size || parsed.ec != std::errc() ||
        parsed.ptr != end) {
      FailAt(ErrorKind::kCorruptFile,
             "a string's escape has {}, expected {} digits", Excerpt(digits),
             size);
    }
    return code;
  }

  void AddCharacter(uint32_t code, std::string* text) {
    if (code > 0x10ffff || (code >= 0xd800 && code < 0xe000)) {
      FailAt(ErrorKind::kCorruptFile,
             "a string's escape gives {:#x}, which is no character", code);
    }
    AppendUtf8(code, *text);
  }

  const std::string source_;
  std::string_view rest_;
  int line_ = 1;
  // Whether rest_ begins a line, and whether the text now being read did.
  bool at_line_begin_ = true;
  bool text_from_line_begin_ = true;
  std::vector<Token> tokens_;
};

}  // namespace

std::vector<Token> Tokenize(std::string_view source) {
  return Lexer(source).Run();
}

}  // namespace mobe::jinja
