// Errors of the CUDA runtime, in its own words.
#ifndef TF_OPTIM_CC_DRIVERS_CUDA_STATUS_H_
#define TF_OPTIM_CC_DRIVERS_CUDA_STATUS_H_

#include <cuda_runtime_api.h>

#include <string>

#include "cc/drivers/gpu.h"

namespace tf_optim {

inline GpuStatus::Code CodeOf(cudaError_t error) {
  switch (error) {
    case cudaSuccess:
      return GpuStatus::kOk;
    case cudaErrorMemoryAllocation:
      return GpuStatus::kNoMemory;
    case cudaErrorInsufficientDriver:
    case cudaErrorNoDevice:
    case cudaErrorNoKernelImageForDevice:
    case cudaErrorUnsupportedPtxVersion:
      return GpuStatus::kUnsupported;
    default:
      return GpuStatus::kFailed;
  }
}

// The runtime also keeps an error for the next who asks what was last: it is
// taken from there, or an innocent call would be blamed for it.
inline GpuStatus StatusOfCuda(cudaError_t error) {
  if (error == cudaSuccess) return {};
  cudaGetLastError();
  return {CodeOf(error), std::string("CUDA: ") + cudaGetErrorString(error) +
                             " (" + cudaGetErrorName(error) + ")."};
}

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_DRIVERS_CUDA_STATUS_H_
