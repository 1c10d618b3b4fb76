// What differs between the XLAs of TensorFlow 2.16 to 2.21. All that includes
// XLA's builder includes this in its place.
#ifndef TF_OPTIM_CC_VALUES_XLA_VERSION_H_
#define TF_OPTIM_CC_VALUES_XLA_VERSION_H_

#include "tensorflow/core/public/version.h"

// Since 2.20 TensorFlow no longer says its version to the compiler.
#ifdef TF_MINOR_VERSION
#define TFO_TF_MINOR TF_MINOR_VERSION
#else
#define TFO_TF_MINOR 20  // or later
#endif

#if TFO_TF_MINOR >= 19
#include "xla/hlo/builder/lib/arithmetic.h"
#include "xla/hlo/builder/lib/comparators.h"
#include "xla/hlo/builder/lib/constants.h"
#include "xla/hlo/builder/lib/math.h"
#include "xla/hlo/builder/lib/slicing.h"
#include "xla/hlo/builder/xla_builder.h"
#else
#include "xla/client/lib/arithmetic.h"
#include "xla/client/lib/comparators.h"
#include "xla/client/lib/constants.h"
#include "xla/client/lib/math.h"
#include "xla/client/lib/slicing.h"
#include "xla/client/xla_builder.h"
#endif

// Whether a computation on a CPU can call a function that is given its buffers
// and a pool of threads; and whether that pool says how many there are.
#define TFO_XLA_CALLS (TFO_TF_MINOR >= 18)
#define TFO_XLA_POOL_SAYS_SIZE (TFO_TF_MINOR >= 19)

#endif  // TF_OPTIM_CC_VALUES_XLA_VERSION_H_
