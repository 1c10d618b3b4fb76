#include "cc/kernels/threads.h"

#include <utility>

#include "cc/kernels/share.h"
#include "tensorflow/core/framework/device_base.h"
#include "tensorflow/core/lib/core/threadpool.h"

namespace tf_optim {

ParallelFor DeviceThreads(tensorflow::OpKernelContext* context) {
  auto* pool = context->device()->tensorflow_cpu_worker_threads()->workers;
  return ShareAmong(pool->NumThreads(),
                    [pool](Task task) { pool->Schedule(std::move(task)); });
}

}  // namespace tf_optim
