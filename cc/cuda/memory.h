// The few calls of the CUDA runtime that kernels of TensorFlow and the Python
// library need. Plain C++; defined where nvcc is.
#ifndef TF_OPTIM_CC_CUDA_MEMORY_H_
#define TF_OPTIM_CC_CUDA_MEMORY_H_

#include <cstdint>
#include <string>

#include "cc/drivers/gpu.h"

namespace tf_optim {

// Copies within the device, in the stream's order. "" or what went wrong.
std::string CopyOnGpu(void* to, const void* from, int64_t bytes, void* stream);

// Memory of the device, in the stream's order, for callers without an allocator
// of their own. Null if there is none left.
void* AllocateOnGpu(int64_t bytes, void* stream);
void FreeOnGpu(void* memory, void* stream);

// A report that the host and every device can reach; null if there is no memory
// of that kind.
BadIndexReport* NewBadIndexReport();
void DeleteBadIndexReport(BadIndexReport* report);

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_CUDA_MEMORY_H_
