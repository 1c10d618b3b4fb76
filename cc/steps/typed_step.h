// From the face without types to the drivers, for one rule and storage type.
#ifndef TF_OPTIM_CC_STEPS_TYPED_STEP_H_
#define TF_OPTIM_CC_STEPS_TYPED_STEP_H_

#include <optional>
#include <utility>
#include <vector>

#include "cc/cpu/average.h"
#include "cc/cpu/kernels.h"
#include "cc/cpu/norms.h"
#include "cc/drivers/dense_cpu.h"
#include "cc/drivers/sparse_cpu.h"
#include "cc/steps/step.h"

namespace tf_optim {

template <class Rule, class T>
Variable<Rule, T> TypedMemory(const HostMemory& memory) {
  Variable<Rule, T> variable;
  variable.var = static_cast<T*>(memory.var);
  variable.width = memory.width;
  variable.format = memory.format;
  for (size_t s = 0; s < kSlotFields<Rule>; ++s) {
    if (memory.is_packed[s]) {
      variable.packed[s] = static_cast<uint8_t*>(memory.slots[s]);
    } else {
      variable.slots[s] = static_cast<ComputeType<T>*>(memory.slots[s]);
    }
  }
  return variable;
}

template <class Rule>
typename Rule::template Hyper<double> TypedHyper(
    const std::vector<double>& values) {
  typename Rule::template Hyper<double> hyper{};
  ForEachField(hyper, [&](auto i, double& value) { value = values[i]; });
  return hyper;
}

template <class AllVariants, class Rule, class T>
class TypedStep {
 public:
  template <bool is_cautious>
  static void Apply(const HostStep& step,
                    const std::vector<IdSorter>& sorters) {
    Take(step, sorters, is_cautious);
  }

 private:
  using C = ComputeType<T>;
  using Coefficients = CoefficientsOf<Rule, T>;
  static_assert(kFieldCount<Coefficients> > 0,
                "none given and none needed must not look the same");

  static void Take(const HostStep& step, const std::vector<IdSorter>& sorters,
                   bool is_cautious) {
    const auto& kernels = FindKernels<AllVariants, Rule, T>(step.isa);
    const auto coefficients = CoefficientsAt(step);
    const Averages<T> averages = AveragesAt(step);
    std::optional<UpdateNorms<T>> norms;
    if (step.update_norms != nullptr)
      norms.emplace(FindNormKernels<C>(step.isa));
    UpdateNorms<T>* const measured = norms.has_value() ? &*norms : nullptr;
    if (step.is_sparse) {
      std::vector<SparseItem<Rule, T>> items;
      items.reserve(step.variables.size());
      for (const HostVariable& variable : step.variables) {
        items.push_back({VariableAt(step, variable, is_cautious),
                         static_cast<const T*>(variable.grad), variable.rows});
      }
      ApplySparse(&items, sorters, step.mode, coefficients, kernels,
                  step.parallel_for, averages, measured);
    } else {
      std::vector<DenseItem<Rule, T>> items;
      items.reserve(step.variables.size());
      for (const HostVariable& variable : step.variables) {
        items.push_back({VariableAt(step, variable, is_cautious),
                         static_cast<const T*>(variable.grad), variable.size});
      }
      ApplyDense(&items, coefficients, kernels, step.parallel_for, averages,
                 measured);
    }
    if (measured != nullptr) *step.update_norms = measured->squares();
  }

  static ForVariables<Coefficients> CoefficientsAt(const HostStep& step) {
    if (!step.coefficients.empty()) {
      Coefficients coefficients;
      ForEachField(coefficients, [&](auto i, C& value) {
        value = static_cast<C>(step.coefficients[i]);
      });
      return coefficients;
    }
    const auto hyper = TypedHyper<Rule>(step.hyper);
    const double number = static_cast<double>(step.iterations) + 1;
    return step.learning_rates.Map(
        [&](double rate) { return PrepareAs<Rule, C>(hyper, {rate, number}); });
  }

  static Variable<Rule, T> VariableAt(const HostStep& step,
                                      const HostVariable& of,
                                      bool is_cautious) {
    Variable<Rule, T> variable = TypedMemory<Rule, T>(of.memory);
    variable.is_cautious = is_cautious;
    if (step.means_over_idle_rows) variable.measured_elements = of.size;
    variable.rounding = of.rounding;
    variable.rounds_var = of.rounding != 0 && step.rounds_variables;
    SetClipAndDecay(of.gradient_scale, of.clip_value, of.decay, &variable);
    return variable;
  }

  static Averages<T> AveragesAt(const HostStep& step) {
    Averages<T> averages;
    if (step.averaging == nullptr) return averages;
    averages.averaging = step.averaging;
    averages.kernels = &FindAverageKernels<T>(step.isa);
    for (const HostVariable& variable : step.variables) {
      averages.of.push_back({static_cast<T*>(variable.memory.average),
                             variable.memory.average_rows});
    }
    return averages;
  }
};

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_STEPS_TYPED_STEP_H_
