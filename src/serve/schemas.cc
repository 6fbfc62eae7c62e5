// openapi.json says what a body may be; rapidjson's validator, which knows the
// schemas of OpenAPI 3.0 (draft 4), holds bodies against it.
#include <fmt/format.h>
#include <rapidjson/document.h>
#include <rapidjson/schema.h>
#include <rapidjson/stringbuffer.h>

#include <cmath>
#include <map>
#include <memory>

#include "base/embedded.h"
#include "base/error.h"
#include "serve/api.h"

namespace mobe {
namespace {

constexpr const char* kSchemas = "/components/schemas/";

struct Schema {
  Json document;
  std::unique_ptr<rapidjson::SchemaDocument> compiled;
};

// A schema with the members of those that it says it is, too ("allOf"): the
// validator would say of a member of theirs no more than that allOf fails.
Json Flatten(const Json& schemas, const std::string& name) {
  Json flat = schemas[name];
  const Json parents = flat.value("allOf", Json::array());
  flat.erase("allOf");
  for (const Json& parent : parents) {
    const std::string reference = parent["$ref"];
    const Json other =
        Flatten(schemas, reference.substr(std::string(kSchemas).size() + 1));
    flat["type"] = other["type"];
    flat["properties"].update(other.value("properties", Json::object()));
    const Json required = other.value("required", Json::array());
    for (const Json& key : required) flat["required"].push_back(key);
  }
  return flat;
}

// Each as a document of its own in which references lead where they do in the
// file.
std::map<std::string, Schema> CompileSchemas() {
  const Json file = Json::parse(OpenApiDocument());
  const Json& components = file["components"];
  std::map<std::string, Schema> schemas;
  for (const auto& [name, unused] : components["schemas"].items()) {
    Schema& schema = schemas[name];
    schema.document = Flatten(components["schemas"], name);
    schema.document["components"] = components;
    rapidjson::Document parsed;
    parsed.Parse(schema.document.dump().c_str());
    schema.compiled = std::make_unique<rapidjson::SchemaDocument>(parsed);
  }
  return schemas;
}

// Passes a value to a validator, as a parser would.
bool Feed(const Json& value, rapidjson::SchemaValidator* to) {
  using Size = rapidjson::SizeType;
  switch (value.type()) {
    case Json::value_t::object:
      if (!to->StartObject()) return false;
      for (const auto& [key, item] : value.items()) {
        if (!to->Key(key.data(), static_cast<Size>(key.size()), true)) {
          return false;
        }
        if (!Feed(item, to)) return false;
      }
      return to->EndObject(static_cast<Size>(value.size()));
    case Json::value_t::array:
      if (!to->StartArray()) return false;
      for (const Json& item : value) {
        if (!Feed(item, to)) return false;
      }
      return to->EndArray(static_cast<Size>(value.size()));
    case Json::value_t::string: {
      const auto& text = value.get_ref<const std::string&>();
      return to->String(text.data(), static_cast<Size>(text.size()), true);
    }
    case Json::value_t::boolean:
      return to->Bool(value.get<bool>());
    case Json::value_t::number_integer:
      return to->Int64(value.get<int64_t>());
    case Json::value_t::number_unsigned:
      return to->Uint64(value.get<uint64_t>());
    case Json::value_t::number_float:
      return to->Double(value.get<double>());
    default:
      return to->Null();
  }
}

// A number without a fraction is an integer in JSON's schemas, however it is
// written.
void MakeWhole(Json* value) {
  if (value->is_structured()) {
    for (Json& item : *value) MakeWhole(&item);
  } else if (value->is_number_float()) {
    const auto number = value->get<double>();
    if (std::abs(number) < 0x1p53 && number == std::floor(number)) {
      *value = static_cast<int64_t>(number);
    }
  }
}

std::string Text(const rapidjson::Pointer& pointer) {
  rapidjson::StringBuffer buffer;
  pointer.Stringify(buffer);
  return buffer.GetString();
}

// "/temperature: expected maximum 100", "/stop: expected a text, or ...": what
// a choice of forms is for stands in its description.
std::string Describe(const Schema& schema,
                     const rapidjson::SchemaValidator& validator) {
  const std::string where = Text(validator.GetInvalidDocumentPointer());
  const std::string keyword = validator.GetInvalidSchemaKeyword();
  const Json::json_pointer at(Text(validator.GetInvalidSchemaPointer()));
  if (keyword == "anyOf" && schema.document.contains(at / "description")) {
    return fmt::format(
        "{}: expected {}", where,
        schema.document.at(at / "description").get<std::string>());
  }
  const Json::json_pointer rule = at / keyword;
  const Json expected = schema.document.contains(rule)
                            ? schema.document.at(rule)
                            : Json("as GET /openapi.json says");
  return fmt::format("{}{}expected {} {}", where, where.empty() ? "" : ": ",
                     keyword, Excerpt(expected));
}

}  // namespace

std::string_view OpenApiDocument() { return EmbeddedFile("openapi.json"); }

Json ParseBody(const std::string& schema_name, const std::string& body) {
  static const std::map<std::string, Schema> schemas = CompileSchemas();
  Json json;
  try {
    json = ParseJson(body, "the request's body");
  } catch (const Error& e) {
    throw ApiError(400, e.what());
  }
  if (json.is_object()) {
    for (auto it = json.begin(); it != json.end();) {
      it = it->is_null() ? json.erase(it) : std::next(it);
    }
  }
  MakeWhole(&json);
  const Schema& schema = schemas.at(schema_name);
  rapidjson::SchemaValidator validator(*schema.compiled);
  if (!Feed(json, &validator)) {
    throw ApiError(
        400, OneLine("the request's body: " + Describe(schema, validator)));
  }
  return json;
}

}  // namespace mobe
