#include "cc/cuda/instantiate.cu.h"
#include "cc/rules/ftrl.h"

template struct tf_optim::GpuKernelTable<tf_optim::FtrlVariants>;
