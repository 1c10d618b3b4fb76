// The kernels of a rule for one instruction set. No TensorFlow.
#ifndef TF_OPTIM_CC_CPU_KERNELS_H_
#define TF_OPTIM_CC_CPU_KERNELS_H_

#include "cc/cpu/isa.h"
#include "cc/drivers/cpu.h"

namespace tf_optim {

// Tags, defined in cc/values/simd.h for the files that are compiled per set.
struct Scalar;
struct Baseline;
struct Avx2;
struct Avx512;

// The CpuKernels<Rule, T> of all variants and types. The file of a rule in this
// folder instantiates it, and is compiled once per instruction set.
template <class IsaTag, class AllVariants>
struct KernelTable;

template <class IsaTag, class... Rules>
struct KernelTable<IsaTag, Variants<Rules...>> {
  static const void* Find(uint32_t variant, Storage storage);
};

// `rule` is its AllVariants' name.
TFO_CPU_API const void* FindRuleKernels(const char* rule, uint32_t variant,
                                        Isa isa, Storage storage);

template <class AllVariants, class Rule, class T>
const CpuKernels<Rule, T>& FindKernels(Isa isa) {
  return *static_cast<const CpuKernels<Rule, T>*>(FindRuleKernels(
      AllVariants::kName, VariantKey<Rule>(), isa, kStorageOf<T>));
}

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_CPU_KERNELS_H_
