#include "cc/cuda/instantiate.cu.h"
#include "cc/rules/nadam.h"

template struct tf_optim::GpuKernelTable<tf_optim::NadamVariants>;
