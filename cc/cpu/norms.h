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

TFO_CPU_API const void* FindKernelsOfNorms(Isa isa, Storage storage);

template <class T>
const NormKernels<T>& FindNormKernels(Isa isa) {
  return *static_cast<const NormKernels<T>*>(
      FindKernelsOfNorms(isa, kStorageOf<T>));
}

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_CPU_NORMS_H_
