// What registration, kernels and the Python module need to know of an
// optimizer, as data.
#ifndef TF_OPTIM_CC_RULES_TRAITS_H_
#define TF_OPTIM_CC_RULES_TRAITS_H_

#include <cstdint>
#include <iterator>
#include <string>
#include <vector>

#include "cc/rules/cautious.h"
#include "cc/rules/rule.h"

namespace tf_optim {

struct OptimizerTraits {
  std::string name;
  std::string formula;
  std::vector<std::string> hyper;
  std::vector<Range> ranges;  // of hyper
  size_t hyper_per_step;      // the last ones, new at each step
  std::vector<std::string> slots;
  // Options that are attributes of the op; `cautious` is the last.
  std::vector<std::string> flags;
  uint32_t required_slots;  // bit i: every variant has slot i
  uint32_t row_slots;       // bit i: slot i has one number per row
  uint32_t positive_slots;  // bit i: slot i is never negative
  bool needs_whole_table;   // it has means over the variable

  bool IsRowSlot(size_t slot) const { return row_slots >> slot & 1; }
  bool IsPositiveSlot(size_t slot) const { return positive_slots >> slot & 1; }
  bool IsOptional(size_t slot) const { return !(required_slots >> slot & 1); }
};

template <class... Rules>
OptimizerTraits TraitsOf(Variants<Rules...>) {
  using First = typename Variants<Rules...>::First;
  OptimizerTraits traits;
  traits.name = First::kName;
  traits.formula = First::kFormula;
  traits.hyper.assign(std::begin(First::kHyperNames),
                      std::end(First::kHyperNames));
  traits.ranges.assign(std::begin(First::kHyperRanges),
                       std::end(First::kHyperRanges));
  traits.hyper_per_step = First::kHyperPerStep;
  traits.slots.assign(std::begin(First::kSlotNames),
                      std::end(First::kSlotNames));
  traits.flags.assign(std::begin(First::kFlagNames),
                      std::end(First::kFlagNames));
  if ((Rules::kMayBeCautious || ...)) traits.flags.push_back(kCautious);
  traits.required_slots = (SlotMask<Rules>() & ...);
  traits.row_slots = First::kRowSlots;
  traits.positive_slots = First::kPositiveSlots;
  traits.needs_whole_table = First::kMeansOver == Over::kVariable;
  return traits;
}

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_RULES_TRAITS_H_
