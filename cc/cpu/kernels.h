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

template <class AllVariants, class Rule, class T>
const CpuKernels<Rule, T>& FindKernels(Isa isa) {
  const auto find = [isa] {
    switch (isa) {
#if defined(__x86_64__)
      case Isa::kAvx512:
        return &KernelTable<Avx512, AllVariants>::Find;
      case Isa::kAvx2:
        return &KernelTable<Avx2, AllVariants>::Find;
#endif
      case Isa::kScalar:
        return &KernelTable<Scalar, AllVariants>::Find;
      default:
        return &KernelTable<Baseline, AllVariants>::Find;
    }
  }();
  return *static_cast<const CpuKernels<Rule, T>*>(
      find(VariantKey<Rule>(), kStorageOf<T>));
}

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_CPU_KERNELS_H_
