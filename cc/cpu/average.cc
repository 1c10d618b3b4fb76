#include "cc/cpu/average.h"

#include "cc/drivers/average_cpu.h"

namespace tf_optim {

namespace {

template <class IsaTag, class T>
inline constexpr AverageKernels<T> kAverageKernels = {
    &AverageSpan<IsaTag, T>, &CatchUpAverageRows<IsaTag, T>,
    &AverageRows<IsaTag, T>};

}  // namespace

template <>
const void* AverageTable<TFO_ISA>::Find(Storage storage) {
  switch (storage) {
    case Storage::kFloat32:
      return &kAverageKernels<TFO_ISA, float>;
    case Storage::kFloat64:
      return &kAverageKernels<TFO_ISA, double>;
    case Storage::kFloat16:
      return &kAverageKernels<TFO_ISA, Float16>;
    case Storage::kBFloat16:
      return &kAverageKernels<TFO_ISA, BFloat16>;
  }
  return nullptr;
}

}  // namespace tf_optim
