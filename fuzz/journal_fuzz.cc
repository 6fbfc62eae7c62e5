// Puts the bytes, sealed as a journal's files are, into each kind of file that
// a journal has, and reads them as merge and a continued job do.
#include <unistd.h>

#include <fstream>

#include "base/sealed_json.h"
#include "check.h"
#include "compress/journal.h"

namespace mobe {
namespace {

namespace fs = std::filesystem;

// Of this process: several may fuzz at once.
const fs::path& Folder() {
  static const fs::path folder = [] {
    fs::path path = fs::temp_directory_path() /
                    fmt::format("mobe_journal_fuzz_{}", getpid());
    fs::create_directories(path / Journal::kFolder);
    return path;
  }();
  return folder;
}

void Write(const char* name, std::string_view text) {
  std::ofstream(Folder() / Journal::kFolder / name, std::ios::binary) << text;
}

void CheckFiles(std::string_view text) {
  Write("job.json", text);
  Write("passes.json", text);
  Write("layer-00000-gate.json", text);
  AllowRefusal([] {
    const Json job = ReadJob(Folder());
    Check(job.at("options").is_object());
    for (const auto& [name, file] : job.at("inputs").items()) {
      Check(file.at("hash").is_string());
    }
  });
  AllowRefusal([] { ReadNote(Folder(), "passes"); });
  AllowRefusal([] { Check(ReadRecord(Folder(), 0, kGateKind).is_object()); });
  // A job that goes on, of the options that the fuzzer can know.
  AllowRefusal([] {
    const fs::path none = Folder() / "none";
    fs::create_directories(none);
    const Journal journal(Folder(), none, Json::object());
    journal.Record(0, kGateKind);
    journal.Note("passes");
  });
}

}  // namespace
}  // namespace mobe

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  mobe::CheckFiles(text);
  if (text.find('}') != std::string_view::npos) {
    mobe::CheckFiles(mobe::SealText(text));
  }
  return 0;
}
