#include "base/ordered_json.h"

#include <vector>

#include "base/error.h"

namespace mobe {

namespace {

class OrderedJsonBuilder : public nlohmann::json_sax<OrderedJson> {
 public:
  explicit OrderedJsonBuilder(const std::string* source) : source_(source) {}

  OrderedJson Take() { return std::move(root_); }

  bool null() override { return Add(nullptr); }
  bool boolean(bool value) override { return Add(value); }
  bool number_integer(int64_t value) override { return Add(value); }
  bool number_unsigned(uint64_t value) override { return Add(value); }
  // Also called for integers that do not fit.
  bool number_float(double value, const std::string& text) override {
    if (text.find_first_not_of("-0123456789") != std::string::npos) {
      return Add(value);
    }
    return Add(OrderedJson::binary({text.begin(), text.end()}));
  }
  bool string(std::string& value) override {
    if (const auto number = NonFiniteFromQuoted(value)) return Add(*number);
    return Add(std::move(value));
  }
  bool binary(OrderedJson::binary_t&) override { return false; }
  bool start_object(size_t) override { return Open(OrderedJson::object()); }
  bool start_array(size_t) override { return Open(OrderedJson::array()); }
  bool end_object() override { return Close(); }
  bool end_array() override { return Close(); }
  bool key(std::string& name) override {
    // It looks for each key among those before.
    constexpr size_t kMaxKeys = 10'000;
    if (open_.back()->size() == kMaxKeys) {
      Fail(ErrorKind::kUnsupported,
           "{}: an object of more than {} keys is not supported", *source_,
           kMaxKeys);
    }
    key_ = std::move(name);
    return true;
  }
  bool parse_error(size_t, const std::string&,
                   const OrderedJson::exception& e) override {
    Fail(ErrorKind::kCorruptFile, "{}: invalid JSON: {}", *source_,
         ParserMessage(e));
  }

 private:
  // Puts a value where the next one belongs.
  OrderedJson* Place(OrderedJson value) {
    if (open_.empty()) return &(root_ = std::move(value));
    if (open_.back()->is_object()) {
      return &((*open_.back())[key_] = std::move(value));
    }
    open_.back()->push_back(std::move(value));
    return &open_.back()->back();
  }
  bool Add(OrderedJson value) {
    Place(std::move(value));
    return true;
  }
  bool Open(OrderedJson value) {
    open_.push_back(Place(std::move(value)));
    return true;
  }
  bool Close() {
    open_.pop_back();
    return true;
  }

  const std::string* source_;
  OrderedJson root_;
  std::vector<OrderedJson*> open_;  // each in the one before
  std::string key_;                 // of the next value
};

}  // namespace

OrderedJson ParseOrderedJson(std::string_view text, const std::string& source) {
  CheckJsonDepth(text, source);
  const auto quoted = QuoteNonFinite(text);
  if (quoted) text = *quoted;
  OrderedJsonBuilder builder(&source);
  OrderedJson::sax_parse(text.begin(), text.end(), &builder);
  return builder.Take();
}

}  // namespace mobe
