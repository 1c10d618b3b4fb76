// The innermost loops: a run of elements that lie side by side. Compiled once
// per instruction set.
#ifndef TF_OPTIM_CC_DRIVERS_SPANS_CPU_H_
#define TF_OPTIM_CC_DRIVERS_SPANS_CPU_H_

#include <algorithm>
#include <type_traits>
#include <utility>

#include "cc/drivers/packed_cpu.h"
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

// What a pass over a span is for.
enum class Pass {
  kUpdate,
  kMeasure,     // sums up what Measure returns
  kUpdateEach,  // rows of one element: each is its own mean and row slot
};

// A row between its two passes.
template <class Rule, class T>
struct MeasuredRow {
  int64_t number;
  ComputeType<T> slots[kSlotFields<Rule>] = {};  // the row slots' values before
  MeansOf<Rule, T> means = {};
};

// A pass over elements [begin, begin + size) of a variable; gradient(i) is that
// of element begin + i.
template <class Isa, class Rule, class T>
struct Span {
  using C = ComputeType<T>;
  using V = typename Lanes<Isa, T>::V;
  static constexpr int64_t kLanes = Lanes<Isa, T>::kLanes;
  // Elements that are measured before their results are summed up.
  static constexpr int64_t kMeasureBlock = 256;

  const Variable<Rule, T>& variable;
  int64_t begin, size;
  const CoefficientsOf<Rule, T>& coefficients;
  MeansOf<Rule, T> means = {};                // of the variable or the row
  const MeasuredRow<Rule, T>* row = nullptr;  // to which all elements belong
  Measured<Rule>* measured = nullptr;

  template <Pass pass, class Gradient>
  HWY_INLINE void Run(const Gradient& gradient) const {
    PlainSlots<Isa, Rule, T, kSlotsChange<pass>> part(variable, begin, size);
    while (part.Next()) {
      if (variable.clips_or_decays) {
        RunPart<pass, true>(gradient, part);
      } else {
        RunPart<pass, false>(gradient, part);
      }
    }
  }

 private:
  template <Pass pass>
  static constexpr bool kSlotsChange =
      CountMeans<Rule>() == 0 ||
      Rule::kMeasureChangesSlots == (pass == Pass::kMeasure);
  // Such variables may be rounded at random.
  static constexpr bool kIsHalf = !std::is_same_v<T, C>;

  using VarLanes = Lanes<Isa, T>;
  using SlotLanes = Lanes<Isa, C>;
  using Slots = typename Rule::template Slots<V>;

  template <Pass pass>
  static constexpr bool IsRowSlotIn(size_t slot) {
    return pass != Pass::kUpdateEach && IsRowSlot<Rule>(slot);
  }

  // Calls f(slot's number, slot) for the slots that the rule has.
  template <class F>
  static HWY_INLINE void ForEachSlot(Slots& slots, F&& f) {
    ForEachField(slots, [&](auto i, auto& slot) {
      if constexpr (kIsPresent<decltype(slot)>) f(i, slot);
    });
  }

  // Calls f(phase) for each vector of kChains elements.
  template <class F>
  static HWY_INLINE void ForEachPhase(const F& f) {
    CallPhases(f, std::make_index_sequence<kChains / kLanes>());
  }
  template <class F, size_t... phases>
  static HWY_INLINE void CallPhases(const F& f,
                                    std::index_sequence<phases...>) {
    (f(std::integral_constant<size_t, phases>()), ...);
  }

  // The last, incomplete vector runs through the same rule with masked loads
  // and stores.
  template <Pass pass, bool clips_or_decays, class Gradient, class Part>
  HWY_INLINE void RunPart(const Gradient& gradient, Part& part) const {
    // Copies that no store can alias keep the pointers in registers.
    const int64_t offset = part.offset(), size = part.count();
    C* slot_of[kSlotFields<Rule> + 1];
    for (size_t s = 0; s < kSlotFields<Rule>; ++s) slot_of[s] = part.slot(s);
    const auto broadcast = [](auto x) { return V(x); };
    typename Rule::template Coefficients<V> c;
    MapFields(coefficients, c, broadcast);
    ClipAndDecay<V> clip_and_decay;
    if constexpr (clips_or_decays)
      MapFields(variable.clip_and_decay, clip_and_decay, broadcast);
    typename Rule::template Means<V> mean;
    if constexpr (CountMeans<Rule>() > 0) MapFields(means, mean, broadcast);
    Slots of_row = {};
    if constexpr (Rule::kRowSlots != 0 && pass != Pass::kUpdateEach) {
      ForEachSlot(of_row, [&](auto i, auto& slot) {
        if constexpr (IsRowSlot<Rule>(i())) slot = V(row->slots[i]);
      });
    }
    Slots row_after = of_row;

    [[maybe_unused]] const bool at_random = part.DrawsVar();
    [[maybe_unused]] RandomRounding<
        Isa, std::conditional_t<kIsHalf, T, BFloat16>> rounding;
    if constexpr (kIsHalf) {
      if (at_random) rounding.Draw(part.drawn());
    }
    T* const var = variable.var + begin + offset;
    // `count...` is empty for a whole vector, and its length for a part.
    // Returns what was measured.
    const auto run = [&](int64_t i,
                         auto... count) __attribute__((always_inline)) {
      V g = gradient(offset + i, count...);
      V p = VarLanes::Load(var + i, count...);
      Slots slots = of_row;
      ForEachSlot(slots, [&](auto s, auto& slot) {
        if constexpr (!IsRowSlotIn<pass>(s())) {
          slot = SlotLanes::Load(slot_of[s] + i, count...);
        }
      });
      if constexpr (clips_or_decays) {
        g = ClippedGradient(g, clip_and_decay);
        p = DecayedVariable(p, clip_and_decay);
      }
      typename Rule::template Means<V> result;
      if constexpr (pass == Pass::kMeasure) {
        result = Rule::Measure(p, g, slots, c);
      } else if constexpr (CountMeans<Rule>() == 0) {
        p = Rule::Update(p, g, slots, c);
      } else {
        if constexpr (pass == Pass::kUpdateEach) {
          mean = Rule::Measure(p, g, slots, c);
        }
        p = UpdateWithMeans<Rule>(p, g, slots, c, mean);
      }
      if constexpr (kSlotsChange<pass>) {
        ForEachSlot(slots, [&](auto s, auto& slot) {
          if constexpr (!IsRowSlotIn<pass>(s())) {
            SlotLanes::Store(slot, slot_of[s] + i, count...);
          }
        });
        row_after = slots;
      }
      if constexpr (pass != Pass::kMeasure) {
        if constexpr (kIsHalf) {
          if (at_random) p = rounding(p, i);
        }
        VarLanes::Store(p, var + i, count...);
      }
      return result;
    };

    if constexpr (pass != Pass::kMeasure) {
      int64_t i = 0;
      for (; i + kLanes <= size; i += kLanes) run(i);
      if (i < size) run(i, size - i);
      if constexpr (Rule::kRowSlots != 0 && pass == Pass::kUpdate) {
        ForEachSlot(row_after, [&](auto s, auto& slot) {
          if constexpr (IsRowSlot<Rule>(s())) {
            variable.slots[s][row->number] = First(slot);
          }
        });
      }
    } else {
      for (int64_t first = 0; first < size; first += kMeasureBlock) {
        const int64_t end = std::min(size, first + kMeasureBlock);
        ChainedSum<Isa, C> sums[CountMeans<Rule>()];
        const auto measure = [&](auto phase, int64_t at,
                                 auto... count) __attribute__((always_inline)) {
          auto result = run(at, count...);
          ForEachField(result, [&](auto m, auto& value) {
            sums[m].template Add<phase()>(value, count...);
          });
        };
        int64_t i = first;
        for (; i + kChains <= end; i += kChains) {
          ForEachPhase(
              [&](auto phase) { measure(phase, i + phase() * kLanes); });
        }
        ForEachPhase([&](auto phase) {
          const int64_t at = i + phase() * kLanes;
          if (at + kLanes <= end) {
            measure(phase, at);
          } else if (at < end) {
            measure(phase, at, end - at);
          }
        });
        for (size_t m = 0; m < CountMeans<Rule>(); ++m) {
          measured->sums[m] += sums[m].Total();
        }
      }
      measured->count += size;
    }
  }
};

template <class Isa, class Rule, class T, class Visit>
HWY_INLINE MeasuredRow<Rule, T> MeasureRow(
    const Variable<Rule, T>& variable, int64_t number,
    const CoefficientsOf<Rule, T>& coefficients, const Visit& visit) {
  MeasuredRow<Rule, T> row = {number};
  for (size_t s = 0; s < kSlotFields<Rule>; ++s) {
    if (IsRowSlot<Rule>(s)) row.slots[s] = variable.slots[s][number];
  }
  Measured<Rule> measured;
  visit([&](int64_t begin, int64_t size,
            const auto& gradient) __attribute__((always_inline)) {
    Span<Isa, Rule, T>{variable, begin, size, coefficients, {}, &row, &measured}
        .template Run<Pass::kMeasure>(gradient);
  });
  row.means = measured.template Means<T>();
  return row;
}

template <class Isa, class Rule, class T, class Visit>
HWY_INLINE void UpdateRow(const Variable<Rule, T>& variable,
                          const CoefficientsOf<Rule, T>& coefficients,
                          const MeasuredRow<Rule, T>& row, const Visit& visit) {
  visit([&](int64_t begin, int64_t size,
            const auto& gradient) __attribute__((always_inline)) {
    Span<Isa, Rule, T>{variable, begin, size, coefficients, row.means, &row}
        .template Run<Pass::kUpdate>(gradient);
  });
}

// A pass over parts of one row, or of a variable whose rule does not look at
// rows. visit(f) calls f(begin, size, gradient) for each part in order, and may
// be called twice.
template <class Isa, class Rule, class T, class Visit>
HWY_INLINE void RunParts(const Variable<Rule, T>& variable,
                         [[maybe_unused]] int64_t row_number,
                         const CoefficientsOf<Rule, T>& coefficients,
                         Measured<Rule>* measured, const Visit& visit) {
  if constexpr (Rule::kMeansOver == Over::kRow) {
    const auto row =
        MeasureRow<Isa, Rule, T>(variable, row_number, coefficients, visit);
    UpdateRow<Isa, Rule, T>(variable, coefficients, row, visit);
  } else {
    visit([&](int64_t begin, int64_t size, const auto& gradient) {
      const Span<Isa, Rule, T> span = {variable,     begin,          size,
                                       coefficients, variable.means, nullptr,
                                       measured};
      if constexpr (Rule::kMeansOver == Over::kVariable) {
        if (measured != nullptr) {
          span.template Run<Pass::kMeasure>(gradient);
          return;
        }
      }
      span.template Run<Pass::kUpdate>(gradient);
    });
  }
}

// The same over whole rows, whose gradient lies in memory or is zero.
// gradient_at(i) is that of element i and those behind it.
template <class Isa, class Rule, class T, class GradientAt>
HWY_INLINE void RunRows(const Variable<Rule, T>& variable, int64_t begin,
                        int64_t end,
                        const CoefficientsOf<Rule, T>& coefficients,
                        Measured<Rule>* measured,
                        const GradientAt& gradient_at) {
  const int64_t width = variable.width;
  const auto part = [&](int64_t first, int64_t size) {
    return [&gradient_at, first, size](const auto& f)
               __attribute__((always_inline)) {
                 f(first, size, gradient_at(first));
               };
  };
  if constexpr (Rule::kMeansOver == Over::kRow) {
    if (width == 1) {
      Span<Isa, Rule, T>{variable, begin, end - begin, coefficients}
          .template Run<Pass::kUpdateEach>(gradient_at(begin));
      return;
    }
    // A row's update waits for the division and root of what was measured of
    // it: meanwhile the processor measures others.
    constexpr int64_t kTogether = 4;
    const int64_t end_row = end / width;
    for (int64_t first = begin / width; first < end_row; first += kTogether) {
      const int64_t rows = std::min(kTogether, end_row - first);
      const auto row_part = [&](int64_t r) {
        return part((first + r) * width, width);
      };
      MeasuredRow<Rule, T> row[kTogether];
      for (int64_t r = 0; r < rows; ++r) {
        row[r] = MeasureRow<Isa, Rule, T>(variable, first + r, coefficients,
                                          row_part(r));
      }
      for (int64_t r = 0; r < rows; ++r) {
        UpdateRow<Isa, Rule, T>(variable, coefficients, row[r], row_part(r));
      }
    }
  } else if (begin < end) {
    RunParts<Isa>(variable, 0, coefficients, measured,
                  part(begin, end - begin));
  }
}

template <class Isa, class Rule, class T>
void PassDense(const Variable<Rule, T>& variable, const T* grad, int64_t begin,
               int64_t end, const CoefficientsOf<Rule, T>& coefficients,
               Measured<Rule>* measured) {
  RunRows<Isa>(variable, begin, end, coefficients, measured,
               [&](int64_t i) { return GradientInMemory<Isa, T>{grad + i}; });
}

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_DRIVERS_SPANS_CPU_H_
