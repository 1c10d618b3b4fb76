// The steps of a rule on a device, as the function pointers of gpu.h.
#ifndef TF_OPTIM_CC_DRIVERS_GPU_KERNELS_H_
#define TF_OPTIM_CC_DRIVERS_GPU_KERNELS_H_

#include <vector>

#include "cc/drivers/dense_gpu.h"
#include "cc/drivers/gpu.h"
#include "cc/drivers/gpu_memory.h"
#include "cc/drivers/sparse_gpu.h"

namespace tf_optim {

template <class Device, class Rule, class T>
GpuStatus RunDenseOn(const std::vector<GpuItem>& items, const GpuStep& step,
                     const GpuContext& context) {
  return RunOnDevice<Device>(context, [&](Device* device) {
    ApplyDenseOn<Rule, T>(device, items, step);
  });
}

template <class Device, class Rule, class T>
GpuStatus RunSparseOn(const std::vector<GpuItem>& items,
                      const GpuSparse& sparse, const GpuStep& step,
                      const GpuContext& context) {
  return RunOnDevice<Device>(context, [&](Device* device) {
    ApplySparseOn<Rule, T>(device, items, sparse, step,
                           {context.report, context.generation});
  });
}

template <class Device, class Rule, class T>
inline constexpr GpuKernels kGpuKernels = {&RunDenseOn<Device, Rule, T>,
                                           &RunSparseOn<Device, Rule, T>};

template <class Device, class Rule>
const GpuKernels* GpuKernelsForStorage(Storage storage) {
  switch (storage) {
    case Storage::kFloat32:
      return &kGpuKernels<Device, Rule, float>;
    case Storage::kFloat64:
      return &kGpuKernels<Device, Rule, double>;
    case Storage::kFloat16:
      return &kGpuKernels<Device, Rule, Float16>;
    case Storage::kBFloat16:
      return &kGpuKernels<Device, Rule, BFloat16>;
  }
  return nullptr;
}

template <class Device, class... Rules>
const GpuKernels* FindGpuKernels(Variants<Rules...> variants, uint32_t variant,
                                 Storage storage) {
  const GpuKernels* found = nullptr;
  VisitVariant(variants, variant, [&](auto rule) {
    found = GpuKernelsForStorage<Device, decltype(rule)>(storage);
  });
  return found;
}

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_DRIVERS_GPU_KERNELS_H_
