#include "fit/devices.h"

#include <dlfcn.h>

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <fstream>
#include <map>
#include <mutex>

#include "base/error.h"
#include "base/parallel.h"
#include "fit/torch/module.h"

namespace mobe {
namespace {

namespace fs = std::filesystem;

// A module, and not linked to the program: PyTorch's libraries take a gigabyte,
// and half a second to load.
constexpr char kFile[] = "libmobe_torch.so";

// Beside the program in a build, or above a benchmark, else where it is
// installed.
fs::path ModulePath() {
  std::error_code error;
  const fs::path folder =
      fs::read_symlink("/proc/self/exe", error).parent_path();
  for (const fs::path& place :
       {folder, folder / "..", folder / "../lib/mobe"}) {
    if (fs::exists(place / kFile, error)) return place / kFile;
  }
  return {};
}

const TorchModule* LoadModule() {
  const fs::path path = ModulePath();
  if (path.empty()) return nullptr;
  // PyTorch brings a BLAS of its own, whose names are those of ours: each shall
  // find its own first.
  void* module = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_DEEPBIND);
  void* entry = module == nullptr ? nullptr : dlsym(module, kTorchModuleEntry);
  if (entry == nullptr) {
    Fail(ErrorKind::kMissing,
         "{}: cannot be loaded ({}); build mobe again with the PyTorch that is "
         "installed now, or use --device cpu",
         path.string(), dlerror());
  }
  return reinterpret_cast<const TorchModule* (*)()>(entry)();
}

const TorchModule* Module() {
  static const TorchModule* const module = LoadModule();
  return module;
}

const TorchModule& NeedModule(const std::string& name) {
  if (Module() != nullptr) return *Module();
  Fail(ErrorKind::kUnsupported,
       "--device {}: this mobe was built without PyTorch, which fits on GPUs; "
       "build it with -DMOBE_TORCH=ON, or use --device cpu",
       name);
}

// What the driver calls the cards, if they are all alike; else nothing.
std::string ModelOfCards() {
  std::string model;
  std::error_code none;
  for (const auto& card :
       fs::directory_iterator("/proc/driver/nvidia/gpus", none)) {
    std::ifstream file(card.path() / "information");
    std::string line;
    std::getline(file, line);  // "Model: \t\t NVIDIA H100 80GB HBM3"
    const size_t name = line.find_first_not_of(" \t", line.find(':') + 1);
    if (name == std::string::npos) return {};
    line.erase(0, name);
    if (!model.empty() && model != line) return {};
    model = line;
  }
  return model;
}

// One object for each device.
FitDevice* Open(const TorchModule& module, int card) {
  static std::mutex mutex;
  static std::map<int, FitDevice*> opened;
  const std::lock_guard<std::mutex> lock(mutex);
  FitDevice*& device = opened[card];
  if (device == nullptr) {
    device = module.open(card, ModelOfCards().c_str(), Threads());
  }
  return device;
}

// Without loading anything: drivers make these files.
bool MayHaveCard() {
  std::error_code error;
  return fs::exists("/dev/nvidiactl", error) || fs::exists("/dev/kfd", error);
}

[[noreturn]] void FailForCards(const std::string& name, int cards) {
  if (cards == 0) {
    Fail(ErrorKind::kUserInput,
         "--device {}: PyTorch finds no GPU here; use --device cpu, or look at "
         "the driver",
         name);
  }
  Fail(ErrorKind::kUserInput, "--device {}: expected cuda:0 to cuda:{}", name,
       cards - 1);
}

}  // namespace

std::vector<FitDevice*> FindDevices(const std::string& name, int place) {
  constexpr std::string_view kCard = "cuda:";
  if (name == "cpu") return {&TheCpu()};
  if (name == "auto") {
    const bool usable = MayHaveCard() && Module() != nullptr;
    const int cards = usable ? Module()->cards() : 0;
    if (cards == 0) return {&TheCpu()};
    return {Open(*Module(), place % cards)};
  }
  if (name == "torch-cpu") return {Open(NeedModule(name), -1)};
  int card = 0;
  const bool all = name == "cuda:all";
  if (name != "cuda" && !all) {
    const char* end = name.data() + name.size();
    const auto [rest, error] = std::from_chars(
        name.data() + std::min(kCard.size(), name.size()), end, card);
    if (!name.starts_with(kCard) || error != std::errc() || rest != end) {
      Fail(ErrorKind::kUserInput,
           "--device {}: expected cpu, cuda, cuda:1, cuda:all or auto", name);
    }
  }
  const TorchModule& module = NeedModule(name);
  const int cards = module.cards();
  if (card < 0 || card >= cards) FailForCards(name, cards);
  if (name == "cuda") card = place % cards;
  std::vector<FitDevice*> devices;
  for (int i = all ? 0 : card; i < (all ? cards : card + 1); ++i) {
    devices.push_back(Open(module, i));
  }
  return devices;
}

void CheckDeviceMemory(const FitDevice& device, int64_t bytes) {
  const int64_t free = device.FreeBytes();
  if (bytes <= free) return;
  constexpr double kGb = 1e9;
  Fail(ErrorKind::kOutOfMemory,
       "the fit needs about {:.2f} GB of {} ({}), {:.2f} GB are free; free it "
       "of other programs, or fit with fewer --bases, on a larger card or with "
       "--device cpu",
       static_cast<double>(bytes) / kGb, device.name(), device.kind(),
       static_cast<double>(free) / kGb);
}

std::string ListDevices() {
  if (ModulePath().empty()) return "cpu";
  const int cards = MayHaveCard() ? Module()->cards() : 0;
  return cards == 0 ? "cpu (and GPUs, of which there is none)"
                    : fmt::format("cpu, cuda ({} card{}; PyTorch {})", cards,
                                  cards == 1 ? "" : "s", Module()->version);
}

}  // namespace mobe
