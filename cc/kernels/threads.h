// TensorFlow's own thread pool as the drivers' ParallelFor.
#ifndef TF_OPTIM_CC_KERNELS_THREADS_H_
#define TF_OPTIM_CC_KERNELS_THREADS_H_

#include "cc/drivers/chunks.h"
#include "tensorflow/core/framework/op_kernel.h"

namespace tf_optim {

ParallelFor DeviceThreads(tensorflow::OpKernelContext* context);

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_KERNELS_THREADS_H_
