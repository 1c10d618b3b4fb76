// One step of a rule on arrays whose types are known by now.
#ifndef TF_OPTIM_CC_PYTHON_RULE_STEP_H_
#define TF_OPTIM_CC_PYTHON_RULE_STEP_H_

#include <iterator>
#include <utility>
#include <vector>

#include "cc/cpu/kernels.h"
#include "cc/drivers/dense_cpu.h"
#include "cc/drivers/sparse_cpu.h"
#include "cc/python/binding.h"
#include "cc/python/threads.h"

namespace tf_optim {

template <class AllVariants, class Rule, class T>
class TypedArrayStep {
 public:
  static BadIndex Take(const ArrayStep& step) {
    if (!step.is_sparse) return TakeDense(step);
    if (step.indices_are_32_bits) return TakeSparse<int32_t>(step);
    return TakeSparse<int64_t>(step);
  }

 private:
  using C = ComputeType<T>;

  static BadIndex TakeDense(const ArrayStep& step) {
    std::vector<DenseItem<Rule, T>> items;
    for (const ArrayVariable& array : step.variables) {
      items.push_back({VariableOf(step, array),
                       static_cast<const T*>(array.grad), array.size});
    }
    ApplyDense(&items, CoefficientsAt(step), Kernels(step),
               ThreadsFor(step.threads));
    return {};
  }

  template <class Index>
  static BadIndex TakeSparse(const ArrayStep& step) {
    std::vector<SparseItem<Rule, T, Index>> items;
    for (const ArrayVariable& array : step.variables) {
      items.push_back(
          {VariableOf(step, array), static_cast<const T*>(array.grad),
           static_cast<const Index*>(array.indices), array.count, array.rows});
    }
    const ParallelFor parallel_for = ThreadsFor(step.threads);
    std::vector<IdSorter> sorters;
    const BadIndex bad = SortItems(items, parallel_for, &sorters);
    if (bad.item < 0) {
      ApplySparse(&items, sorters, step.mode, CoefficientsAt(step),
                  Kernels(step), parallel_for);
    }
    return bad;
  }

  static const CpuKernels<Rule, T>& Kernels(const ArrayStep& step) {
    return FindKernels<AllVariants, Rule, T>(step.isa);
  }

  static CoefficientsOf<Rule, T> CoefficientsAt(const ArrayStep& step) {
    typename Rule::template Hyper<double> hyper;
    ForEachField(hyper, [&](auto i, double& value) { value = step.hyper[i]; });
    return PrepareAs<Rule, C>(
        hyper, {step.learning_rate, static_cast<double>(step.iterations) + 1});
  }

  static Variable<Rule, T> VariableOf(const ArrayStep& step,
                                      const ArrayVariable& array) {
    Variable<Rule, T> variable;
    variable.var = static_cast<T*>(array.var);
    variable.width = array.rows > 0 ? array.size / array.rows : 0;
    variable.format = array.format;
    for (size_t s = 0; s < kSlotFields<Rule>; ++s) {
      if (array.is_packed[s]) {
        variable.packed[s] = static_cast<uint8_t*>(array.slots[s]);
      } else {
        variable.slots[s] = static_cast<C*>(array.slots[s]);
      }
    }
    if (step.is_rounded) {
      variable.rounding = RoundingOf(array.rounding_seed, step.iterations);
      variable.rounds_var = step.rounds_variables;
    }
    SetClipAndDecay(array.gradient_scale, step.clip_value,
                    step.learning_rate * array.weight_decay, &variable);
    return variable;
  }
};

template <class AllVariants, class Rule>
TakeArrayStep StepForStorage(Storage storage) {
  switch (storage) {
    case Storage::kFloat32:
      return &TypedArrayStep<AllVariants, Rule, float>::Take;
    case Storage::kFloat64:
      return &TypedArrayStep<AllVariants, Rule, double>::Take;
    case Storage::kFloat16:
      return &TypedArrayStep<AllVariants, Rule, Float16>::Take;
    case Storage::kBFloat16:
      return &TypedArrayStep<AllVariants, Rule, BFloat16>::Take;
  }
  return nullptr;
}

template <class... Rules>
bool BindRule(Variants<Rules...>) {
  using All = Variants<Rules...>;
  using First = typename All::First;
  constexpr uint32_t in_all = (SlotMask<Rules>() & ...);
  BoundRule rule;
  rule.name = First::kName;
  rule.hyper.assign(std::begin(First::kHyperNames),
                    std::end(First::kHyperNames));
  rule.ranges.assign(std::begin(First::kHyperRanges),
                     std::end(First::kHyperRanges));
  for (size_t i = 0; i < kSlotFields<First>; ++i) {
    rule.slots.push_back({First::kSlotNames[i], (in_all >> i & 1) == 0,
                          IsRowSlot<First>(i), IsPositiveSlot<First>(i)});
  }
  rule.flags.assign(std::begin(First::kFlagNames), std::end(First::kFlagNames));
  rule.per_step = First::kHyperPerStep;
  rule.needs_whole_table = First::kMeansOver == Over::kVariable;
  rule.find = [](uint32_t variant, Storage storage) {
    TakeArrayStep found = nullptr;
    VisitVariant(All(), variant, [&](auto of_variant) {
      found = StepForStorage<All, decltype(of_variant)>(storage);
    });
    return found;
  };
  return AddBoundRule(std::move(rule));
}

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_PYTHON_RULE_STEP_H_
