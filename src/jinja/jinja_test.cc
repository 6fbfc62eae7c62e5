#include "jinja/jinja.h"

#include <gtest/gtest.h>

#include <functional>

#include "base/error.h"

namespace mobe::jinja {
namespace {

// tests/python/test_chat_template.py compares with jinja2; here is what needs
// no jinja2 to be known, so that every build is tested.

std::string Render(const std::string& source,
                   const OrderedJson& variables = OrderedJson::object()) {
  return Template(source, "t").Render(variables);
}

std::string ErrorOf(const std::string& source,
                    const OrderedJson& variables = OrderedJson::object()) {
  try {
    Render(source, variables);
  } catch (const Error& e) {
    return e.what();
  }
  return "none";
}

TEST(Jinja, WhiteSpaceAroundTags) {
  EXPECT_EQ(Render("a\n"), "a");
  EXPECT_EQ(Render("  {% if true %}\n  a\n  {% endif %}\n  b\n"), "  a\n  b");
  EXPECT_EQ(Render("x \n {%- if true -%} \n a \n {%- endif +%}\n b"), "xa\n b");
  EXPECT_EQ(Render("  {{ 'a' }}\n  {#- c #}\nb"), "  ab");
  EXPECT_EQ(Render("  {%+ if true %}a{% endif %}"), "  a");
  EXPECT_EQ(Render("{% raw %}{{ x }}\n{% endraw %}\nb"), "{{ x }}\nb");
}

TEST(Jinja, NamesEndWithTheirBlock) {
  EXPECT_EQ(Render("{% set x = 1 %}{% for i in [1, 2] %}{% set x = i + x %}"
                   "{{ x }} {% endfor %}{{ x }}"),
            "2 3 1");
  EXPECT_EQ(Render("{% set n = namespace(x=1) %}{% for i in [1, 2] %}"
                   "{% set n.x = i + n.x %}{% endfor %}{{ n.x }}"),
            "4");
}

TEST(Jinja, ContentIsNoTemplate) {
  const std::string content = "{{ 7 * 7 }}{% for %}{#";
  EXPECT_EQ(Render("{{ m[0].content }}", {{"m", {{{"content", content}}}}}),
            content);
  EXPECT_EQ(
      Render("{% set x %}{{ c }}{% endset %}{{ x ~ x }}", {{"c", content}}),
      content + content);
}

TEST(Jinja, KeysKeepTheirOrder) {
  EXPECT_EQ(
      Render(
          "{{ t | tojson }}",
          {{"t", OrderedJson::parse(R"({"z":1,"a":[1.0,null,true,"é<"]})")}}),
      "{\"z\": 1, \"a\": [1.0, null, true, \"é<\"]}");
}

TEST(Jinja, ErrorsNameFileAndLine) {
  EXPECT_EQ(ErrorOf("\n\n{{ x.y }}"),
            "t: chat template: line 3: x, which is undefined, has no \"y\"");
  EXPECT_EQ(ErrorOf("a\n{% include 'b' %}"),
            "t: chat template: line 2: the tag \"include\" is not supported "
            "here");
  EXPECT_EQ(ErrorOf("\n{{ raise_exception('roles\nmust alternate') }}"),
            "t: chat template: line 2: the template refuses the conversation: "
            "\"roles\\nmust alternate\"");
  EXPECT_EQ(ErrorOf("{% if true %}\na"),
            "t: chat template: line 2: expected {% endif %}, found the end of "
            "the template");
  EXPECT_EQ(
      ErrorOf("{{ x | xmlattr }}"),
      "t: chat template: line 1: the filter \"xmlattr\" is not supported");
  EXPECT_EQ(ErrorOf("\xff"), "t: the chat template is not UTF-8");
}

void ExpectTooMuch(const std::string& source) {
  const std::string error = ErrorOf(source);
  EXPECT_NE(error.find("million steps"), std::string::npos) << error;
}

TEST(Jinja, WorkIsBounded) {
  for (const char* source :
       {"{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}"
        "{% endfor %}",
        "{% set n = namespace(x=[1]) %}{% for i in range(70) %}"
        "{% set n.x = [n.x, n.x] %}{% endfor %}{{ n.x == n.x }}",
        "{{ 'x' * 99999999999 }}"}) {
    ExpectTooMuch(source);
  }
  EXPECT_NE(ErrorOf("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}")
                .find("nested deeper"),
            std::string::npos);
}

// `b` is a long text; `step` is one that looks at all of it.
TEST(Jinja, LongTextsAreCountedWhereTheyAreKeysOrArguments) {
  const std::string b = "{% set b = ('x' * 1000) * 5000 %}";
  const std::string c = b + "{% set c = b ~ '' %}{% set d = {b: 1} %}";
  for (const char* step : {"{b: 1}",
                           "{c: 1}[b]",
                           "d[c]",
                           "d.get(c)",
                           "d.keys() | list",
                           "d.items() | list",
                           "d | items | list",
                           "d | list",
                           "dict(d)",
                           "c in d",
                           "c in b",
                           "''.strip(b)",
                           "'' | trim(b)",
                           "b.startswith(c)",
                           "b.endswith(c)",
                           "b.removeprefix(c)",
                           "b.find(c)",
                           "b.count(c)",
                           "''.split(b)",
                           "b.replace(c, '')",
                           "[1] | map(attribute=b) | list"}) {
    ExpectTooMuch(c + "{% for i in range(99999) %}{% set _ = " + step +
                  " %}{% endfor %}");
  }
}

TEST(Jinja, ManySmallTextsAreCountedBeforeTheyAreMade) {
  const std::string b = "{% set b = ('x' * 1000) * 25000 %}";
  for (const char* step :
       {"b.split('x')", "b.rsplit('x')", "b | list", "(b ~ '').splitlines()"}) {
    ExpectTooMuch(b + "{% set _ = " + step + " %}{% set _ = " + step + " %}" +
                  "{% set _ = b ~ b ~ b ~ b %}");
  }
}

std::string Repeated(size_t times,
                     const std::function<std::string(int)>& part) {
  std::string text;
  for (size_t i = 0; i < times; ++i) text += part(static_cast<int>(i));
  return text;
}

TEST(Jinja, TablesOfManyNamesAreCounted) {
  const auto pairs = [](const char* format) {
    return Repeated(
        50000, [&](int i) { return fmt::format(fmt::runtime(format), i); });
  };
  ExpectTooMuch(pairs("{{% set a{} = 1 %}}"));
  ExpectTooMuch("{% macro f(" + pairs("a{},") + "z) %}{% endmacro %}{{ f() }}");
  ExpectTooMuch("{{ {" + pairs("'a{}': 1,") + "} }}");
  ExpectTooMuch("{{ dict(" + pairs("a{}=1,") + ") }}");
}

TEST(Jinja, RawBlocksAreReadOnce) {
  EXPECT_NE(ErrorOf("{% raw %}" + Repeated(400000, [](int) { return "{%"; }))
                .find("a raw block has no end"),
            std::string::npos);
  EXPECT_EQ(Render("{% raw %} {% a {%- x {% endraw %}b"), " {% a {%- x b");
}

// What is held by a namespace that it holds must not leak or dangle: the
// sanitizers look.
TEST(Jinja, NamespacesMayHoldThemselves) {
  EXPECT_EQ(Render("{% set n = namespace() %}{% set n.n = [n] %}"
                   "{{ n.n[0].n[0] == n }}"),
            "True");
  EXPECT_EQ(ErrorOf("{% set n = namespace() %}{{ [n] }}"),
            "t: chat template: line 1: namespace can't be printed");
}

}  // namespace
}  // namespace mobe::jinja
