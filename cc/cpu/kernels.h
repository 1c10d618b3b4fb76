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

template <class IsaTag>
struct Tagged {
  using Tag = IsaTag;
};

// Calls f(Tagged<IsaTag>()).
template <class F>
auto WithTag(Isa isa, const F& f) {
  switch (isa) {
#if defined(__x86_64__)
    case Isa::kAvx512:
      return f(Tagged<Avx512>());
    case Isa::kAvx2:
      return f(Tagged<Avx2>());
#endif
    case Isa::kScalar:
      return f(Tagged<Scalar>());
    default:
      return f(Tagged<Baseline>());
  }
}

template <class AllVariants, class Rule, class T>
const CpuKernels<Rule, T>& FindKernels(Isa isa) {
  const void* const found = WithTag(isa, [](auto tagged) {
    return KernelTable<typename decltype(tagged)::Tag, AllVariants>::Find(
        VariantKey<Rule>(), kStorageOf<T>);
  });
  return *static_cast<const CpuKernels<Rule, T>*>(found);
}

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_CPU_KERNELS_H_
