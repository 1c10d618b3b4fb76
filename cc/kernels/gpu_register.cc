// Registers every op for GPUs, with the kernels that nvcc built from the rules.
#include <string>

#include "cc/cuda/memory.h"
#include "cc/kernels/gpu_step_op.h"
#include "cc/rules/all_rules.h"

namespace tf_optim {
namespace {

using ::tensorflow::DEVICE_GPU;
using ::tensorflow::KernelDefBuilder;
using ::tensorflow::register_kernel::Name;

// Handles are on the host, all else on the device. So are numbers that Python
// knows: a float64 constant of a graph is made in the device's memory, once,
// and to ask for it on the host would be to wait in every step for all that the
// device has still to do.
const tensorflow::KernelDef* Definition(const OptimizerTraits& traits,
                                        bool sparse, tensorflow::DataType T,
                                        tensorflow::DataType indices) {
  const std::string name = OpName(traits, sparse);
  Name builder(name.c_str());
  builder.Device(DEVICE_GPU).HostMemory("var");
  for (const std::string& slot : traits.slots) builder.HostMemory(slot.c_str());
  builder.HostMemory("average");
  if (sparse) builder.HostMemory("average_rows");
  builder.HostMemory("history");
  builder.TypeConstraint("T", T);
  if (sparse) builder.TypeConstraint("Tindices", indices);
  return builder.Build();
}

bool RegisterAll() {
  using ::tensorflow::DT_INT32;
  using ::tensorflow::DT_INT64;
  ForEachOptimizer([](auto variants) {
    using AllVariants = decltype(variants);
    const OptimizerTraits traits = TraitsOf(variants);
    for (auto dtype : {tensorflow::DT_FLOAT, tensorflow::DT_DOUBLE,
                       tensorflow::DT_HALF, tensorflow::DT_BFLOAT16}) {
      RegisterKernel<GpuApplyOp<AllVariants, false>>(
          Definition(traits, false, dtype, DT_INT32));
      for (auto indices : {DT_INT32, DT_INT64}) {
        RegisterKernel<GpuApplyOp<AllVariants, true>>(
            Definition(traits, true, dtype, indices));
      }
    }
  });
  return true;
}

[[maybe_unused]] const bool registered = RegisterAll();

// A check would wait for the indices to come to the host, in every step. The
// sparse steps make it where the indices are.
class LeaveToStepsOp : public tensorflow::OpKernel {
 public:
  using OpKernel::OpKernel;
  void Compute(tensorflow::OpKernelContext*) override {}
};

REGISTER_KERNEL_BUILDER(Name("TfOptim>CheckIndices")
                            .Device(DEVICE_GPU)
                            .TypeConstraint<int32_t>("Tindices"),
                        LeaveToStepsOp);
REGISTER_KERNEL_BUILDER(Name("TfOptim>CheckIndices")
                            .Device(DEVICE_GPU)
                            .TypeConstraint<int64_t>("Tindices"),
                        LeaveToStepsOp);

}  // namespace
}  // namespace tf_optim

// For library.py: "" or why the kernels cannot run on this machine.
extern "C" __attribute__((visibility("default"))) const char*
tf_optim_gpu_state() {
  thread_local std::string state;
  state = tf_optim::CheckAllGpus().message;
  return state.c_str();
}

// For cc/xla/gpu_step.h, which is in another library; null if there is none.
extern "C" __attribute__((visibility("default"))) const tf_optim::GpuKernels*
tf_optim_gpu_kernels(const char* rule, uint32_t variant, int storage) {
  const tf_optim::GpuKernels* found = nullptr;
  tf_optim::ForEachOptimizer([&](auto variants) {
    using AllVariants = decltype(variants);
    if (std::string(AllVariants::kName) != rule) return;
    found = tf_optim::GpuKernelTable<AllVariants>::Find(
        variant, static_cast<tf_optim::Storage>(storage));
  });
  return found;
}
