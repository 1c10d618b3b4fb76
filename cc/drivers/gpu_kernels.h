// The steps of a rule on a device, as the function pointers of gpu.h.
#ifndef TF_OPTIM_CC_DRIVERS_GPU_KERNELS_H_
#define TF_OPTIM_CC_DRIVERS_GPU_KERNELS_H_

#include <vector>

#include "cc/drivers/dense_gpu.h"
#include "cc/drivers/gpu.h"
#include "cc/drivers/gpu_memory.h"
#include "cc/drivers/sparse_gpu.h"

namespace tf_optim {

template <class Device, class Rule, class T, bool is_cautious>
GpuStatus RunDenseOn(const std::vector<GpuItem>& items, const GpuStep& step,
                     const GpuContext& context) {
  return RunOnDevice<Device>(context, [&](Device* device) {
    ApplyDenseOn<Rule, T>(device, items, step, is_cautious);
  });
}

template <class Device, class Rule, class T, bool is_cautious>
GpuStatus RunSparseOn(const std::vector<GpuItem>& items,
                      const GpuSparse& sparse, const GpuStep& step,
                      const GpuContext& context) {
  return RunOnDevice<Device>(context, [&](Device* device) {
    ApplySparseOn<Rule, T>(device, items, sparse, step,
                           {context.report, context.generation}, is_cautious);
  });
}

template <class Device, class Rule, class T, bool is_cautious>
inline constexpr GpuKernels kGpuKernels = {
    &RunDenseOn<Device, Rule, T, is_cautious>,
    &RunSparseOn<Device, Rule, T, is_cautious>};

template <class Device, class... Rules>
const GpuKernels* FindGpuKernels(Variants<Rules...> variants, uint32_t variant,
                                 Storage storage) {
  const GpuKernels* found = nullptr;
  VisitVariant(variants, variant, [&](auto rule, auto is_cautious) {
    using Rule = decltype(rule);
    found = WithStorage(storage, [&](auto stored) {
      using T = typename decltype(stored)::Type;
      return &kGpuKernels<Device, Rule, T, is_cautious()>;
    });
  });
  return found;
}

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_DRIVERS_GPU_KERNELS_H_
