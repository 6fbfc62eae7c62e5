#include "model/generation_config.h"

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "io/config.h"

namespace mobe {

SamplerOptions WithGenerationConfig(const std::filesystem::path& folder,
                                    SamplerOptions options) {
  const auto path = folder / "generation_config.json";
  if (!IsNamed(path)) return options;
  const Json json = ParseJson(ReadSmallFile(path), path.string());
  const ConfigReader config(json, path.string());
  options.temperature = config.Number("temperature", options.temperature);
  options.top_k = config.Count("top_k", options.top_k);
  options.top_p = config.Number("top_p", options.top_p);
  options.min_p = config.Number("min_p", options.min_p);
  options.repetition_penalty =
      config.Number("repetition_penalty", options.repetition_penalty);
  if (!config.Bool("do_sample", true)) options.temperature = 0;
  try {
    const Sampler sampler(options);
  } catch (const Error& e) {
    Fail(ErrorKind::kCorruptFile, "{}: {}", path.string(), e.what());
  }
  return options;
}

}  // namespace mobe
