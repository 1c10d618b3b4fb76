#include "cc/cuda/instantiate.cu.h"
#include "cc/rules/sgd.h"

template struct tf_optim::GpuKernelTable<tf_optim::SGDVariants>;
