// Which names a block hides from the blocks within it.
//
// jinja2 gives every name of a block a variable when it compiles the template.
// What the block sets before it reads it, and no block around it knows, begins
// undefined, even when the conversation has such a name: in
//   {% for i in [1] %}{{ x }}{% endfor %}{% set x = 2 %}
// nothing is printed. But a variable that is set within an `if` begins with the
// value from the conversation. The rules are those of jinja2's idtracking.py;
// blocks here are what it calls frames.
#pragma once

#include <map>
#include <string>
#include <vector>

namespace mobe::jinja {

class Scopes {
 public:
  Scopes() { Enter(); }

  // What the current block does, in this order.
  void Read(const std::string& name) { Add(name, false); }
  void Declare(const std::string& name) { Add(name, false); }  // a parameter
  void Set(const std::string& name) { Add(name, Current().branches == 0); }

  // Begins a block within this one and gives its number; the template has 0.
  int Enter();
  void Leave() { current_ = Current().parent; }

  // Around the branches of an `if`.
  void BeginBranches() { ++Current().branches; }
  void EndBranches() { --Current().branches; }

  // For each block the names that begin undefined.
  std::vector<std::vector<std::string>> Hidden() const;

 private:
  struct Block {
    int parent;
    int branches = 0;  // within how many `if`
    // Of its names, whether they begin so.
    std::map<std::string, bool> undefined = {};
  };
  static size_t Index(int block) { return static_cast<size_t>(block); }
  Block& Current() { return blocks_[Index(current_)]; }
  // What is done first decides.
  void Add(const std::string& name, bool undefined) {
    Current().undefined.emplace(name, undefined);
  }

  std::vector<Block> blocks_;
  int current_ = -1;
};

}  // namespace mobe::jinja
