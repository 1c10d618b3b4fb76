// Makes a rule's steps.
#ifndef TF_OPTIM_CC_STEPS_INSTANTIATE_H_
#define TF_OPTIM_CC_STEPS_INSTANTIATE_H_

#include "cc/steps/table.h"
#include "cc/steps/typed_idle_steps.h"
#include "cc/steps/typed_step.h"

namespace tf_optim {

template <class AllVariants, class Rule, class T>
inline constexpr StepsOfRule kSteps = {
    &TypedStep<AllVariants, Rule, T>::Apply,
    &TypedIdleSteps<AllVariants, Rule, T>::New};

template <class AllVariants, class Rule>
const StepsOfRule* StepsForStorage(Storage storage) {
  switch (storage) {
    case Storage::kFloat32:
      return &kSteps<AllVariants, Rule, float>;
    case Storage::kFloat64:
      return &kSteps<AllVariants, Rule, double>;
    case Storage::kFloat16:
      return &kSteps<AllVariants, Rule, Float16>;
    case Storage::kBFloat16:
      return &kSteps<AllVariants, Rule, BFloat16>;
  }
  return nullptr;
}

template <class AllVariants>
const StepsOfRule* StepTable<AllVariants>::Find(uint32_t variant,
                                                Storage storage) {
  const StepsOfRule* found = nullptr;
  VisitVariant(AllVariants(), variant, [&](auto rule) {
    found = StepsForStorage<AllVariants, decltype(rule)>(storage);
  });
  return found;
}

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_STEPS_INSTANTIATE_H_
