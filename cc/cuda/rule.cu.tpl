#include "@HEADER@"

#include "cc/cuda/instantiate.cu.h"

template struct tf_optim::GpuKernelTable<tf_optim::@VARIANTS@>;
