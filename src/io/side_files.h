// The files beside a model's weights, which a copy of the model takes over:
// tokenizer, chat templates, licence and so on.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace mobe {

// Copies the files of `from` (also those behind symbolic links) to `to`,
// atomically each: tokenizer, generation_config.json, licence and so on. Leaves
// out subfolders, weights (*.safetensors, *.bin, *.pth, *.gguf), indices,
// config.json, hidden files and *.tmp. Returns the names of the copies, sorted.
// Files named in `leave_out` are left out, too.
std::vector<std::string> CopySideFiles(
    const std::filesystem::path& from, const std::filesystem::path& to,
    const std::vector<std::string>& leave_out = {});

}  // namespace mobe
