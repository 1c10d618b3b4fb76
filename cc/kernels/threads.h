// TensorFlow's own threads as the drivers' ParallelFor.
#ifndef TF_OPTIM_CC_KERNELS_THREADS_H_
#define TF_OPTIM_CC_KERNELS_THREADS_H_

#include <cstdint>
#include <functional>

#include "cc/drivers/chunks.h"
#include "tensorflow/core/framework/op_kernel.h"

namespace tf_optim {

using Task = std::function<void()>;
// Has a task run, on some other thread as a rule.
using Schedule = std::function<void(Task)>;

// The calling thread starts at once, and up to `pool_threads` - 1 others of a
// pool of that many threads join it.
ParallelFor ShareAmong(int64_t pool_threads, Schedule pool);

// Those of the op's device.
ParallelFor DeviceThreads(tensorflow::OpKernelContext* context);

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_KERNELS_THREADS_H_
