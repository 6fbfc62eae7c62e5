#include "text/fields.h"

#include "base/error.h"

namespace mobe {

const Json& MemberOrNull(const Json& object, const char* key,
                         const std::string& where) {
  static const Json none;
  if (!object.is_object()) {
    Fail(ErrorKind::kCorruptFile, "{}: expected a JSON object, found {}", where,
         object.type_name());
  }
  const auto it = object.find(key);
  return it == object.end() ? none : *it;
}

const std::string& StringMember(const Json& object, const char* key,
                                const std::string& where) {
  const Json& value = MemberOrNull(object, key, where);
  if (!value.is_string()) {
    Fail(ErrorKind::kCorruptFile, "{}: \"{}\" must be a string", where, key);
  }
  return value.get_ref<const std::string&>();
}

bool BoolMember(const Json& object, const char* key, const std::string& where) {
  const Json& value = MemberOrNull(object, key, where);
  if (!value.is_boolean()) {
    Fail(ErrorKind::kCorruptFile, "{}: \"{}\" must be true or false", where,
         key);
  }
  return value.get<bool>();
}

const Json& ArrayMember(const Json& object, const char* key,
                        const std::string& where) {
  const Json& value = MemberOrNull(object, key, where);
  if (!value.is_array()) {
    Fail(ErrorKind::kCorruptFile, "{}: \"{}\" must be an array", where, key);
  }
  return value;
}

int32_t TokenIdValue(const Json& value, const std::string& token,
                     const std::string& where) {
  if (!value.is_number_unsigned() ||
      value.get<uint64_t>() > static_cast<uint64_t>(kMaxTokenId)) {
    Fail(ErrorKind::kCorruptFile,
         "{}: the id of token \"{}\" must be an integer from 0 to {}", where,
         token, kMaxTokenId);
  }
  return static_cast<int32_t>(value.get<uint64_t>());
}

}  // namespace mobe
