// A step under XLA on a GPU: calls out of the computation to the CUDA drivers.
#ifndef TF_OPTIM_CC_XLA_GPU_STEP_H_
#define TF_OPTIM_CC_XLA_GPU_STEP_H_

#include <cstdint>
#include <string>
#include <vector>

#include "cc/values/storage.h"
#include "cc/xla/in_place_call.h"
#include "tensorflow/compiler/tf2xla/xla_op_kernel.h"

namespace tf_optim {

// Whether a step that is compiled here becomes such calls. The environment
// variable TF_OPTIM_XLA_STEP=portable says no, for tests.
bool CallsGpuKernels(tensorflow::XlaOpKernelContext* context);

// Which step.
struct GpuStepTarget {
  std::string rule;
  uint32_t variant = 0;
  Storage storage = Storage::kFloat32;
  uint32_t slots = 0;  // a bit for each that the rule has
  bool lazy = true;    // sparse steps
};

// What XLA passes.
struct GpuStepInputs {
  Streams streams;
  std::vector<xla::XlaOp> gradients;  // of the variable's type
  std::vector<xla::XlaOp> ids;        // int64; empty if gradients are dense
  xla::XlaOp iterations;              // int64 [1]
  // float64 [1]: learning_rate, clip_value, then the hyperparameters.
  std::vector<xla::XlaOp> numbers;
  xla::XlaOp gradient_scale, weight_decay;  // float64, one per variable
};

// The streams after the step, in their own memory.
Streams CallGpuSteps(const GpuStepTarget& target, const GpuStepInputs& inputs);

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_XLA_GPU_STEP_H_
