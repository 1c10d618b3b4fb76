#include "cc/python/binding.h"

#include <utility>

namespace tf_optim {
namespace {

// In a function, so that it exists before the first file adds its rule.
std::map<std::string, BoundRule>& Added() {
  static auto* const rules = new std::map<std::string, BoundRule>();
  return *rules;
}

}  // namespace

const std::map<std::string, BoundRule>& BoundRules() { return Added(); }

bool AddBoundRule(BoundRule rule) {
  std::string name = rule.name;
  return Added().emplace(std::move(name), std::move(rule)).second;
}

}  // namespace tf_optim
