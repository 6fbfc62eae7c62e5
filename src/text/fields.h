// Typed members of the objects in tokenizer.json. They fail with kCorruptFile;
// `where` names the file and the component, as "x/tokenizer.json: model".
#pragma once

#include <cstdint>
#include <string>

#include "base/json.h"

namespace mobe {

// No real vocabulary comes near (the largest published ones have 262,144
// entries); it bounds the tables that a hostile id can make us allocate.
inline constexpr int64_t kMaxTokenId = (1 << 21) - 1;

// The member, or a null value when there is none. Fails when `object` is not
// an object.
const Json& MemberOrNull(const Json& object, const char* key,
                         const std::string& where);
const std::string& StringMember(const Json& object, const char* key,
                                const std::string& where);
bool BoolMember(const Json& object, const char* key, const std::string& where);
const Json& ArrayMember(const Json& object, const char* key,
                        const std::string& where);

// A token id in [0, kMaxTokenId]; `token` is named in the error.
int32_t TokenIdValue(const Json& value, const std::string& token,
                     const std::string& where);

}  // namespace mobe
