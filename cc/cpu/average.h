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

TFO_CPU_API const void* FindKernelsOfAverages(Isa isa, Storage storage);

template <class T>
const AverageKernels<T>& FindAverageKernels(Isa isa) {
  return *static_cast<const AverageKernels<T>*>(
      FindKernelsOfAverages(isa, kStorageOf<T>));
}

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_CPU_AVERAGE_H_
