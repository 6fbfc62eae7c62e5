// What tells a model from another without reading all of it.
#pragma once

#include <filesystem>
#include <string>

namespace mobe {

// SHA-256 over names and sizes of a folder's weights, config and tokenizer, and
// pieces of each: of a file of tensors its header's beginning and 63 others,
// evenly spaced. Another fit, or another format, differs everywhere; a single
// changed number may not be noticed. Fails with kMissing when there is no such
// folder.
std::string ModelIdentity(const std::filesystem::path& folder);
// The same of weights and config alone.
std::string WeightsIdentity(const std::filesystem::path& folder);

}  // namespace mobe
