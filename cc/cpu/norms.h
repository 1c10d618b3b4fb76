// The loops that measure gradients for one instruction set. No TensorFlow.
#ifndef TF_OPTIM_CC_CPU_NORMS_H_
#define TF_OPTIM_CC_CPU_NORMS_H_

#include "cc/cpu/kernels.h"
#include "cc/drivers/norms.h"

namespace tf_optim {

// As KernelTable, for what does not depend on the rule.
template <class IsaTag>
struct NormTable {
  static const void* Find(Storage storage);
};

template <class T>
const NormKernels<T>& FindNormKernels(Isa isa) {
  const auto find = [isa] {
    switch (isa) {
#if defined(__x86_64__)
      case Isa::kAvx512:
        return &NormTable<Avx512>::Find;
      case Isa::kAvx2:
        return &NormTable<Avx2>::Find;
#endif
      case Isa::kScalar:
        return &NormTable<Scalar>::Find;
      default:
        return &NormTable<Baseline>::Find;
    }
  }();
  return *static_cast<const NormKernels<T>*>(find(kStorageOf<T>));
}

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_CPU_NORMS_H_
