#include "cc/cuda/instantiate.cu.h"
#include "cc/rules/lion.h"

template struct tf_optim::GpuKernelTable<tf_optim::LionVariants>;
