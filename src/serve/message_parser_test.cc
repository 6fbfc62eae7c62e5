#include "serve/message_parser.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/testing.h"

namespace mobe::message_parser_test {
namespace {

using testing::ElementsAre;

// A template that mentions `marks`.
ChatTemplate TemplateWith(const std::string& marks) {
  const TempFolder folder;
  WriteText(folder.path() / "t.jinja", marks);
  return ChatTemplate::Load(folder.path(), (folder.path() / "t.jinja").string(),
                            false);
}

// Parts of a kind next to each other as one: "say:...", "think:...",
// "call:NAME ARGUMENTS".
std::vector<std::string> PartsOf(const std::string& text, size_t piece,
                                 const std::string& marks,
                                 const std::string& prompt = "") {
  MessageParser parser(ToolStyleOf(TemplateWith(marks)),
                       marks.find("</think>") != std::string::npos, prompt);
  std::vector<MessagePart> parts;
  for (size_t i = 0; i < text.size(); i += piece) {
    std::ranges::move(parser.Push(text.substr(i, piece)),
                      std::back_inserter(parts));
  }
  std::ranges::move(parser.Finish(), std::back_inserter(parts));
  std::vector<std::string> shown;
  for (const MessagePart& part : parts) {
    if (part.kind == MessagePart::Kind::kCall) {
      shown.push_back("call:" + part.call.name + " " + part.call.arguments);
      continue;
    }
    const std::string kind =
        part.kind == MessagePart::Kind::kThoughts ? "think:" : "say:";
    if (!shown.empty() && shown.back().starts_with(kind)) {
      shown.back() += part.text;
    } else {
      shown.push_back(kind + part.text);
    }
  }
  return shown;
}

// However the text is cut.
class MessageParserTest : public testing::TestWithParam<size_t> {};
INSTANTIATE_TEST_SUITE_P(Pieces, MessageParserTest,
                         testing::Values(1, 2, 3, 7, 1000));

TEST_P(MessageParserTest, WithoutMarksAllIsContent) {
  const std::string text = "  <think> a </think> <tool_call>{}</tool_call> \n";
  EXPECT_THAT(PartsOf(text, GetParam(), "none"), ElementsAre("say:" + text));
}

TEST_P(MessageParserTest, Thoughts) {
  EXPECT_THAT(
      PartsOf("<think>\nHm.\n</think>\n\nYes. \n", GetParam(), "</think>"),
      ElementsAre("think:Hm.", "say:Yes. \n"));
  // Begun by the prompt; and never ended.
  EXPECT_THAT(PartsOf("\nHm.\n</think>Yes", GetParam(), "</think>",
                      "assistant\n<think>\n"),
              ElementsAre("think:Hm.", "say:Yes"));
  EXPECT_THAT(PartsOf("Hm", GetParam(), "</think>", "<think>"),
              ElementsAre("think:Hm"));
}

TEST_P(MessageParserTest, QwensCalls) {
  EXPECT_THAT(
      PartsOf(
          "Look.\n<tool_call>\n{\"name\": \"f\", \"arguments\": {\"x\": "
          "\"</b>\"}}\n</tool_call>\n<tool_call>{\"name\":\"g\"}</tool_call>"
          "\n",
          GetParam(), "<tool_call>"),
      ElementsAre("say:Look.", "call:f {\"x\":\"</b>\"}", "call:g {}"));
}

TEST_P(MessageParserTest, DeepSeeksCalls) {
  const std::string marks = "<｜tool▁call▁begin｜>";
  EXPECT_THAT(
      PartsOf(
          "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>f\n"
          "```json\n{\"x\": 1}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
          GetParam(), marks),
      ElementsAre("call:f {\"x\": 1}"));
  EXPECT_THAT(
      PartsOf("Ok<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>f<｜tool▁sep｜>"
              "{}<｜tool▁call▁end｜><｜tool▁call▁begin｜>g<｜tool▁sep｜>"
              "{}<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
              GetParam(), marks),
      ElementsAre("say:Ok", "call:f {}", "call:g {}"));
}

TEST_P(MessageParserTest, KimisCalls) {
  EXPECT_THAT(
      PartsOf("<|tool_calls_section_begin|><|tool_call_begin|>functions.f:0"
              "<|tool_call_argument_begin|>{\"x\": 1}<|tool_call_end|>"
              "<|tool_calls_section_end|>",
              GetParam(), "<|tool_call_begin|>"),
      ElementsAre("call:f {\"x\": 1}"));
}

TEST_P(MessageParserTest, WhatIsNoCallStaysText) {
  for (const std::string text :
       {"a <tool_call> b </tool_call> c",
        "<tool_call>{\"name\": 1}</tool_call>", "<tool_call>{\"name\": \"f\"",
        "<tool_cal", "a < b"}) {
    EXPECT_THAT(PartsOf(text, GetParam(), "<tool_call>"),
                ElementsAre("say:" + text));
  }
}

}  // namespace
}  // namespace mobe::message_parser_test
