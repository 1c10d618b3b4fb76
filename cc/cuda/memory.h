// The few calls of the CUDA runtime that kernels of TensorFlow and the Python
// library need. Plain C++; defined where nvcc is.
#ifndef TF_OPTIM_CC_CUDA_MEMORY_H_
#define TF_OPTIM_CC_CUDA_MEMORY_H_

#include <cstdint>

#include "cc/drivers/gpu.h"

namespace tf_optim {

// Whether this machine's driver and this thread's device can run the kernels.
// Asks CUDA once per device.
GpuStatus CheckThisGpu();

// The same of the driver and every device, without using any of them.
GpuStatus CheckAllGpus();

// Copies within the device, in the stream's order.
GpuStatus CopyOnGpu(void* to, const void* from, int64_t bytes, void* stream);

// Memory of the device, in the stream's order, for callers without an allocator
// of their own.
GpuStatus AllocateOnGpu(int64_t bytes, void* stream, void** memory);
GpuStatus FreeOnGpu(void* memory, void* stream);

// A report that the host and every device can reach, and its owner's
// generation. It is never given back to the system: a kernel in a queue may
// still write there.
struct OwnedReport {
  BadIndexReport* report = nullptr;
  int64_t generation = 0;
};
GpuStatus NewBadIndexReport(OwnedReport* owned);
void DeleteBadIndexReport(const OwnedReport& owned);

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_CUDA_MEMORY_H_
