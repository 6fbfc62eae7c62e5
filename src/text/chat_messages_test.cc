#include "text/chat_messages.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "base/error.h"

namespace mobe {
namespace {

OrderedJson MessagesWith(const std::string& call) {
  return ParseOrderedJson(
      R"([{"role": "user"}, {"tool_calls": [)" + call + "]}]", "test");
}

OrderedJson ParsedCall(const std::string& call) {
  return WithParsedArguments(MessagesWith(call))[1]["tool_calls"][0];
}

TEST(ChatMessages, ArgumentsInAStringBecomeWhatItSays) {
  const OrderedJson call =
      ParsedCall(R"({"function": {"arguments": "{\"b\": 1, \"a\": [2.0]}"}})");
  EXPECT_EQ(call["function"]["arguments"].dump(), R"({"b":1,"a":[2.0]})");
  EXPECT_EQ(ParsedCall(R"({"name": "f", "arguments": "{}"})").dump(),
            R"({"name":"f","arguments":{}})");
}

TEST(ChatMessages, NoArgumentsAreAnEmptyObject) {
  for (const char* arguments :
       {R"("arguments": "")", R"("arguments": null)", R"("name": "f")"}) {
    const OrderedJson call =
        ParsedCall(fmt::format(R"({{"function": {{{}}}}})", arguments));
    EXPECT_EQ(call["function"]["arguments"], OrderedJson::object());
  }
}

TEST(ChatMessages, WhatIsNoCallStays) {
  for (const char* call :
       {"1", "null", "[]", R"({"name": "f"})", R"({"function": "f"})",
        R"({"function": {"arguments": [1]}})"}) {
    EXPECT_EQ(ParsedCall(call).dump(), OrderedJson::parse(call).dump());
  }
  const auto odd = OrderedJson::parse(R"([{"tool_calls": null}, {}])");
  EXPECT_EQ(WithParsedArguments(odd), odd);
}

TEST(ChatMessages, ArgumentsThatAreNoJsonAreRefused) {
  try {
    ParsedCall(R"({"function": {"arguments": "{\"a\": "}})");
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.kind(), ErrorKind::kUserInput);
    EXPECT_EQ(std::string(e.what()).find(
                  "messages[1].tool_calls[0]: arguments: invalid JSON"),
              0U);
  }
}

std::string Named(const char* message, std::vector<std::string_view> read) {
  const auto messages = OrderedJson::array({OrderedJson::parse(message)});
  return WithReasoning(messages,
                       [&](std::string_view name) {
                         return std::ranges::count(read, name) > 0;
                       })[0]
      .dump();
}

TEST(ChatMessages, ReasoningHasTheNameThatTheTemplateReads) {
  EXPECT_EQ(Named(R"({"reasoning": "Hm"})", {"reasoning_content"}),
            R"({"reasoning":"Hm","reasoning_content":"Hm"})");
  EXPECT_EQ(Named(R"({"thinking": null, "reasoning_content": "Hm"})",
                  {"thinking", "content"}),
            R"({"thinking":"Hm","reasoning_content":"Hm"})");
  // It arrives, or nothing reads it, or there is none.
  for (const char* message : {R"({"thinking":"Hm"})", R"({"content":"Hm"})",
                              R"({"thinking":null})"}) {
    EXPECT_EQ(Named(message, {"thinking", "reasoning"}), message);
    EXPECT_EQ(Named(message, {"content"}), message);
  }
}

}  // namespace
}  // namespace mobe
