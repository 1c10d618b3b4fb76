// Brings idle rows up to date. Compiled once per instruction set.
#ifndef TF_OPTIM_CC_DRIVERS_IDLE_CPU_H_
#define TF_OPTIM_CC_DRIVERS_IDLE_CPU_H_

#include <algorithm>
#include <limits>

#include "cc/drivers/average_cpu.h"
#include "cc/drivers/idle.h"
#include "cc/drivers/rows_cpu.h"

namespace tf_optim {

template <class Isa, class Rule, class T>
HWY_INLINE void PrefetchRows(const Variable<Rule, T>& variable,
                             const T* average, const IdleRows* rows,
                             int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    if (average != nullptr) {
      PrefetchRow<Isa>(average + rows[i].row * variable.width, variable.width);
    }
    PrefetchRowOf<Isa>(variable, rows[i].row);
  }
}

// The missed steps of rows, one by one.
template <class Isa, class Rule, class T>
void RepeatSteps(Variable<Rule, T> variable, T* average, const IdleRows& row,
                 const IdleHistory<Rule>& history) {
  const int64_t element = row.row * variable.width;
  const int64_t size = row.count * variable.width;
  const uint64_t rounding = variable.rounding;
  for (int64_t i = history.FirstTaken(row.first); i < history.length(); ++i) {
    CoefficientsOf<Rule, T> coefficients;
    MapFields(history.step(i), coefficients,
              [](double x) { return static_cast<ComputeType<T>>(x); });
    SetClipAndDecay(1, 0, history.decays(i).decay, &variable);
    if (rounding != 0) variable.rounding = MixKey(rounding, i);
    RunRows<Isa>(variable, element, element + size, coefficients,
                 static_cast<Measured<Rule>*>(nullptr), NoGradient<Isa, T>{});
    if (average != nullptr) {
      MoveAverage<Isa>(average + element, variable.var + element, size,
                       history.decays(i).average_kept);
    }
  }
}

// The closed form of the missed steps of rows.
template <class Isa, class Rule, class T>
struct IdleSpan {
  using C = ComputeType<T>;
  using VarLanes = Lanes<Isa, T>;
  using SlotLanes = Lanes<Isa, C>;
  using V = typename VarLanes::V;
  using Slots = typename Rule::template Slots<V>;
  static constexpr int64_t kLanes = VarLanes::kLanes;

  const Variable<Rule, T>& variable;
  T* const average;
  const IdleHistory<Rule>& history;

  // What is left of a slot, which underflow does not make 0.
  static V Factor(double kept) {
    const auto least = std::numeric_limits<C>::min();
    return V(kept == 0 ? C(0) : std::max(static_cast<C>(kept), least));
  }

  // A polynomial in computation type.
  struct Polynomial {
    const int count;
    C terms[IdleHistory<Rule>::kMostTerms];

    HWY_INLINE Polynomial(const double* of, int count) : count(count) {
      terms[0] = 0;  // the others are read as far as `count`
      for (int n = 0; n < count; ++n) terms[n] = static_cast<C>(of[n]);
    }

    // By Clenshaw's recurrence.
    HWY_INLINE V At(V position) const {
      if constexpr (!Rule::kIdleHasRoot) return V(terms[0]);
      const V x = position + position - V(1), twice = x + x;
      V next(0), after(0);
      for (int n = count - 1; n > 0; --n) {
        const V sum = twice * next - after + V(terms[n]);
        after = next;
        next = sum;
      }
      return x * next - after + V(terms[0]);
    }
  };

  void Run(const IdleRows& row) const {
    PlainSlots<Isa, Rule, T> part(variable, row.row * variable.width,
                                  row.count * variable.width, /*writes=*/true);
    // An average that nothing is added to is left alone: 0 * inf is NaN.
    const bool averages = history.MovesAverage(row.first);
    while (part.Next()) {
      if (averages) {
        RunPart<true>(row, part);
      } else {
        RunPart<false>(row, part);
      }
    }
  }

  template <bool averaged, class Part>
  HWY_INLINE void RunPart(const IdleRows& row, Part& part) const {
    constexpr bool moves = Rule::kIdle == Idle::kMoves;
    // Copies that no store can alias keep the pointers in registers.
    const int64_t offset = row.row * variable.width + part.offset();
    const int64_t size = part.count();
    C* slot_of[kSlotFields<Rule> + 1];
    for (size_t s = 0; s < kSlotFields<Rule>; ++s) slot_of[s] = part.slot(s);
    T* const var = variable.var + offset;
    const auto number = [](double x) { return V(static_cast<C>(x)); };
    Slots kept;
    MapFields(history.KeptSince(row.first), kept,
              [](double x) { return Factor(x); });
    const V left = number(history.left(row.first));
    const Polynomial sum(moves ? history.terms_of(row.first) : nullptr,
                         moves ? history.terms() : 0);
    V average_kept(0), average_left(0);
    if constexpr (averaged) {
      average_kept = number(history.average_kept(row.first));
      average_left = number(history.average_left(row.first));
    }
    const Polynomial average_sum(
        moves && averaged ? history.average_terms_of(row.first) : nullptr,
        moves && averaged ? history.terms() : 0);
    typename Rule::template Coefficients<V> first;
    if constexpr (moves) MapFields(history.step(row.first), first, number);

    [[maybe_unused]] RandomRounding<
        Isa, std::conditional_t<std::is_same_v<T, C>, BFloat16, T>> rounding;
    if (part.DrawsVar()) rounding.Draw(part.drawn());
    const auto run = [&](int64_t i,
                         auto... count) __attribute__((always_inline)) {
      const V p = VarLanes::Load(var + i, count...);
      Slots slots = {};
      ForEachField(slots, [&](auto s, auto& slot) {
        if constexpr (kIsPresent<decltype(slot)> && !IsRowSlot<Rule>(s())) {
          slot = SlotLanes::Load(slot_of[s] + i, count...);
        }
      });
      V after = left * p, average_after(0);
      if constexpr (averaged) {
        average_after =
            average_kept * VarLanes::Load(average + offset + i, count...) +
            average_left * p;
      }
      if constexpr (moves) {
        const auto move = Rule::MoveOf(slots, first);
        after = after - move.scale * sum.At(move.position);
        if constexpr (averaged) {
          average_after =
              average_after - move.scale * average_sum.At(move.position);
        }
      }
      ForEachField(slots, [&](auto s, auto& slot) {
        if constexpr (kIsPresent<decltype(slot)> && !IsRowSlot<Rule>(s())) {
          ForEachField(kept, [&](auto k, const auto& factor) {
            if constexpr (s() == k()) {
              SlotLanes::Store(factor * slot, slot_of[s] + i, count...);
            }
          });
        }
      });
      if constexpr (!std::is_same_v<T, C>) {
        if (part.DrawsVar()) after = rounding(after, i);
      }
      VarLanes::Store(after, var + i, count...);
      if constexpr (averaged) {
        VarLanes::Store(average_after, average + offset + i, count...);
      }
    };
    int64_t i = 0;
    for (; i + kLanes <= size; i += kLanes) run(i);
    if (i < size) run(i, size - i);
  }

  // Whether a slot becomes 0 on the way, where a rule's closed form ends.
  bool EndsAtZero(const IdleRows& row) const {
    bool ends = false;
    PlainSlots<Isa, Rule, T> part(variable, row.row * variable.width,
                                  row.count * variable.width, /*writes=*/false);
    while (part.Next()) {
      ForEachField(history.KeptSince(row.first), [&](auto s, const auto& kept) {
        if constexpr (kIsPresent<decltype(kept)>) {
          const C* slot = part.slot(s());
          const double least = std::numeric_limits<C>::min();
          ends |= std::any_of(slot, slot + part.count(), [&](C x) {
            return x != 0 && std::abs(static_cast<double>(x)) * kept < least;
          });
        }
      });
    }
    return ends;
  }
};

template <class Isa, class Rule, class T>
void CatchUpRows(const Variable<Rule, T>& variable, T* average,
                 const IdleRows* rows, int64_t count, int64_t ahead,
                 const IdleHistory<Rule>& history) {
  PrefetchRows<Isa>(variable, average, rows + count, ahead);
  for (const IdleRows* row = rows; row != rows + count; ++row) {
    if constexpr (Rule::kIdle == Idle::kDecays || Rule::kIdle == Idle::kMoves) {
      const IdleSpan<Isa, Rule, T> span = {variable, average, history};
      bool closed = history.IsClosed(row->first);
      if constexpr (Rule::kIdleEndsAtZero) {
        closed = closed && !span.EndsAtZero(*row);
      }
      if (closed) {
        span.Run(*row);
        continue;
      }
    }
    RepeatSteps<Isa>(variable, average, *row, history);
  }
}

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_DRIVERS_IDLE_CPU_H_
