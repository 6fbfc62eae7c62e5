// The one rule for the files that commands write beside models: nothing is
// written over what a command reads, even with --force, and without it only
// over what the same command wrote.
#pragma once

#include <CLI/CLI.hpp>
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace mobe {

// What a command writes, known by some of its first bytes.
struct OutputKind {
  std::string_view name;  // "a page of mobe report"
  size_t at;              // where those bytes begin
  std::string_view bytes;
  bool weights;  // would be taken for weights in a model's folder
};
inline constexpr OutputKind kReportOutput = {
    "a page of mobe report", 0,
    "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n",
    false};
inline constexpr OutputKind kTraceOutput = {
    "a trace of mobe compress", 0, "layer,matrix,pass,seconds,mse_scaled\n",
    false};
inline constexpr OutputKind kLogitsOutput = {"a file of mobe logits", 8,
                                             "{\"logits\":", true};
inline constexpr OutputKind kMomentsOutput = {
    "a file of mobe calibrate", 8, "{\"__metadata__\":{\"context\":", true};

struct OutputFile {
  std::string path;
  bool force = false;
};
// Adds --force, for "the report" or so.
void AddForce(CLI::App* command, const std::string& what, OutputFile* file);

// Fails with kUserInput when the file must not be written: it is one of
// `inputs`, or belongs to one of the model folders `models`, or exists and is
// neither empty nor of the kind, and there is no --force; when it is no regular
// file.
void CheckOutputFile(const OutputFile& file, const OutputKind& kind,
                     const std::vector<std::string>& models,
                     const std::vector<std::string>& inputs);

}  // namespace mobe
