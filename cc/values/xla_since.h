// Which TensorFlow this is, and what its XLA therefore has: 2.16 to 2.21.
#ifndef TF_OPTIM_CC_VALUES_XLA_SINCE_H_
#define TF_OPTIM_CC_VALUES_XLA_SINCE_H_

// Not where the calls are compiled for another XLA (cc/python/jax_call.cc).
#if __has_include("tensorflow/core/public/version.h")
#include "tensorflow/core/public/version.h"
#endif

// Since 2.20 TensorFlow no longer says its version to the compiler.
#ifdef TF_MINOR_VERSION
#define TFO_TF_MINOR TF_MINOR_VERSION
#else
#define TFO_TF_MINOR 20  // or later
#endif

// Whether a computation on a CPU can call a function that is given its buffers
// and a pool of threads; and whether that pool says how many there are.
#define TFO_XLA_CALLS (TFO_TF_MINOR >= 18)
#define TFO_XLA_POOL_SAYS_SIZE (TFO_TF_MINOR >= 19)

#endif  // TF_OPTIM_CC_VALUES_XLA_SINCE_H_
