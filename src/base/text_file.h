// Text that a user gives in a file: to measure a model on, to continue, a
// conversation, a template.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace mobe {

// The file's text in UTF-8, as DecodeText gives it. Fails as ReadInput and
// DecodeText do.
std::string ReadTextFile(const std::filesystem::path& path,
                         uint64_t max_bytes = 256u << 20);

// The text that the bytes of a file stand for, in well-formed UTF-8 and without
// a byte-order mark. UTF-16 and UTF-32 are decoded when a byte-order mark says
// so; UTF-16 also without one, when every other byte is NUL, as in the
// languages of Western Europe. Fails with kUserInput for anything else, saying
// what it is and what to do: compressed and other binary files, a Git LFS
// pointer, bytes that are not UTF-8. Those are not replaced, since the text
// would then be another one; Python's open() refuses them, too.
std::string DecodeText(std::string bytes, const std::string& source);

// The lines of a text, without what ends them: a line feed, or that after a
// carriage return.
std::vector<std::string> LinesOf(std::string_view text);
// Nothing but blanks and tabs.
bool IsBlankLine(std::string_view line);

}  // namespace mobe
