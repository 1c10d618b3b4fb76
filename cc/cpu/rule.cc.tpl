#include "@HEADER@"

#include "cc/cpu/instantiate.h"

template struct tf_optim::KernelTable<tf_optim::TFO_ISA, tf_optim::@VARIANTS@>;
