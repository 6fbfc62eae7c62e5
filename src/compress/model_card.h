// The model card that Hugging Face shows: README.md with metadata in front.
#pragma once

#include <filesystem>
#include <string>

#include "compress/recipe.h"

namespace mobe {

inline constexpr char kCardFile[] = "README.md";
inline constexpr char kOriginalCardFile[] = "README.original.md";

// The text of a card; empty when there is none, or it is larger than 16 MB.
std::string ReadCard(const std::filesystem::path& path);

// The card of a compressed model. From `original_card`, the original's, it
// takes the licence.
std::string ModelCard(const Recipe& recipe, const std::string& original_card);

// The card of a model, plain or compressed before, that was stored in few bits.
std::string QuantizedCard(const Recipe& recipe,
                          const std::string& original_card);

// The card of the standard checkpoint that was rebuilt from it, which may need
// code of its own (mobe/modeling_file.h).
std::string ReconstructedCard(const Recipe& recipe,
                              const std::string& original_card,
                              bool needs_own_code);

// The card of a standard checkpoint whose experts another method approximated.
std::string BaselineCard(const Recipe& recipe,
                         const std::string& original_card);

}  // namespace mobe
