// The function of ours that XLA calls on a GPU: from its call frame to the CUDA
// drivers. It knows neither CUDA nor TensorFlow.
//
// The kernels are in another library, which lends them: the one of the ops, or
// in tests the one that has their emulation on the CPU.
#ifndef TF_OPTIM_CC_XLA_GPU_CALL_H_
#define TF_OPTIM_CC_XLA_GPU_CALL_H_

#include <cstdint>

#include "cc/drivers/gpu.h"
#include "cc/xla/ffi_call.h"

namespace tf_optim {

inline constexpr char kGpuCallName[] = "tf_optim_gpu_step";

// The kernels of a rule by its name, or null.
using FindGpuKernelsByName = const GpuKernels* (*)(const char* rule,
                                                   uint32_t variant,
                                                   int storage);

// Steps that XLA compiles for GPUs are calls of these kernels from now on; with
// `emulated`, those that it compiles for CPUs. Null: none are.
void UseGpuKernels(FindGpuKernelsByName find, bool emulated);

struct GpuCallKernels {
  FindGpuKernelsByName find = nullptr;
  bool emulated = false;  // on the memory of the host
};

// Those of the last UseGpuKernels.
GpuCallKernels CurrentGpuKernels();

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_XLA_GPU_CALL_H_
