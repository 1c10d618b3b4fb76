// Any pool's threads as the drivers' ParallelFor. No TensorFlow.
#ifndef TF_OPTIM_CC_KERNELS_SHARE_H_
#define TF_OPTIM_CC_KERNELS_SHARE_H_

#include <cstdint>
#include <functional>

#include "cc/drivers/chunks.h"

namespace tf_optim {

using Task = std::function<void()>;
// Has a task run, on some other thread as a rule.
using Schedule = std::function<void(Task)>;

// The calling thread starts at once, and up to `pool_threads` - 1 others of a
// pool of that many threads join it. What a part of the work throws is thrown
// to the caller, once all the others are done.
ParallelFor ShareAmong(int64_t pool_threads, Schedule pool);

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_KERNELS_SHARE_H_
