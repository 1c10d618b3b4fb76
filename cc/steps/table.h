// The steps of a rule's variants. The file of a rule in this folder
// instantiates it.
#ifndef TF_OPTIM_CC_STEPS_TABLE_H_
#define TF_OPTIM_CC_STEPS_TABLE_H_

#include "cc/steps/step.h"

namespace tf_optim {

template <class AllVariants>
struct StepTable {
  static const StepsOfRule* Find(uint32_t variant, Storage storage);
};

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_STEPS_TABLE_H_
