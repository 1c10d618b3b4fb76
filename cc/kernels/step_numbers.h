// The inputs of a step that are numbers: read, and checked.
#ifndef TF_OPTIM_CC_KERNELS_STEP_NUMBERS_H_
#define TF_OPTIM_CC_KERNELS_STEP_NUMBERS_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "cc/drivers/cpu.h"
#include "cc/ops/layout.h"
#include "tensorflow/core/framework/op_kernel.h"

namespace tf_optim {

struct StepNumbers {
  ForVariables<double> learning_rates{0.0};
  int64_t iterations;
  double clip_value;  // 0: none
  std::vector<double> hyper;
  const double* gradient_scale;  // null: all 1
  const double* weight_decay;    // null: all 0
  double average_momentum;
  int64_t average_updates;

  double scale(int i) const { return gradient_scale ? gradient_scale[i] : 1; }
  double decay(int i) const {
    return weight_decay ? learning_rates.at(i) * weight_decay[i] : 0;
  }
};

// Where the op's tensors are. A GPU's numbers are there too: only their shapes
// are checked, gradient_scale and weight_decay point to the device, and the
// others are not read.
enum class Memory { kHost, kDevice };

absl::Status ReadNumbers(tensorflow::OpKernelContext* context,
                         const OptimizerTraits& traits, const OpLayout& layout,
                         Memory memory, StepNumbers* numbers);

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_KERNELS_STEP_NUMBERS_H_
