// Whether a machine's driver and card can run the kernels of a build. Plain
// C++; cc/cuda/memory.cu asks CUDA for the numbers.
#ifndef TF_OPTIM_CC_DRIVERS_GPU_SUPPORT_H_
#define TF_OPTIM_CC_DRIVERS_GPU_SUPPORT_H_

#include <algorithm>
#include <string>
#include <vector>

#include "cc/drivers/gpu.h"

namespace tf_optim {

// "13.0" for CUDA's 13000, "9.0" for a compute capability's 90.
inline std::string CudaVersion(int version) {
  return std::to_string(version / 1000) + "." +
         std::to_string(version % 1000 / 10);
}
inline std::string CapabilityName(int capability) {
  return std::to_string(capability / 10) + "." +
         std::to_string(capability % 10);
}

// `driver` is the newest CUDA that the driver knows, 0 if there is none.
// Within a major version an older driver runs what a newer toolkit built.
inline GpuStatus CheckDriver(int driver, int toolkit) {
  if (driver / 1000 >= toolkit / 1000) return {};
  return {GpuStatus::kUnsupported,
          "The GPU kernels were built with CUDA " + CudaVersion(toolkit) +
              ", and need a driver for CUDA " + std::to_string(toolkit / 1000) +
              ".0 or newer. Received: " +
              (driver == 0 ? "no driver"
                           : "a driver for CUDA " + CudaVersion(driver)) +
              ". Update the driver, or rebuild with an older toolkit."};
}

// `built` are the capabilities that there is machine code for, and PTX for the
// newest: code runs on cards of its major version that are as new, PTX on
// all newer ones.
inline GpuStatus CheckCapability(int capability,
                                 const std::vector<int>& built) {
  std::string names;
  for (int has : built) {
    if (has / 10 == capability / 10 && has <= capability) return {};
    names += (names.empty() ? "" : ", ") + CapabilityName(has);
  }
  if (!built.empty() &&
      capability > *std::max_element(built.begin(), built.end())) {
    return {};
  }
  return {GpuStatus::kUnsupported,
          "The GPU kernels were built for compute capabilities " + names +
              ". Received: a GPU of " + CapabilityName(capability) +
              ". Rebuild with TF_CUDA_COMPUTE_CAPABILITIES=" +
              CapabilityName(capability) + "."};
}

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_DRIVERS_GPU_SUPPORT_H_
