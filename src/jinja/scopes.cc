#include "jinja/scopes.h"

namespace mobe::jinja {

int Scopes::Enter() {
  blocks_.push_back({current_});
  current_ = static_cast<int>(blocks_.size()) - 1;
  return current_;
}

std::vector<std::vector<std::string>> Scopes::Hidden() const {
  const auto known_around = [this](const Block& block,
                                   const std::string& name) {
    for (int i = block.parent; i >= 0; i = blocks_[Index(i)].parent) {
      if (blocks_[Index(i)].undefined.contains(name)) return true;
    }
    return false;
  };
  std::vector<std::vector<std::string>> hidden;
  for (const Block& block : blocks_) {
    hidden.emplace_back();
    for (const auto& [name, undefined] : block.undefined) {
      if (undefined && !known_around(block, name)) {
        hidden.back().push_back(name);
      }
    }
  }
  return hidden;
}

}  // namespace mobe::jinja
