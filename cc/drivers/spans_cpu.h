// The innermost loops: a run of elements that lie side by side. Compiled once
// per instruction set.
#ifndef TF_OPTIM_CC_DRIVERS_SPANS_CPU_H_
#define TF_OPTIM_CC_DRIVERS_SPANS_CPU_H_

#include "cc/drivers/cpu.h"
#include "cc/values/simd.h"

namespace tf_optim {

// Where a span's gradient comes from.
template <class Isa, class T>
struct GradientInMemory {
  const T* data;
  HWY_INLINE auto operator()(int64_t i) const {
    return Lanes<Isa, T>::Load(data + i);
  }
  HWY_INLINE auto operator()(int64_t i, int64_t count) const {
    return Lanes<Isa, T>::Load(data + i, count);
  }
};

template <class Isa, class T>
struct ZeroGradient {
  using V = typename Lanes<Isa, T>::V;
  HWY_INLINE V operator()(int64_t) const { return V(0); }
  HWY_INLINE V operator()(int64_t, int64_t) const { return V(0); }
};

// Updates elements [begin, begin + size) of the variable; gradient(i) is that
// of element begin + i. The last, incomplete vector runs through the same rule
// with masked loads and stores.
template <class Isa, class Rule, class T, bool has_tail, class Gradient>
HWY_INLINE void UpdateSpanWithTail(
    const Variable<Rule, T>& variable_in_memory, int64_t begin, int64_t size,
    const Gradient& gradient, const CoefficientsOf<Rule, T>& coefficients) {
  using VarLanes = Lanes<Isa, T>;
  using SlotLanes = Lanes<Isa, ComputeType<T>>;
  using V = typename VarLanes::V;
  constexpr int64_t kLanes = VarLanes::kLanes;

  // A copy that no store can alias keeps the pointers in registers.
  const Variable<Rule, T> variable = variable_in_memory;
  const auto broadcast = [](auto x) { return V(x); };
  typename Rule::template Coefficients<V> c;
  MapFields(coefficients, c, broadcast);
  Tail<V> tail;
  if constexpr (has_tail) MapFields(variable.tail, tail, broadcast);

  T* const var = variable.var + begin;
  const auto slot_pointer = [&](auto field) {
    return variable.slots[field] + begin;
  };
  // `count...` is empty for a whole vector, and its length for a part.
  const auto update = [&](int64_t i,
                          auto... count) __attribute__((always_inline)) {
    V g = gradient(i, count...);
    V p = VarLanes::Load(var + i, count...);
    typename Rule::template Slots<V> slots;
    ForEachField(slots, [&](auto field, auto& slot) {
      if constexpr (kIsPresent<decltype(slot)>) {
        slot = SlotLanes::Load(slot_pointer(field) + i, count...);
      }
    });
    if constexpr (has_tail) {
      g = TailGradient(g, tail);
      p = TailVariable(p, tail);
    }
    p = Rule::Update(p, g, slots, c);
    ForEachField(slots, [&](auto field, auto& slot) {
      if constexpr (kIsPresent<decltype(slot)>) {
        SlotLanes::Store(slot, slot_pointer(field) + i, count...);
      }
    });
    VarLanes::Store(p, var + i, count...);
  };

  int64_t i = 0;
  for (; i + kLanes <= size; i += kLanes) update(i);
  if (i < size) update(i, size - i);
}

template <class Isa, class Rule, class T, class Gradient>
HWY_INLINE void UpdateSpan(const Variable<Rule, T>& variable, int64_t begin,
                           int64_t size, const Gradient& gradient,
                           const CoefficientsOf<Rule, T>& coefficients) {
  if (variable.has_tail) {
    UpdateSpanWithTail<Isa, Rule, T, true>(variable, begin, size, gradient,
                                           coefficients);
  } else {
    UpdateSpanWithTail<Isa, Rule, T, false>(variable, begin, size, gradient,
                                            coefficients);
  }
}

template <class Isa, class Rule, class T>
void UpdateDense(const Variable<Rule, T>& variable, const T* grad,
                 int64_t begin, int64_t end,
                 const CoefficientsOf<Rule, T>& coefficients) {
  UpdateSpan<Isa, Rule, T>(variable, begin, end - begin,
                           GradientInMemory<Isa, T>{grad + begin},
                           coefficients);
}

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_DRIVERS_SPANS_CPU_H_
