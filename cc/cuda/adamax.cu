#include "cc/cuda/instantiate.cu.h"
#include "cc/rules/adamax.h"

template struct tf_optim::GpuKernelTable<tf_optim::AdamaxVariants>;
