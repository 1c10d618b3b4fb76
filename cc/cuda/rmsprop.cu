#include "cc/cuda/instantiate.cu.h"
#include "cc/rules/rmsprop.h"

template struct tf_optim::GpuKernelTable<tf_optim::RMSpropVariants>;
