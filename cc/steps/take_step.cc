// Which steps are whose, and what all have in common.
#include <algorithm>
#include <string_view>

#include "cc/rules/all_rules.h"
#include "cc/steps/step.h"
#include "cc/steps/table.h"

namespace tf_optim {
namespace {

template <class Index>
struct Ids {
  const Index* indices;
  int64_t count, rows;
  const uint64_t* sorted;
};

template <class Index>
BadIndex SortIds(const HostStep& step, std::vector<IdSorter>* sorters) {
  std::vector<Ids<Index>> ids;
  ids.reserve(step.variables.size());
  for (const HostVariable& variable : step.variables) {
    ids.push_back({static_cast<const Index*>(variable.indices), variable.count,
                   variable.rows, variable.sorted});
  }
  const bool are_sorted =
      std::all_of(ids.begin(), ids.end(),
                  [](const auto& of) { return of.count == 0 || of.sorted; });
  if (are_sorted) return TakeItems(ids, step.parallel_for, sorters);
  return step.outside == Outside::kRefuse
             ? SortItems<Outside::kRefuse>(ids, step.parallel_for, sorters)
             : SortItems<Outside::kLeaveOut>(ids, step.parallel_for, sorters);
}

}  // namespace

const StepsOfRule* FindSteps(const std::string& rule, uint32_t variant,
                             Storage storage) {
  const StepsOfRule* found = nullptr;
  ForEachOptimizer([&](auto variants) {
    using AllVariants = decltype(variants);
    if (std::string_view(AllVariants::kName) != rule) return;
    found = StepTable<AllVariants>::Find(variant, storage);
  });
  return found;
}

BadIndex TakeStep(const StepsOfRule& steps, const HostStep& step) {
  std::vector<IdSorter> sorters;
  if (step.is_sparse) {
    const BadIndex bad = step.indices_are_32_bits
                             ? SortIds<int32_t>(step, &sorters)
                             : SortIds<int64_t>(step, &sorters);
    if (bad.item >= 0) return bad;
  }
  steps.apply(step, sorters);
  return {};
}

}  // namespace tf_optim
