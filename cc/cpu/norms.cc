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
  return WithStorage(storage, [](auto stored) -> const void* {
    return &kNormKernels<TFO_ISA, typename decltype(stored)::Type>;
  });
}

}  // namespace tf_optim
