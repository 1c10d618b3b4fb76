// A rule as the Python module knows it: what it says of itself, and its step,
// behind a face without types. No pybind11, so that a rule's file is small.
#ifndef TF_OPTIM_CC_PYTHON_BINDING_H_
#define TF_OPTIM_CC_PYTHON_BINDING_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "cc/cpu/isa.h"
#include "cc/drivers/sparse_cpu.h"

namespace tf_optim {

// A variable of a step, its slots and its gradient, in memory.
struct ArrayVariable {
  void* var;
  int64_t size, rows;
  const void* grad;
  const void* indices = nullptr;  // of sparse gradients
  int64_t count = 0;              // of indices
  void* slots[kMaxSlots] = {};
  bool is_packed[kMaxSlots] = {};
  SlotFormat format = SlotFormat::kPlain;  // of the packed ones
  double gradient_scale, weight_decay;
  int64_t rounding_seed = 0;
};

struct ArrayStep {
  std::vector<ArrayVariable> variables;
  std::vector<double> hyper;
  double learning_rate;
  int64_t iterations;
  double clip_value;  // 0: none
  bool is_sparse, indices_are_32_bits;
  SparseMode mode;
  bool is_rounded, rounds_variables;
  int threads;
  Isa isa;
};

// Where an index is outside of its variable; then nothing has changed.
using TakeArrayStep = BadIndex (*)(const ArrayStep& step);

struct BoundSlot {
  std::string name;
  bool is_optional, is_per_row, is_positive;
};

struct BoundRule {
  std::string name;
  std::vector<std::string> hyper;
  std::vector<Range> ranges;
  std::vector<BoundSlot> slots;
  std::vector<std::string> flags;
  size_t per_step;
  bool needs_whole_table;
  // Null if there is no such variant.
  TakeArrayStep (*find)(uint32_t variant, Storage storage);
};

// By name.
const std::map<std::string, BoundRule>& BoundRules();

// Returns true, so that a file can do it while the library loads.
bool AddBoundRule(BoundRule rule);

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_PYTHON_BINDING_H_
