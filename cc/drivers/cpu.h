// What the CPU drivers work on, and the kernels they call: one set of function
// pointers per rule, storage type and instruction set.
#ifndef TF_OPTIM_CC_DRIVERS_CPU_H_
#define TF_OPTIM_CC_DRIVERS_CPU_H_

#include <cmath>
#include <cstdint>

#include "cc/rules/rule.h"
#include "cc/values/storage.h"

namespace tf_optim {

// A variable with its slots, in memory, and what is special to it in this
// step. Slots that the rule leaves out stay null.
template <class Rule, class T>
struct Variable {
  T* var = nullptr;
  ComputeType<T>* slots[kSlotFields<Rule>] = {};
  bool has_tail = false;
  Tail<ComputeType<T>> tail = {};
};

// Fills the tail; one that would change nothing is left off.
template <class Rule, class T>
void SetTail(double gradient_scale, double clip_value, double decay,
             Variable<Rule, T>* variable) {
  using C = ComputeType<T>;
  variable->tail = {static_cast<C>(gradient_scale), static_cast<C>(clip_value),
                    static_cast<C>(decay)};
  variable->has_tail =
      gradient_scale != 1 || !std::isinf(clip_value) || decay != 0;
}

template <class Rule, class T>
using CoefficientsOf = typename Rule::template Coefficients<ComputeType<T>>;

// Sorted ids: each key is id << position_bits | position in `indices`.
struct SortedIds {
  const uint64_t* keys = nullptr;
  int64_t count = 0;
  int position_bits = 0;

  int64_t id(int64_t i) const {
    return static_cast<int64_t>(keys[i] >> position_bits);
  }
  int64_t position(int64_t i) const {
    return static_cast<int64_t>(keys[i] & ((uint64_t{1} << position_bits) - 1));
  }
};

template <class Rule, class T>
struct CpuKernels {
  // Elements [begin, end) of a variable; grad[i] belongs to element i.
  void (*dense)(const Variable<Rule, T>& variable, const T* grad, int64_t begin,
                int64_t end, const CoefficientsOf<Rule, T>& coefficients);
  // The rows whose ids begin at sorted positions [begin, end).
  void (*lazy_rows)(const Variable<Rule, T>& variable, const T* grad,
                    int64_t width, const SortedIds& ids, int64_t begin,
                    int64_t end, const CoefficientsOf<Rule, T>& coefficients);
  // Rows [begin, end) of the table, those without an id with a zero gradient.
  void (*all_rows)(const Variable<Rule, T>& variable, const T* grad,
                   int64_t width, const SortedIds& ids, int64_t begin,
                   int64_t end, const CoefficientsOf<Rule, T>& coefficients);
};

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_DRIVERS_CPU_H_
