#include "text/post_processor.h"

#include <utility>

#include "base/error.h"
#include "text/fields.h"

namespace mobe {
namespace {

// "single" is a list of {"SpecialToken": {"id": name}} and one {"Sequence":
// {"id": "A"}}, the text; "special_tokens" has the ids of each name.
SpecialAffixes ReadTemplate(const Json& json, const std::string& where) {
  const Json& tokens = MemberOrNull(json, "special_tokens", where);
  SpecialAffixes affixes;
  bool behind = false;
  for (const Json& piece : ArrayMember(json, "single", where)) {
    if (!MemberOrNull(piece, "Sequence", where).is_null()) {
      if (behind) {
        Fail(ErrorKind::kUnsupported,
             "{}: a template that repeats the text is not supported", where);
      }
      behind = true;
      continue;
    }
    const std::string& name =
        StringMember(MemberOrNull(piece, "SpecialToken", where), "id", where);
    const Json& token = MemberOrNull(tokens, name.c_str(), where);
    for (const Json& id : ArrayMember(token, "ids", where)) {
      (behind ? affixes.behind : affixes.before)
          .push_back(TokenIdValue(id, name, where));
    }
  }
  if (!behind) {
    Fail(ErrorKind::kCorruptFile, "{}: the template has no place for the text",
         where);
  }
  return affixes;
}

}  // namespace

SpecialAffixes ReadPostProcessor(const Json& json, const std::string& where) {
  if (json.is_null()) return {};
  const std::string& type = StringMember(json, "type", where);
  const std::string here = where + ": " + type;
  if (type == "ByteLevel") return {};
  if (type == "TemplateProcessing") return ReadTemplate(json, here);
  if (type != "Sequence") {
    Fail(ErrorKind::kUnsupported,
         "{}: type \"{}\" is not supported; ByteLevel, TemplateProcessing and "
         "Sequence are",
         where, type);
  }
  SpecialAffixes affixes;
  for (const Json& part : ArrayMember(json, "processors", here)) {
    SpecialAffixes inner = ReadPostProcessor(part, here);
    if (inner.empty()) continue;
    // The library fails, too.
    if (!affixes.empty()) {
      Fail(ErrorKind::kUnsupported, "{}: two templates are not supported",
           here);
    }
    affixes = std::move(inner);
  }
  return affixes;
}

void CorrectAffixes(
    const Json& config,
    const std::function<std::optional<int32_t>(std::string_view)>& token_id,
    const std::string& where, SpecialAffixes& affixes) {
  const Json& type = MemberOrNull(config, "tokenizer_class", where);
  const bool is_llama =
      type == Json("LlamaTokenizer") || type == Json("LlamaTokenizerFast");
  const auto correct = [&](const char* key, const char* token_key,
                           bool llama_adds, std::vector<int32_t>& ids) {
    const Json& value = MemberOrNull(config, key, where);
    if (!value.is_boolean() && !is_llama) return;
    ids.clear();
    if (value.is_boolean() ? !value.get<bool>() : !llama_adds) return;
    // Written as the token, or as an object that describes it.
    const Json* token = &MemberOrNull(config, token_key, where);
    if (token->is_object()) token = &MemberOrNull(*token, "content", where);
    const auto id = token->is_string()
                        ? token_id(token->get_ref<const std::string&>())
                        : std::nullopt;
    if (!id) {
      Fail(ErrorKind::kCorruptFile,
           "{}: \"{}\" is in force, but \"{}\" {} is no token", where, key,
           token_key, Excerpt(*token));
    }
    ids.push_back(*id);
  };
  correct("add_bos_token", "bos_token", true, affixes.before);
  correct("add_eos_token", "eos_token", false, affixes.behind);
}

}  // namespace mobe
