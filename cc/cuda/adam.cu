#include "cc/cuda/instantiate.cu.h"
#include "cc/rules/adam.h"

template struct tf_optim::GpuKernelTable<tf_optim::AdamVariants>;
