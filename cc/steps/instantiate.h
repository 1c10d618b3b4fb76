// Makes a rule's steps.
#ifndef TF_OPTIM_CC_STEPS_INSTANTIATE_H_
#define TF_OPTIM_CC_STEPS_INSTANTIATE_H_

#include "cc/steps/table.h"
#include "cc/steps/typed_idle_steps.h"
#include "cc/steps/typed_step.h"

namespace tf_optim {

template <class AllVariants, class Rule, class T, bool is_cautious>
inline constexpr StepsOfRule kSteps = {
    &TypedStep<AllVariants, Rule, T>::template Apply<is_cautious>,
    &TypedIdleSteps<AllVariants, Rule, T>::template New<is_cautious>};

template <class AllVariants>
const StepsOfRule* StepTable<AllVariants>::Find(uint32_t variant,
                                                Storage storage) {
  const StepsOfRule* found = nullptr;
  VisitVariant(AllVariants(), variant, [&](auto rule, auto is_cautious) {
    using Rule = decltype(rule);
    found = WithStorage(storage, [&](auto stored) {
      using T = typename decltype(stored)::Type;
      return &kSteps<AllVariants, Rule, T, is_cautious()>;
    });
  });
  return found;
}

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_STEPS_INSTANTIATE_H_
