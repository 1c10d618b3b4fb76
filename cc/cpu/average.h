// The loops over moving averages for one instruction set. No TensorFlow.
#ifndef TF_OPTIM_CC_CPU_AVERAGE_H_
#define TF_OPTIM_CC_CPU_AVERAGE_H_

#include "cc/cpu/kernels.h"
#include "cc/drivers/average.h"

namespace tf_optim {

// As KernelTable, for what does not depend on the rule.
template <class IsaTag>
struct AverageTable {
  static const void* Find(Storage storage);
};

template <class T>
const AverageKernels<T>& FindAverageKernels(Isa isa) {
  const auto find = [isa] {
    switch (isa) {
#if defined(__x86_64__)
      case Isa::kAvx512:
        return &AverageTable<Avx512>::Find;
      case Isa::kAvx2:
        return &AverageTable<Avx2>::Find;
#endif
      case Isa::kScalar:
        return &AverageTable<Scalar>::Find;
      default:
        return &AverageTable<Baseline>::Find;
    }
  }();
  return *static_cast<const AverageKernels<T>*>(find(kStorageOf<T>));
}

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_CPU_AVERAGE_H_
