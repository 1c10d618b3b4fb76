// The CPU drivers over lists of variables of awkward sizes, in memory of
// exactly their size, by several threads: for sanitizers, which see what is
// read and written. What is computed, the tests in Python check; here, that
// neither threads nor the instruction set change a bit.
#include <type_traits>

#include "cc/cpu/isa.h"
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

template <class AllVariants, class Rule, class T>
void TestSlots(SlotStorage storage) {
  const NormKernels<ComputeType<T>> sums = {&SumOfSquares<ComputeType<T>>,
                                            nullptr};
  for (Kind kind : {Kind::kDense, Kind::kLazy, Kind::kAllRows}) {
    const auto expected = Stepped<Rule, T>(
        kind, storage, FindKernels<AllVariants, Rule, T>(Isa::kScalar), 1);
    for (const Isa isa : UsableIsas()) {
      const auto& kernels = FindKernels<AllVariants, Rule, T>(isa);
      UpdateNorms<T> moved(sums);
      EXPECT(
          (*Stepped<Rule, T>(kind, storage, kernels, 1, &moved) == *expected));
      for (int64_t threads : {2, 4}) {
        EXPECT(
            (*Stepped<Rule, T>(kind, storage, kernels, threads) == *expected));
        UpdateNorms<T> norms(sums);
        EXPECT((*Stepped<Rule, T>(kind, storage, kernels, threads, &norms) ==
                *expected));
        EXPECT(norms.squares() == moved.squares());
      }
    }
  }
}

template <class AllVariants, class Rule, class T>
void TestStorage() {
  TestSlots<AllVariants, Rule, T>({});
  const bool is_cautious = Rule::kMayBeCautious;
  if (is_cautious) {
    TestSlots<AllVariants, Rule, T>({SlotFormat::kPlain, 0, is_cautious});
  }
  // Slots of float64 are not packed.
  if constexpr (std::is_same_v<ComputeType<T>, float>) {
    for (const uint64_t rounding : {0, 5}) {
      for (const auto format : {SlotFormat::kBFloat16, SlotFormat::k8Bits}) {
        TestSlots<AllVariants, Rule, T>({format, rounding});
        if (is_cautious) {
          TestSlots<AllVariants, Rule, T>({format, rounding, is_cautious});
        }
      }
    }
  }
}

template <class... Rules>
void TestRules(Variants<Rules...>) {
  using All = Variants<Rules...>;
  (TestStorage<All, Rules, float>(), ...);
  (TestStorage<All, Rules, double>(), ...);
  (TestStorage<All, Rules, BFloat16>(), ...);
}

}  // namespace
}  // namespace tf_optim

int main() {
  tf_optim::TestRules(tf_optim::AdamVariants());
  tf_optim::TestRules(tf_optim::LambVariants());
  tf_optim::TestRules(tf_optim::RowWiseAdagradVariants());
}
