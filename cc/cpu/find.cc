// Which kernels are whose: what the library of kernels has for others.
#include <string_view>

#include "cc/cpu/average.h"
#include "cc/cpu/kernels.h"
#include "cc/cpu/norms.h"
#include "cc/cpu/packed.h"
#include "cc/rules/all_rules.h"

namespace tf_optim {
namespace {

template <class IsaTag>
struct Tagged {
  using Tag = IsaTag;
};

// Calls f(Tagged<IsaTag>()).
template <class F>
auto WithTag(Isa isa, const F& f) {
  switch (isa) {
#if defined(__x86_64__)
    case Isa::kAvx512:
      return f(Tagged<Avx512>());
    case Isa::kAvx2:
      return f(Tagged<Avx2>());
#endif
    case Isa::kScalar:
      return f(Tagged<Scalar>());
    default:
      return f(Tagged<Baseline>());
  }
}

}  // namespace

const void* FindRuleKernels(const char* rule, uint32_t variant, Isa isa,
                            Storage storage) {
  const void* found = nullptr;
  ForEachOptimizer([&](auto variants) {
    using AllVariants = decltype(variants);
    if (std::string_view(AllVariants::kName) != rule) return;
    found = WithTag(isa, [&](auto tagged) {
      using IsaTag = typename decltype(tagged)::Tag;
      return KernelTable<IsaTag, AllVariants>::Find(variant, storage);
    });
  });
  return found;
}

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
