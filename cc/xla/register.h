// Registers ops with XLA, at whatever time the library is loaded.
#ifndef TF_OPTIM_CC_XLA_REGISTER_H_
#define TF_OPTIM_CC_XLA_REGISTER_H_

#include <string>
#include <vector>

#include "tensorflow/compiler/tf2xla/xla_op_kernel.h"
#include "tensorflow/compiler/tf2xla/xla_op_registry.h"

namespace tf_optim {

inline constexpr char kCpuJitDevice[] = "XLA_CPU_JIT";

using MakeXlaKernel =
    tensorflow::OpKernel* (*)(tensorflow::OpKernelConstruction*);

// Whether a CPU will run what is compiled, so that it can call us. The
// environment variable TF_OPTIM_XLA_STEP=portable says no, for tests.
bool IsOnCpu(tensorflow::XlaOpKernelContext* context);

// `types` are those of the op's attribute T; none: it has no such attribute.
void RegisterXlaOp(const std::string& name, MakeXlaKernel make,
                   const std::vector<tensorflow::DataType>& types);

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_XLA_REGISTER_H_
