// Makes a rule's kernels for the instruction set this file is compiled for.
#ifndef TF_OPTIM_CC_CPU_INSTANTIATE_H_
#define TF_OPTIM_CC_CPU_INSTANTIATE_H_

#include "cc/cpu/kernels.h"
#include "cc/drivers/idle_cpu.h"
#include "cc/drivers/rows_cpu.h"

namespace tf_optim {

template <class IsaTag, class Rule, class T>
inline constexpr CpuKernels<Rule, T> kKernels = {
    &PassDense<IsaTag, Rule, T>, &PassLazyRows<IsaTag, Rule, T>,
    &PassAllRows<IsaTag, Rule, T>, &CatchUpRows<IsaTag, Rule, T>};

template <class IsaTag, class Rule>
const void* KernelsForStorage(Storage storage) {
  return WithStorage(storage, [](auto stored) -> const void* {
    return &kKernels<IsaTag, Rule, typename decltype(stored)::Type>;
  });
}

template <class IsaTag, class... Rules>
const void* KernelTable<IsaTag, Variants<Rules...>>::Find(uint32_t variant,
                                                          Storage storage) {
  const void* found = nullptr;
  ((variant == VariantKey<Rules>() &&
    (found = KernelsForStorage<IsaTag, Rules>(storage))) ||
   ...);
  return found;
}

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_CPU_INSTANTIATE_H_
