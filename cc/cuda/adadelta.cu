#include "cc/cuda/instantiate.cu.h"
#include "cc/rules/adadelta.h"

template struct tf_optim::GpuKernelTable<tf_optim::AdadeltaVariants>;
