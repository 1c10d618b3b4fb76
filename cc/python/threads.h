// A thread per share: what TensorFlow's pool does, for use without it.
#ifndef TF_OPTIM_CC_PYTHON_THREADS_H_
#define TF_OPTIM_CC_PYTHON_THREADS_H_

#include "cc/drivers/chunks.h"

namespace tf_optim {

ParallelFor ThreadsFor(int threads);

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_PYTHON_THREADS_H_
