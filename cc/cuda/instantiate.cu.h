// Makes a rule's kernels for GPUs: nvcc only.
#ifndef TF_OPTIM_CC_CUDA_INSTANTIATE_CU_H_
#define TF_OPTIM_CC_CUDA_INSTANTIATE_CU_H_

#include "cc/drivers/cuda_device.cu.h"
#include "cc/drivers/gpu_kernels.h"

namespace tf_optim {

template <class AllVariants>
const GpuKernels* GpuKernelTable<AllVariants>::Find(uint32_t variant,
                                                    Storage storage) {
  return FindGpuKernels<CudaDevice>(AllVariants(), variant, storage);
}

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_CUDA_INSTANTIATE_CU_H_
