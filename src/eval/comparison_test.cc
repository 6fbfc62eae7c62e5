#include "eval/comparison.h"

#include <gtest/gtest.h>

#include "base/testing.h"

namespace mobe {
namespace {

Comparison Example() {
  return {{"a", "b"},
          {{"base", 2'000'000, {{{10, 1}, {}, {}}, {{20, 1}, {}, {}}}, 50.25},
           {"x_1|2",
            1'000'000,
            {{{11, 1}, Estimate{0.125, 0.5}, Estimate{0.5, 0.5}},
             {{21, 1}, Estimate{0.25, 0.5}, Estimate{0.75, 0.5}}},
            {}}}};
}

std::string Printed(const Comparison& comparison, const std::string& name) {
  for (const TableForm& form : TableForms()) {
    if (form.name != name) continue;
    return form.print(ComparisonCells(comparison, form.for_programs
                                                      ? CellsFor::kPrograms
                                                      : CellsFor::kPeople));
  }
  return "none";
}

TEST(Comparison, IsPrintedInEveryForm) {
  EXPECT_EQ(
      Printed(Example(), "text"),
      "model    bytes    a KLD  a top-1  a perplexity    b KLD  b top-1  b "
      "perplexity  tok/s\n"
      "base   2.00 MB                          10.000                          "
      "20.000   50.2\n"
      "x_1|2  1.00 MB  0.12500   50.00%        11.000  0.25000   75.00%        "
      "21.000\n");
  EXPECT_EQ(Printed(Example(), "csv"),
            "model,bytes,a KLD,a top-1,a perplexity,b KLD,b top-1,b "
            "perplexity,tok/s\n"
            "base,2000000,,,10,,,20,50.25\n"
            "x_1|2,1000000,0.125,0.5,11,0.25,0.75,21,\n");
  Comparison one = Example();
  one.texts.pop_back();
  for (ComparedModel& model : one.models) model.texts.pop_back();
  EXPECT_EQ(Printed(one, "markdown"),
            "| model  |   bytes |     KLD |  top-1 | perplexity | tok/s |\n"
            "| ------ | ------: | ------: | -----: | ---------: | ----: |\n"
            "| base   | 2.00 MB |         |        |     10.000 |  50.2 |\n"
            "| x_1\\|2 | 1.00 MB | 0.12500 | 50.00% |     11.000 |       |\n");
  EXPECT_EQ(Printed(one, "latex"),
            "\\begin{tabular}{lrrrrr}\n\\toprule\n"
            "model & bytes & KLD & top-1 & perplexity & tok/s \\\\\n\\midrule\n"
            "base & 2.00 MB &  &  & 10.000 & 50.2 \\\\\n"
            "x\\_1|2 & 1.00 MB & 0.12500 & 50.00\\% & 11.000 &  \\\\\n"
            "\\bottomrule\n\\end{tabular}\n");
}

TEST(Comparison, IsReadBack) {
  const Json json = ComparisonJson(Example());
  EXPECT_EQ(ComparisonJson(ReadComparisonJson(json, "file")), json);
  for (
      const char* bad :
      {"[]", "{}", R"({"texts": ["a"], "models": [{}]})",
       R"({"texts": ["a"], "models": [{"model": "m", "bytes": 1, "texts": []}]})"}) {
    ExpectError(ErrorKind::kCorruptFile, "mobe table --json",
                [&] { ReadComparisonJson(Json::parse(bad), "file"); });
  }
}

}  // namespace
}  // namespace mobe
