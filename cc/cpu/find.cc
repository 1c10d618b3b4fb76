// Which kernels are whose: those that belong to no rule.
#include "cc/cpu/average.h"
#include "cc/cpu/kernels.h"
#include "cc/cpu/norms.h"
#include "cc/cpu/packed.h"

namespace tf_optim {

const void* FindKernelsOfNorms(Isa isa, Storage storage) {
  return WithTag(isa, [storage](auto tagged) {
    return NormTable<typename decltype(tagged)::Tag>::Find(storage);
  });
}

const void* FindKernelsOfAverages(Isa isa, Storage storage) {
  return WithTag(isa, [storage](auto tagged) {
    return AverageTable<typename decltype(tagged)::Tag>::Find(storage);
  });
}

const PackKernels& FindPackKernels(Isa isa) {
  return *WithTag(isa, [](auto tagged) {
    return &PackTable<typename decltype(tagged)::Tag>::Get();
  });
}

}  // namespace tf_optim
