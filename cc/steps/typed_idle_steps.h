// The history of a table, for one rule and storage type.
#ifndef TF_OPTIM_CC_STEPS_TYPED_IDLE_STEPS_H_
#define TF_OPTIM_CC_STEPS_TYPED_IDLE_STEPS_H_

#include <algorithm>
#include <memory>
#include <type_traits>
#include <vector>

#include "cc/steps/typed_step.h"

namespace tf_optim {

template <class AllVariants, class Rule, class T>
class TypedIdleSteps : public IdleSteps {
 public:
  template <bool is_cautious>
  static std::unique_ptr<IdleSteps> New(const std::vector<double>& hyper,
                                        bool averaged, Isa isa) {
    using Hyper = typename Rule::template Hyper<double>;
    if (hyper.size() != kFieldCount<Hyper>) return nullptr;
    return std::make_unique<TypedIdleSteps>(hyper, averaged, is_cautious, isa);
  }

  TypedIdleSteps(const std::vector<double>& hyper, bool averaged,
                 bool is_cautious, Isa isa)
      : hyper_(hyper),
        is_cautious_(is_cautious),
        kernels_(FindKernels<AllVariants, Rule, T>(isa)),
        average_kernels_(FindAverageKernels<T>(isa)),
        history_(TypedHyper<Rule>(hyper), averaged, is_cautious,
                 std::is_same_v<T, double> ? 1e-12 : 1e-7) {}

  int64_t length() const override { return history_.length(); }

  int64_t most() const override {
    return history_.IsRepeating() ? int64_t{1} << 8 : int64_t{1} << 14;
  }

  bool Takes(const std::vector<double>& hyper) const override {
    return hyper.size() == hyper_.size() &&
           std::equal(hyper.begin(), hyper.end() - Rule::kHyperPerStep,
                      hyper_.begin());
  }

  void Extend(const IdleStep& step) override {
    const auto coefficients = Rule::Prepare(
        TypedHyper<Rule>(step.hyper),
        {step.learning_rate, static_cast<double>(step.iterations) + 1});
    history_.Extend(coefficients, step.decays);
    rounding_ = step.rounding;
    rounds_var_ = step.rounds_var;
  }

  bool ChangesNothing(int64_t first) const override {
    return history_.ChangesNothing(first);
  }

  void CatchUp(const HostMemory& table, const IdleRows* rows, int64_t count,
               int64_t ahead) const override {
    if (table.width == 0) return;
    Variable<Rule, T> variable = TypedMemory<Rule, T>(table);
    // Not what the steps themselves draw.
    if (rounding_ != 0) variable.rounding = ~rounding_;
    variable.rounds_var = rounds_var_;
    variable.is_cautious = is_cautious_;
    kernels_.catch_up(variable, static_cast<T*>(table.average), rows, count,
                      ahead, history_);
  }

  void MoveAverage(const HostMemory& table, int64_t row,
                   const Averaging& averaging) const override {
    average_kernels_.span({static_cast<T*>(table.average)},
                          static_cast<T*>(table.var), row * table.width,
                          (row + 1) * table.width, averaging);
  }

 private:
  std::vector<double> hyper_;
  bool is_cautious_;
  const CpuKernels<Rule, T>& kernels_;
  const AverageKernels<T>& average_kernels_;
  IdleHistory<Rule> history_;
  uint64_t rounding_ = 0;
  bool rounds_var_ = false;
};

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_STEPS_TYPED_IDLE_STEPS_H_
