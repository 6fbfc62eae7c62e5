// The files beside a model's weights: which of them a copy of the model takes
// over. A table in side_files.cc decides, by the name:
//
//   needed    what running takes: tokenizer, chat templates and the folder
//             additional_chat_templates, generation_config.json. Copied; where
//             one can't be, no copy begins.
//   left out  config.json, which is written anew; weights of any framework and
//             their indices; the state of a training; unfinished downloads;
//             hidden files; hf_quant_config.json, since the copy is no longer
//             quantised that way; all other folders.
//   others    licence, README, code, whatever the publisher adds: copied when
//             they have at most 64 MiB; what can't be copied is warned of.
//
// Names are bytes, as file systems have them: they need not be UTF-8.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace mobe {

inline constexpr char kTemplatesFolder[] = "additional_chat_templates";

struct SideFile {
  std::string name;  // "LICENSE", "additional_chat_templates/tool_use.jinja"
  std::string as;    // its name in the copy
  int64_t bytes = 0;
};

// One that should be copied but can't be: a link to nothing, an LFS pointer.
struct BrokenFile {
  std::string name;
  bool needed = false;
  std::string line;  // what it is, and what to do
};

struct LeftOutFile {
  std::string name;
  std::string why;  // "training state"
  // The user may not expect it, or has to know what it shows.
  bool warn = false;
};

struct SideFiles {
  std::filesystem::path folder;
  std::vector<SideFile> copied;  // each list by name
  std::vector<BrokenFile> broken;
  std::vector<LeftOutFile> left_out;  // but the files of the checkpoint itself

  const SideFile* Find(std::string_view name) const;
  int64_t bytes() const;  // of those to copy
};

// Reads the folder, and the beginning of each file that is to be copied. Fails
// with kMissing when the folder can't be read.
SideFiles ListSideFiles(const std::filesystem::path& folder);

// Takes a file from those to copy, if it is there.
void LeaveOut(std::string_view name, SideFiles* files);

// Fails with kMissing for a needed file that is broken. Gives a line for each
// thing to warn of.
std::vector<std::string> CheckSideFiles(const SideFiles& files);

// Copies them to `to`, each atomically. Returns their names there, in order.
std::vector<std::string> CopySideFiles(const SideFiles& files,
                                       const std::filesystem::path& to);

// A name as text that JSON can hold, and back: bytes that are no UTF-8, control
// characters and '%' become %XX, as in URLs.
std::string TextOfName(std::string_view name);
std::string NameOfText(std::string_view text);

}  // namespace mobe
