// Registers ops with XLA, at whatever time the library is loaded.
#ifndef TF_OPTIM_CC_XLA_REGISTER_H_
#define TF_OPTIM_CC_XLA_REGISTER_H_

#include <string>
#include <vector>

#include "tensorflow/compiler/tf2xla/xla_op_kernel.h"
#include "tensorflow/compiler/tf2xla/xla_op_registry.h"

namespace tf_optim {

inline constexpr char kCpuJitDevice[] = "XLA_CPU_JIT";
inline constexpr char kGpuJitDevice[] = "XLA_GPU_JIT";

using MakeXlaKernel =
    tensorflow::OpKernel* (*)(tensorflow::OpKernelConstruction*);

// What will run what is compiled: one of those above.
std::string DeviceTypeOf(tensorflow::XlaOpKernelContext* context);

// Whether the environment variable TF_OPTIM_XLA_STEP=portable asks for steps
// that call nobody, for tests.
bool WantsPortableStep();

// Whether a CPU will run what is compiled, so that it can call us.
bool IsOnCpu(tensorflow::XlaOpKernelContext* context);

// `types` are those of the op's attribute T; none: it has no such attribute.
void RegisterXlaOp(const std::string& name, MakeXlaKernel make,
                   const std::vector<tensorflow::DataType>& types);

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_XLA_REGISTER_H_
