// TensorFlow's own threads as the drivers' ParallelFor.
#ifndef TF_OPTIM_CC_KERNELS_THREADS_H_
#define TF_OPTIM_CC_KERNELS_THREADS_H_

#include "cc/drivers/chunks.h"
#include "tensorflow/core/framework/op_kernel.h"

namespace tf_optim {

// Those of the op's device.
ParallelFor DeviceThreads(tensorflow::OpKernelContext* context);

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_KERNELS_THREADS_H_
