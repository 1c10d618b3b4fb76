// The history of one table behind a face without types: a table's rule and
// dtype are known once its first step is taken, and not where its rows are
// read.
#ifndef TF_OPTIM_CC_KERNELS_IDLE_STEPS_H_
#define TF_OPTIM_CC_KERNELS_IDLE_STEPS_H_

#include <algorithm>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "cc/cpu/average.h"
#include "cc/cpu/kernels.h"
#include "cc/drivers/idle.h"
#include "cc/kernels/variables.h"
#include "tensorflow/core/framework/tensor.h"

namespace tf_optim {

// What a step says of a table besides its variables.
struct IdleStep {
  double learning_rate;
  int64_t iterations;
  IdleDecays decays;
  std::vector<double> hyper;
  uint64_t rounding = 0;  // as Variable's
  bool rounds_var = false;
};

// What a history is of.
struct IdleKind {
  std::string optimizer;
  uint32_t variant;
  tensorflow::DataType dtype;
  bool averaged = false;

  bool operator==(const IdleKind& other) const {
    return optimizer == other.optimizer && variant == other.variant &&
           dtype == other.dtype && averaged == other.averaged;
  }
};

class IdleSteps {
 public:
  virtual ~IdleSteps() = default;

  virtual int64_t length() const = 0;
  // More steps than this are not worth remembering.
  virtual int64_t most() const = 0;
  // Whether a step's hyperparameters are those of the history, but for what
  // is new at each step.
  virtual bool Takes(const std::vector<double>& hyper) const = 0;
  virtual void Extend(const IdleStep& step) = 0;
  virtual bool ChangesNothing(int64_t first) const = 0;
  // `tensors`: the table, kMaxSlots slots, and the average; null where absent.
  virtual void CatchUp(const std::vector<tensorflow::Tensor*>& tensors,
                       const IdleRows* rows, int64_t count,
                       int64_t ahead) const = 0;
  // The average of a row that the last step has updated.
  virtual void MoveAverage(const std::vector<tensorflow::Tensor*>& tensors,
                           int64_t row, const Averaging& averaging) const = 0;
};

using MakeIdleSteps = std::function<std::unique_ptr<IdleSteps>(
    const IdleKind&, const std::vector<double>& hyper, Isa)>;

// By the optimizer's name in its ops. Returns true.
bool RegisterIdleSteps(const std::string& optimizer, MakeIdleSteps make);

// Null if there is no such optimizer or variant.
std::unique_ptr<IdleSteps> NewIdleSteps(const IdleKind& kind,
                                        const std::vector<double>& hyper,
                                        Isa isa);

template <class AllVariants, class Rule, class T>
class IdleStepsOf : public IdleSteps {
 public:
  using Hyper = typename IdleHistory<Rule>::Hyper;

  IdleStepsOf(const std::vector<double>& hyper, bool averaged, Isa isa)
      : hyper_(hyper),
        kernels_(FindKernels<AllVariants, Rule, T>(isa)),
        average_kernels_(FindAverageKernels<T>(isa)),
        history_(HyperOf(hyper), averaged, kIsDouble ? 1e-12 : 1e-7) {}

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
        HyperOf(step.hyper),
        {step.learning_rate, static_cast<double>(step.iterations) + 1});
    history_.Extend(coefficients, step.decays);
    rounding_ = step.rounding;
    rounds_var_ = step.rounds_var;
  }

  bool ChangesNothing(int64_t first) const override {
    return history_.ChangesNothing(first);
  }

  void CatchUp(const std::vector<tensorflow::Tensor*>& tensors,
               const IdleRows* rows, int64_t count,
               int64_t ahead) const override {
    if (tensors[0]->NumElements() == 0) return;  // rows of no elements
    Variable<Rule, T> variable;
    variable.var = static_cast<T*>(tensors[0]->data());
    variable.width = WidthOf(*tensors[0]);
    for (size_t s = 0; s < kSlotFields<Rule>; ++s) {
      if (tensors[s + 1] == nullptr) continue;
      void* const data = tensors[s + 1]->data();
      const SlotFormat format = FormatOf(tensors[s + 1]->dtype());
      if (kIsDouble || format == SlotFormat::kPlain) {
        variable.slots[s] = static_cast<ComputeType<T>*>(data);
      } else {
        variable.format = format;
        variable.packed[s] = static_cast<uint8_t*>(data);
      }
    }
    // Not what the steps themselves draw.
    if (rounding_ != 0) variable.rounding = ~rounding_;
    variable.rounds_var = rounds_var_;
    kernels_.catch_up(variable, AverageOf(tensors), rows, count, ahead,
                      history_);
  }

  void MoveAverage(const std::vector<tensorflow::Tensor*>& tensors, int64_t row,
                   const Averaging& averaging) const override {
    const int64_t width = WidthOf(*tensors[0]);
    average_kernels_.span({AverageOf(tensors)},
                          static_cast<const T*>(tensors[0]->data()),
                          row * width, (row + 1) * width, averaging);
  }

 private:
  static constexpr bool kIsDouble = std::is_same_v<T, double>;

  static int64_t WidthOf(const tensorflow::Tensor& table) {
    return table.NumElements() / table.dim_size(0);
  }
  static T* AverageOf(const std::vector<tensorflow::Tensor*>& tensors) {
    tensorflow::Tensor* const average = tensors.back();
    return average == nullptr ? nullptr : static_cast<T*>(average->data());
  }
  static Hyper HyperOf(const std::vector<double>& values) {
    Hyper hyper{};
    ForEachField(hyper, [&](auto i, double& value) { value = values[i]; });
    return hyper;
  }

  std::vector<double> hyper_;
  const CpuKernels<Rule, T>& kernels_;
  const AverageKernels<T>& average_kernels_;
  IdleHistory<Rule> history_;
  uint64_t rounding_ = 0;
  bool rounds_var_ = false;
};

template <class AllVariants, class Rule>
std::unique_ptr<IdleSteps> MakeIdleStepsOf(const IdleKind& kind,
                                           const std::vector<double>& hyper,
                                           Isa isa) {
  switch (kind.dtype) {
    case tensorflow::DT_FLOAT:
      return std::make_unique<IdleStepsOf<AllVariants, Rule, float>>(
          hyper, kind.averaged, isa);
    case tensorflow::DT_DOUBLE:
      return std::make_unique<IdleStepsOf<AllVariants, Rule, double>>(
          hyper, kind.averaged, isa);
    case tensorflow::DT_HALF:
      return std::make_unique<IdleStepsOf<AllVariants, Rule, Float16>>(
          hyper, kind.averaged, isa);
    case tensorflow::DT_BFLOAT16:
      return std::make_unique<IdleStepsOf<AllVariants, Rule, BFloat16>>(
          hyper, kind.averaged, isa);
    default:
      return nullptr;
  }
}

template <class... Rules>
bool RegisterIdleStepsOf(Variants<Rules...> variants) {
  using All = Variants<Rules...>;
  return RegisterIdleSteps(
      All::kName, [variants](const IdleKind& kind,
                             const std::vector<double>& hyper, Isa isa) {
        std::unique_ptr<IdleSteps> steps;
        VisitVariant(variants, kind.variant, [&](auto rule) {
          using Rule = decltype(rule);
          using Hyper = typename IdleHistory<Rule>::Hyper;
          if (hyper.size() != kFieldCount<Hyper>) return;
          steps = MakeIdleStepsOf<All, Rule>(kind, hyper, isa);
        });
        return steps;
      });
}

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_KERNELS_IDLE_STEPS_H_
