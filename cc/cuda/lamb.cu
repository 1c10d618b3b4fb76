#include "cc/cuda/instantiate.cu.h"
#include "cc/rules/lamb.h"

template struct tf_optim::GpuKernelTable<tf_optim::LambVariants>;
