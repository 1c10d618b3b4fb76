#include "cc/xla/register.h"

#include <cstdlib>

#include "cc/xla/ffi_call.h"
#include "tensorflow/compiler/tf2xla/xla_compiler.h"

namespace tf_optim {
namespace {

// TensorFlow makes kernels of all XLA ops once, at the first function it
// optimizes; what is registered later has to make its own.
bool KernelsAreMade() {
  const auto kernels = ::tensorflow::GetRegisteredKernelsForOp("AddV2");
  for (const auto& kernel : kernels.kernel()) {
    if (kernel.device_type() == kCpuJitDevice) return true;
  }
  return false;
}

}  // namespace

std::string DeviceTypeOf(tensorflow::XlaOpKernelContext* context) {
  return context->compiler()->options().device_type.type_string();
}

bool WantsPortableStep() {
  const char* step = std::getenv("TF_OPTIM_XLA_STEP");
  return step != nullptr && std::string(step) == "portable";
}

bool IsOnCpu(tensorflow::XlaOpKernelContext* context) {
  return !WantsPortableStep() && XlaCanCall() &&
         DeviceTypeOf(context) == kCpuJitDevice;
}

void RegisterXlaOp(const std::string& name, MakeXlaKernel make,
                   const std::vector<tensorflow::DataType>& types) {
  auto definition = ::tensorflow::XlaOpRegistrationBuilder::Name(name);
  if (!types.empty()) definition.TypeConstraint("T", types);
  ::tensorflow::XlaOpRegistrar registrar(definition.Build(make));
  if (!KernelsAreMade()) return;
  for (const char* device : {kCpuJitDevice, kGpuJitDevice}) {
    ::tensorflow::kernel_factory::OpKernelRegistrar(
        ::tensorflow::register_kernel::Name(name.c_str())
            .Device(device)
            .Build(),
        "tf_optim", make);
  }
}

}  // namespace tf_optim
