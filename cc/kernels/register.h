// Registers the kernels of one optimizer, for every type and device.
#ifndef TF_OPTIM_CC_KERNELS_REGISTER_H_
#define TF_OPTIM_CC_KERNELS_REGISTER_H_

#include "cc/kernels/apply_op.h"
#include "cc/kernels/idle_steps.h"
#include "cc/kernels/sparse_apply_op.h"

namespace tf_optim {

template <class AllVariants, class TfType>
void RegisterCpuKernelsFor(const OptimizerTraits& traits, Handles handles) {
  using ::tensorflow::DEVICE_CPU;
  using ::tensorflow::register_kernel::Name;
  RegisterKernel<ApplyOp<AllVariants, TfType>>(
      Name(traits.OpName(/*sparse=*/false, handles).c_str())
          .Device(DEVICE_CPU)
          .TypeConstraint<TfType>("T")
          .Build());
  const std::string sparse = traits.OpName(/*sparse=*/true, handles);
  RegisterKernel<SparseApplyOp<AllVariants, TfType, int32_t>>(
      Name(sparse.c_str())
          .Device(DEVICE_CPU)
          .TypeConstraint<int32_t>("Tindices")
          .TypeConstraint<TfType>("T")
          .Build());
  RegisterKernel<SparseApplyOp<AllVariants, TfType, int64_t>>(
      Name(sparse.c_str())
          .Device(DEVICE_CPU)
          .TypeConstraint<int64_t>("Tindices")
          .TypeConstraint<TfType>("T")
          .Build());
}

// Returns true, so that a file can register while the library loads.
template <class AllVariants>
bool RegisterCpuKernels(AllVariants variants) {
  const OptimizerTraits traits = TraitsOf(variants);
  for (Handles handles : {Handles::kSeparate, Handles::kBundled}) {
    RegisterCpuKernelsFor<AllVariants, float>(traits, handles);
    RegisterCpuKernelsFor<AllVariants, double>(traits, handles);
    RegisterCpuKernelsFor<AllVariants, Eigen::half>(traits, handles);
    RegisterCpuKernelsFor<AllVariants, Eigen::bfloat16>(traits, handles);
  }
  return RegisterIdleStepsOf(variants);
}

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_KERNELS_REGISTER_H_
