// How the options of a recipe read: in its model card, in its report. They may
// be anybody's.
#pragma once

#include <string>
#include <vector>

#include "base/json.h"

namespace mobe {

// Of one option: a word, a number, or those of a list with blanks between them.
// Empty for what only a program reads: objects, lists of other things, nothing.
std::string OptionText(const Json& value);
// "bases 8, activation silu": of all that have such a text, but for the
// version.
std::string OptionsText(const Json& options);

// The fits whose factors quantize stored ("fits" of recipe.h).
struct FitText {
  std::string layers;
  std::string options;
};
std::vector<FitText> FitTexts(const Json& options);

}  // namespace mobe
