#include "cc/cpu/average.h"

#include "cc/drivers/average_cpu.h"

namespace tf_optim {

namespace {

template <class IsaTag, class T>
inline constexpr AverageKernels<T> kAverageKernels = {
    &AverageSpan<IsaTag, T>, &CatchUpAverageRows<IsaTag, T>,
    &AverageRows<IsaTag, T>, &GiveAverageRows<IsaTag, T>};

}  // namespace

template <>
const void* AverageTable<TFO_ISA>::Find(Storage storage) {
  return WithStorage(storage, [](auto stored) -> const void* {
    return &kAverageKernels<TFO_ISA, typename decltype(stored)::Type>;
  });
}

}  // namespace tf_optim
