#include "cc/cuda/instantiate.cu.h"
#include "cc/rules/adagrad.h"

template struct tf_optim::GpuKernelTable<tf_optim::AdagradVariants>;
