// The CPU drivers over lists of variables of awkward sizes, in memory of
// exactly their size, by several threads: for sanitizers, which see what is
// read and written. What is computed, the tests in Python check; here, that
// threads do not change a bit.
#include "cc/cpu/kernels.h"
#include "cc/rules/adam.h"
#include "cc/rules/lamb.h"
#include "cc/rules/row_wise_adagrad.h"
#include "cc/tests/lists.h"
#include "cc/tests/testing.h"

namespace tf_optim {
namespace {

template <class T>
GradientNorm SumOfSquares(const T* values, int64_t size) {
  GradientNorm norm;
  for (int64_t i = 0; i < size; ++i) {
    norm.squares += static_cast<double>(values[i]) * values[i];
  }
  return norm;
}

template <class IsaTag, class AllVariants, class Rule, class T>
void TestStorage() {
  const NormKernels<ComputeType<T>> sums = {&SumOfSquares<ComputeType<T>>,
                                            nullptr};
  const auto& kernels = *static_cast<const CpuKernels<Rule, T>*>(
      KernelTable<IsaTag, AllVariants>::Find(VariantKey<Rule>(),
                                             kStorageOf<T>));
  for (Kind kind : {Kind::kDense, Kind::kLazy, Kind::kAllRows}) {
    const auto expected = Stepped<Rule, T>(kind, kernels, 1);
    UpdateNorms<T> moved(sums);
    EXPECT((*Stepped<Rule, T>(kind, kernels, 1, &moved) == *expected));
    for (int64_t threads : {2, 4}) {
      EXPECT((*Stepped<Rule, T>(kind, kernels, threads) == *expected));
      UpdateNorms<T> norms(sums);
      EXPECT((*Stepped<Rule, T>(kind, kernels, threads, &norms) == *expected));
      EXPECT(norms.squares() == moved.squares());
    }
  }
}

template <class IsaTag, class... Rules>
void TestRulesOn(Variants<Rules...>) {
  using All = Variants<Rules...>;
  (TestStorage<IsaTag, All, Rules, float>(), ...);
  (TestStorage<IsaTag, All, Rules, double>(), ...);
  (TestStorage<IsaTag, All, Rules, BFloat16>(), ...);
}

template <class AllVariants>
void TestRules(AllVariants variants) {
  TestRulesOn<Scalar>(variants);
  TestRulesOn<Baseline>(variants);
}

}  // namespace
}  // namespace tf_optim

int main() {
  tf_optim::TestRules(tf_optim::AdamVariants());
  tf_optim::TestRules(tf_optim::LambVariants());
  tf_optim::TestRules(tf_optim::RowWiseAdagradVariants());
}
