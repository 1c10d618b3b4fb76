// The innermost loops: a run of elements that lie side by side. Compiled once
// per instruction set.
#ifndef TF_OPTIM_CC_DRIVERS_SPANS_CPU_H_
#define TF_OPTIM_CC_DRIVERS_SPANS_CPU_H_

#include <algorithm>
#include <type_traits>
#include <utility>

#include "cc/drivers/slots_cpu.h"
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
  HWY_INLINE void Prefetch(int64_t i) const { __builtin_prefetch(data + i); }
};

template <class Isa, class T>
struct ZeroGradient {
  using V = typename Lanes<Isa, T>::V;
  HWY_INLINE V operator()(int64_t) const { return V(0); }
  HWY_INLINE V operator()(int64_t, int64_t) const { return V(0); }
  HWY_INLINE void Prefetch(int64_t) const {}
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
  int64_t following = 0;  // elements that the pass comes to next

  template <Pass pass, class Gradient>
  HWY_INLINE void Run(const Gradient& gradient) const {
    if constexpr (kPacksInLoop<pass, Gradient>) {
      if (IsPacked()) return RunBlocks(gradient);
    }
    RunPlain<pass>(gradient);
  }

  // The pass before a cautious step: its loop, which then writes nothing.
  template <class Gradient>
  HWY_INLINE void CountAgreeing(const Gradient& gradient) const {
    RunPlain<Pass::kUpdate>(gradient);
  }

 private:
  template <Pass pass>
  static constexpr bool kSlotsChange =
      CountMeans<Rule>() == 0 ||
      Rule::kMeasureChangesSlots == (pass == Pass::kMeasure);
  // Such variables may be rounded at random.
  static constexpr bool kIsHalf = !std::is_same_v<T, C>;
  template <bool is_general>
  static constexpr bool kMayBeCautious = is_general && Rule::kMayBeCautious;
  // Not where the elements have just been measured.
  template <Pass pass>
  static constexpr bool kPrefetches =
      pass != Pass::kUpdate || Rule::kMeansOver != Over::kRow;
  // Where it pays: each case is compiled once more.
  template <Pass pass, class Gradient>
  static constexpr bool kPacksInLoop =
      pass == Pass::kUpdate && CountMeans<Rule>() == 0 &&
      Rule::kRowSlots == 0 && SlotMask<Rule>() != 0 &&
      (std::is_same_v<T, float> || std::is_same_v<T, BFloat16>) &&
      !std::is_same_v<Isa, Scalar> &&
      std::is_same_v<Gradient, GradientInMemory<Isa, T>>;

  using VarLanes = Lanes<Isa, T>;
  using Slots = typename Rule::template Slots<V>;

  template <Pass pass>
  static constexpr bool IsRowSlotIn(size_t slot) {
    return pass != Pass::kUpdateEach && IsRowSlot<Rule>(slot);
  }

  // Most steps are plain. One loop is for all others: those that clip or decay,
  // and cautious ones.
  HWY_INLINE bool IsGeneral() const {
    return variable.clips_or_decays ||
           (Rule::kMayBeCautious && variable.is_cautious);
  }
  HWY_INLINE bool IsCounting() const {
    return Rule::kMayBeCautious && measured != nullptr;
  }

  HWY_INLINE bool IsPacked() const {
    bool is_packed = variable.format != SlotFormat::kPlain;
    ForEachSlotNumber<Rule>([&](auto s) {
      is_packed = is_packed && variable.packed[s] != nullptr;
    });
    return is_packed;
  }

  template <Pass pass, class Gradient>
  HWY_INLINE void RunPlain(const Gradient& gradient) const {
    PlainSlots<Isa, Rule, T> part(variable, begin, size,
                                  kSlotsChange<pass> && !IsCounting());
    while (part.Next()) {
      SlotsInPlace<Isa, Rule, C> slots;
      for (size_t s = 0; s < kSlotFields<Rule>; ++s) {
        slots.slot_of[s] = part.slot(s);
      }
      Drawn drawn;
      const bool at_random = part.DrawsVar();
      if (at_random) drawn = part.drawn();
      const auto run = [&](auto is_general) __attribute__((always_inline)) {
        RunPart<pass, is_general()>(gradient, part.offset(), part.count(),
                                    drawn, slots);
      };
      if (IsGeneral()) {
        run(std::true_type());
      } else {
        run(std::false_type());
      }
    }
  }

  // One function for all who call it.
  template <class Gradient>
  HWY_NOINLINE void RunBlocks(const Gradient& gradient) const {
    const auto run = [&](auto format) __attribute__((always_inline)) {
      if (IsGeneral()) {
        RunBlocksOf<format(), true>(gradient);
      } else {
        RunBlocksOf<format(), false>(gradient);
      }
    };
    if (variable.format == SlotFormat::k8Bits) {
      run(std::integral_constant<SlotFormat, SlotFormat::k8Bits>());
    } else {
      run(std::integral_constant<SlotFormat, SlotFormat::kBFloat16>());
    }
  }

  template <class Gradient>
  HWY_NOINLINE void RunRefused(const Gradient& gradient) const {
    RunPlain<Pass::kUpdate>(gradient);
  }

  template <SlotFormat format, bool is_general, class Gradient>
  HWY_INLINE void RunBlocksOf(const Gradient& gradient) const {
    PackedRun<Isa> run;
    run.Begin(format, variable.rounding, variable.width, begin, size);
    typename SlotsInBlocks<Isa, Rule, format>::Buffer buffer;
    SlotsInBlocks<Isa, Rule, format> slots(variable.packed, &buffer);
    PackedPart part;
    for (;;) {
      const bool is_left = run.Next(&part);
      const bool is_open = is_left && slots.Open(run, part);
      if (!is_open || !slots.FitsBehind(part)) slots.Finish();
      if (!is_left) return;
      if (!is_open) {
        Span{variable, begin + part.at, part.count, coefficients}.RunRefused(
            Gradient{gradient.data + part.at});
        continue;
      }
      Drawn drawn;
      if (kIsHalf && variable.rounds_var) {
        drawn = run.DrawnBy(part, kSlotFields<Rule>);
      }
      RunPart<Pass::kUpdate, is_general>(gradient, part.at, part.count, drawn,
                                         slots);
      slots.Close(run, part);
    }
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

  // Elements [offset, offset + length), whose slots are `memory`. The last,
  // incomplete vector runs through the same rule with masked loads and stores.
  template <Pass pass, bool is_general, class Gradient, class Memory>
  HWY_INLINE void RunPart(const Gradient& gradient, int64_t offset,
                          int64_t length, const Drawn& drawn,
                          Memory& memory) const {
    const auto broadcast = [](auto x) { return V(x); };
    typename Rule::template Coefficients<V> c;
    MapFields(coefficients, c, broadcast);
    ClipAndDecay<V> clip_and_decay;
    if constexpr (is_general)
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
    [[maybe_unused]] const bool is_cautious = variable.is_cautious;
    [[maybe_unused]] const bool is_counting = IsCounting();
    [[maybe_unused]] const V lengthened_by = V(variable.lengthened_by);
    [[maybe_unused]] V agreeing = V(0);

    [[maybe_unused]] RandomRounding<
        Isa, std::conditional_t<kIsHalf, T, BFloat16>> rounding;
    if constexpr (kIsHalf) {
      if (drawn.at_random) rounding.Draw(drawn);
    }
    T* const var = variable.var + begin + offset;
    [[maybe_unused]] const int64_t ahead =
        offset + kPrefetchAhead < size + following ? kPrefetchAhead : 0;
    // `count...` is empty for a whole vector, and its length for a part.
    // Returns what was measured.
    const auto run = [&](int64_t i,
                         auto... count) __attribute__((always_inline)) {
      if constexpr (sizeof...(count) == 0 && kPrefetches<pass>) {
        __builtin_prefetch(var + i + ahead, 1);
        gradient.Prefetch(offset + i + ahead);
        ForEachSlotNumber<Rule>([&](auto s) __attribute__((always_inline)) {
          if constexpr (!IsRowSlotIn<pass>(s())) {
            memory.template Prefetch<s()>(i + ahead);
          }
        });
      }
      V g = gradient(offset + i, count...);
      V p = VarLanes::Load(var + i, count...);
      Slots slots = of_row;
      ForEachSlot(slots,
                  [&](auto s, auto& slot) __attribute__((always_inline)) {
                    if constexpr (!IsRowSlotIn<pass>(s())) {
                      slot = memory.template Load<s()>(i, count...);
                    }
                  });
      if constexpr (is_general) {
        g = ClippedGradient(g, clip_and_decay);
        p = DecayedVariable(p, clip_and_decay);
      }
      typename Rule::template Means<V> result;
      if constexpr (pass == Pass::kMeasure) {
        result = Rule::Measure(p, g, slots, c);
      } else if constexpr (kMayBeCautious<is_general>) {
        const V after = Rule::Update(is_cautious ? V(0) : p, g, slots, c);
        const V step = V(0) - after;
        if (is_counting) agreeing = agreeing + Agrees(step, g);
        p = is_cautious ? CautiousUpdate(p, step, g, lengthened_by) : after;
      } else if constexpr (CountMeans<Rule>() == 0) {
        p = Rule::Update(p, g, slots, c);
      } else {
        if constexpr (pass == Pass::kUpdateEach) {
          mean = Rule::Measure(p, g, slots, c);
        }
        p = UpdateWithMeans<Rule>(p, g, slots, c, mean);
      }
      if constexpr (kMayBeCautious<is_general>) {
        if (is_counting) return result;
      }
      if constexpr (kSlotsChange<pass>) {
        ForEachSlot(slots,
                    [&](auto s, auto& slot) __attribute__((always_inline)) {
                      if constexpr (!IsRowSlotIn<pass>(s())) {
                        memory.template Store<s()>(slot, i, count...);
                      }
                    });
        row_after = slots;
      }
      if constexpr (pass != Pass::kMeasure) {
        if constexpr (kIsHalf) {
          if (drawn.at_random) p = rounding(p, i);
        }
        VarLanes::Store(p, var + i, count...);
      }
      return result;
    };

    if constexpr (pass != Pass::kMeasure) {
      int64_t i = 0;
      if constexpr (Memory::kBehind != 0) {
        for (; i + Memory::kBehind <= length; i += Memory::kBehind) {
          for (int64_t v = 0; v < Memory::kBehind; v += kLanes) run(i + v);
          memory.PackBehind(i);
        }
      }
      if constexpr (Memory::kBehind == 0) {
        for (; i + kLanes <= length; i += kLanes) run(i);
      }
      for (; i < length; i += kLanes) run(i, std::min(kLanes, length - i));
      if constexpr (kMayBeCautious<is_general>) {
        if (is_counting) AddCounted(agreeing, length);
      }
      if constexpr (Rule::kRowSlots != 0 && pass == Pass::kUpdate) {
        ForEachSlot(row_after,
                    [&](auto s, auto& slot) __attribute__((always_inline)) {
                      if constexpr (IsRowSlot<Rule>(s())) {
                        variable.slots[s][row->number] = First(slot);
                      }
                    });
      }
    } else {
      AddUp(run, length);
    }
  }

  HWY_INLINE void AddCounted(V agreeing, int64_t length) const {
    alignas(64) C each[kLanes];
    Lanes<Isa, C>::Store(agreeing, each);
    for (const C lane : each) measured->sums[0] += lane;
    measured->count += length;
  }

  // Adds what run(i, count...) measures of `length` elements to `measured`.
  template <class Run>
  HWY_INLINE void AddUp(const Run& run, int64_t length) const {
    for (int64_t first = 0; first < length; first += kMeasureBlock) {
      const int64_t end = std::min(length, first + kMeasureBlock);
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
        ForEachPhase([&](auto phase) { measure(phase, i + phase() * kLanes); });
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
    measured->count += length;
  }
};

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_DRIVERS_SPANS_CPU_H_
