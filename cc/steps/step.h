// A step of any rule on the CPU behind a face without types. TensorFlow's ops,
// XLA's calls and the NumPy module fill it in; the library of kernels takes it,
// so that a rule is compiled there once for all of them. No TensorFlow.
#ifndef TF_OPTIM_CC_STEPS_STEP_H_
#define TF_OPTIM_CC_STEPS_STEP_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "cc/cpu/isa.h"
#include "cc/drivers/average.h"
#include "cc/drivers/chunks.h"
#include "cc/drivers/cpu.h"
#include "cc/drivers/idle.h"
#include "cc/drivers/sort_ids.h"

namespace tf_optim {

// Where a variable, its slots and its average lie.
struct HostMemory {
  void* var = nullptr;
  int64_t width = 1;               // elements of a row
  void* slots[kMaxSlots] = {};     // null where absent
  bool is_packed[kMaxSlots] = {};  // slots in fewer bits (values/packed.h)
  SlotFormat format = SlotFormat::kPlain;  // of the packed ones
  void* average = nullptr;                 // null: there is none
  int32_t* average_rows = nullptr;         // as Average's updates_seen

  void SetSlot(size_t number, void* data, SlotFormat its_format) {
    slots[number] = data;
    is_packed[number] = its_format != SlotFormat::kPlain;
    if (is_packed[number]) format = its_format;
  }
};

struct HostVariable {
  HostMemory memory;
  int64_t size = 0;  // elements
  int64_t rows = 0;
  const void* grad = nullptr;
  const void* indices = nullptr;  // of a sparse gradient
  int64_t count = 0;              // of indices
  // The indices sorted, as IdSorter does, where that is done; else null.
  const uint64_t* sorted = nullptr;
  double gradient_scale = 1;
  double clip_value = 0;  // 0: none
  double decay = 0;       // learning_rate * weight_decay
  uint64_t rounding = 0;  // what is drawn from; 0 rounds to nearest
};

struct HostStep {
  std::vector<HostVariable> variables;
  // What the rule makes its coefficients of or, if not empty, these themselves.
  std::vector<double> hyper;
  ForVariables<double> learning_rates{0.0};
  int64_t iterations = 0;
  std::vector<double> coefficients;

  bool is_sparse = false;
  bool indices_are_32_bits = false;
  Outside outside = Outside::kRefuse;
  SparseMode mode = SparseMode::kLazy;
  // Rows that are not named count in means over the variable: histories have
  // their steps.
  bool means_over_idle_rows = false;
  bool rounds_variables = false;         // 16-bit variables draw too
  const Averaging* averaging = nullptr;  // of the variables' averages
  // If not null: the sum of squares of what the step changes in each variable.
  std::vector<double>* update_norms = nullptr;
  Isa isa = Isa::kBaseline;
  ParallelFor parallel_for;
};

// What a step says of a table besides its variables.
struct IdleStep {
  double learning_rate;
  int64_t iterations;
  IdleDecays decays;
  std::vector<double> hyper;
  uint64_t rounding = 0;
  bool rounds_var = false;
};

// The history of one table (idle.h).
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
  // As CpuKernels' catch_up.
  virtual void CatchUp(const HostMemory& table, const IdleRows* rows,
                       int64_t count, int64_t ahead) const = 0;
  // The average of a row that the last step has updated.
  virtual void MoveAverage(const HostMemory& table, int64_t row,
                           const Averaging& averaging) const = 0;
};

// Of a rule's variant and a storage type.
struct StepsOfRule {
  // What is left to do once ids are sorted.
  void (*apply)(const HostStep& step, const std::vector<IdSorter>& sorters);
  // `averaged`: whether the table has an average. Null if there are not as many
  // hyperparameters.
  std::unique_ptr<IdleSteps> (*new_idle_steps)(const std::vector<double>& hyper,
                                               bool averaged, Isa isa);
};

// `rule` is its kName. Null if there is no such rule or variant.
TFO_CPU_API const StepsOfRule* FindSteps(const std::string& rule,
                                         uint32_t variant, Storage storage);

// Returns an index that is outside of its variable, if those are refused; then
// nothing has changed.
TFO_CPU_API BadIndex TakeStep(const StepsOfRule& steps, const HostStep& step);

// The index at fault.
inline int64_t IndexAt(const HostStep& step, const BadIndex& bad) {
  const void* const indices = step.variables[bad.item].indices;
  return step.indices_are_32_bits
             ? static_cast<const int32_t*>(indices)[bad.position]
             : static_cast<const int64_t*>(indices)[bad.position];
}

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_STEPS_STEP_H_
