// XLA's builder, wherever a TensorFlow keeps it. All that includes the builder
// includes this in its place.
#ifndef TF_OPTIM_CC_VALUES_XLA_VERSION_H_
#define TF_OPTIM_CC_VALUES_XLA_VERSION_H_

#include "cc/values/xla_since.h"

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

#endif  // TF_OPTIM_CC_VALUES_XLA_VERSION_H_
