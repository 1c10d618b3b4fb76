#include "cc/cpu/norms.h"

#include "cc/drivers/norms_cpu.h"

namespace tf_optim {

namespace {

template <class IsaTag, class T>
inline constexpr NormKernels<T> kNormKernels = {&MeasureSpan<IsaTag, T>,
                                                &MeasureRows<IsaTag, T>};

}  // namespace

template <>
const void* NormTable<TFO_ISA>::Find(Storage storage) {
  switch (storage) {
    case Storage::kFloat32:
      return &kNormKernels<TFO_ISA, float>;
    case Storage::kFloat64:
      return &kNormKernels<TFO_ISA, double>;
    case Storage::kFloat16:
      return &kNormKernels<TFO_ISA, Float16>;
    case Storage::kBFloat16:
      return &kNormKernels<TFO_ISA, BFloat16>;
  }
  return nullptr;
}

}  // namespace tf_optim
