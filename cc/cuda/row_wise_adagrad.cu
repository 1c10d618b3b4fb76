#include "cc/cuda/instantiate.cu.h"
#include "cc/rules/row_wise_adagrad.h"

template struct tf_optim::GpuKernelTable<tf_optim::RowWiseAdagradVariants>;
