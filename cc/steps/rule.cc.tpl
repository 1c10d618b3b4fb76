#include "@HEADER@"

#include "cc/steps/instantiate.h"

template struct tf_optim::StepTable<tf_optim::@VARIANTS@>;
