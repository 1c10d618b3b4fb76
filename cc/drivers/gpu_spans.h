// What one GPU thread does: the rule on a pack of elements that lie side by
// side, loaded and stored 16 bytes at a time where the addresses allow it.
#ifndef TF_OPTIM_CC_DRIVERS_GPU_SPANS_H_
#define TF_OPTIM_CC_DRIVERS_GPU_SPANS_H_

#include <cstdint>

#include "cc/drivers/cpu.h"
#include "cc/drivers/gpu.h"
#include "cc/drivers/gpu_table.h"
#include "cc/values/host_device.h"

namespace tf_optim {

inline constexpr int kAccessBytes = 16;

// Elements of a T variable that one access reads.
template <class T>
inline constexpr int kPack = kAccessBytes / static_cast<int>(sizeof(T));

template <class T, int count>
struct alignas(count * sizeof(T) < kAccessBytes ? count * sizeof(T)
                                                : kAccessBytes) Pack {
  T values[count];
};

template <int count, class T>
TFO_HD inline void LoadPack(const T* from, ComputeType<T>* to) {
  const auto pack = *reinterpret_cast<const Pack<T, count>*>(from);
  TFO_UNROLL
  for (int i = 0; i < count; ++i) to[i] = ToCompute(pack.values[i]);
}

template <int count, class T>
TFO_HD inline void StorePack(const ComputeType<T>* from, T* to) {
  Pack<T, count> pack;
  TFO_UNROLL
  for (int i = 0; i < count; ++i) FromCompute(from[i], &pack.values[i]);
  *reinterpret_cast<Pack<T, count>*>(to) = pack;
}

// What Measure returned, or how many elements agree with a cautious step,
// summed up; over a variable, whose blocks are not all full, also of how many
// elements.
template <class Rule>
struct GpuSums {
  static constexpr bool kCounts = kMayMeasureVariable<Rule>;
  static constexpr int kMeans =
      static_cast<int>(CountMeans<Rule>()) + Rule::kMayBeCautious;
  static constexpr int kCount = kMeans + (kCounts || kMeans == 0 ? 1 : 0);
  double values[kCount] = {};

  TFO_HD void Add(const GpuSums& other) {
    TFO_UNROLL
    for (int i = 0; i < kCount; ++i) values[i] += other.values[i];
  }

  template <class T>
  TFO_HD MeansOf<Rule, T> Means(double count) const {
    MeansOf<Rule, T> means = {};
    if constexpr (CountMeans<Rule>() > 0) {
      ForEachField(means, [&](auto i, auto& mean) {
        mean = static_cast<ComputeType<T>>(values[i()] / count);
      });
    }
    return means;
  }
};

// What a step needs to know of a whole variable.
template <class Rule, class T>
struct GpuMeans {
  MeansOf<Rule, T> means;
  ComputeType<T> lengthened_by;  // of a cautious step

  TFO_HD static GpuMeans Of(const GpuSums<Rule>& total) {
    const double count = total.values[GpuSums<Rule>::kMeans];
    GpuMeans of = {total.template Means<T>(count), 0};
    if constexpr (Rule::kMayBeCautious) {
      of.lengthened_by =
          LengthenedBy(static_cast<ComputeType<T>>(total.values[0] / count));
    }
    return of;
  }
};

// The row slots of the row that a thread works on, as they were and as the rule
// left them. Nothing for rules without such.
template <class Rule, class T>
struct RowSlots {
  typename Rule::template Slots<ComputeType<T>> before = {}, after = {};
};

enum class GpuPass {
  kUpdate,
  kMeasure,  // sums up what Measure returns, or counts who agrees
};

// What a pack of a variable's elements was, in registers. It is loaded before
// the gradient is known, so that a thread waits for its memory once.
template <class Rule, class T>
struct Loaded {
  static constexpr uint32_t kStreams = SlotMask<Rule>() & ~Rule::kRowSlots;

  ComputeType<T> p[kPack<T>];
  ComputeType<T> streams[kSlotFields<Rule>][kPack<T>];

  // Elements [element, element + count).
  template <int count>
  TFO_HD void Load(const Variable<Rule, T>& variable, int64_t element) {
    LoadPack<count>(variable.var + element, p);
    TFO_UNROLL
    for (size_t s = 0; s < kSlotFields<Rule>; ++s) {
      if (kStreams >> s & 1) {
        LoadPack<count>(variable.slots[s] + element, streams[s]);
      }
    }
  }
};

// A pass over elements [element, element + count), which are loaded.
template <GpuPass pass, int count, class Rule, class T>
TFO_HD inline void RunPack(const Variable<Rule, T>& variable,
                           const CoefficientsOf<Rule, T>& coefficients,
                           int64_t element, const ComputeType<T>* gradient,
                           const MeansOf<Rule, T>& means,
                           const Loaded<Rule, T>& loaded,
                           RowSlots<Rule, T>* of_row, GpuSums<Rule>* sums) {
  using C = ComputeType<T>;
  constexpr size_t kSlots = kSlotFields<Rule>;
  constexpr uint32_t kStreams = Loaded<Rule, T>::kStreams;
  constexpr bool kSlotsChange =
      (pass == GpuPass::kMeasure) == Rule::kMeasureChangesSlots;

  C p[count];
  C streams[kSlots][count];
  TFO_UNROLL
  for (int i = 0; i < count; ++i) {
    C g = gradient[i];
    p[i] = loaded.p[i];
    if (variable.clips_or_decays) {
      g = ClippedGradient(g, variable.clip_and_decay);
      p[i] = DecayedVariable(p[i], variable.clip_and_decay);
    }
    auto slots = of_row->before;
    ForEachField(slots, [&](auto s, auto& slot) {
      if constexpr (kStreams >> s() & 1) slot = loaded.streams[s()][i];
    });
    if constexpr (Rule::kMayBeCautious) {
      const bool is_cautious =
          pass == GpuPass::kMeasure || variable.is_cautious;
      const C after =
          Rule::Update(is_cautious ? C(0) : p[i], g, slots, coefficients);
      const C step = C(0) - after;
      if constexpr (pass == GpuPass::kMeasure) {
        sums->values[0] += static_cast<double>(Agrees(step, g));
      } else {
        p[i] = is_cautious
                   ? CautiousUpdate(p[i], step, g, variable.lengthened_by)
                   : after;
      }
    } else if constexpr (pass == GpuPass::kMeasure) {
      const auto result = Rule::Measure(p[i], g, slots, coefficients);
      ForEachField(result, [&](auto m, const auto& value) {
        sums->values[m()] += static_cast<double>(value);
      });
    } else if constexpr (CountMeans<Rule>() == 0) {
      p[i] = Rule::Update(p[i], g, slots, coefficients);
    } else {
      p[i] = UpdateWithMeans<Rule>(p[i], g, slots, coefficients, means);
    }
    if constexpr (kSlotsChange) {
      ForEachField(slots, [&](auto s, auto& slot) {
        if constexpr (kStreams >> s() & 1) streams[s()][i] = slot;
      });
      of_row->after = slots;
    }
  }
  if constexpr (kSlotsChange) {
    TFO_UNROLL
    for (size_t s = 0; s < kSlots; ++s) {
      if (kStreams >> s & 1) {
        StorePack<count>(streams[s], variable.slots[s] + element);
      }
    }
  }
  if constexpr (pass == GpuPass::kUpdate) {
    StorePack<count>(p, variable.var + element);
  } else if constexpr (GpuSums<Rule>::kCounts) {
    sums->values[GpuSums<Rule>::kMeans] += count;
  }
}

// What is special to a variable in a step (drivers/cpu.h).
template <class T>
struct GpuClipAndDecay {
  ClipAndDecay<ComputeType<T>> numbers;
  bool clips_or_decays;
};

// A rule's part of a table's entry.
template <class Rule, class T>
struct RuleEntry {
  T* var = nullptr;
  ComputeType<T>* slots[kSlotFields<Rule>] = {};
  int32_t item = 0;     // among the items of the step
  bool packed = false;  // 16-byte accesses fit

  RuleEntry() = default;
  RuleEntry(const GpuItem& from, int32_t number)
      : var(static_cast<T*>(from.var)), item(number) {
    uintptr_t addresses = reinterpret_cast<uintptr_t>(from.var) |
                          reinterpret_cast<uintptr_t>(from.grad);
    for (size_t s = 0; s < kSlotFields<Rule>; ++s) {
      slots[s] = static_cast<ComputeType<T>*>(from.slots[s]);
      if (IsRowSlot<Rule>(s)) continue;
      addresses |= reinterpret_cast<uintptr_t>(from.slots[s]);
    }
    packed = addresses % kAccessBytes == 0;
  }
};

// What the bodies of a step share. Null where the rule has no use for it.
template <class Rule, class T>
struct GpuShared {
  const CoefficientsOf<Rule, T>* coefficients = nullptr;
  const GpuClipAndDecay<T>* clips_and_decays = nullptr;  // one per item
  GpuSums<Rule>* parts = nullptr;                        // one per block
  const GpuMeans<Rule, T>* means = nullptr;  // one per entry of the table

  TFO_HD Variable<Rule, T> VariableAt(const RuleEntry<Rule, T>& entry,
                                      int number) const {
    Variable<Rule, T> variable;
    variable.var = entry.var;
    for (size_t s = 0; s < kSlotFields<Rule>; ++s) {
      variable.slots[s] = entry.slots[s];
    }
    const GpuClipAndDecay<T> own = clips_and_decays[entry.item];
    variable.clip_and_decay = own.numbers;
    variable.clips_or_decays = own.clips_or_decays;
    if constexpr (kMayMeasureVariable<Rule>) {
      if (means != nullptr) {
        variable.means = means[number].means;
        variable.is_cautious = Rule::kMayBeCautious;
        variable.lengthened_by = means[number].lengthened_by;
      }
    }
    return variable;
  }
};

// Makes what a step's bodies need of its numbers, in float64: here once, and
// not in each of their threads. One block; each coefficient in a warp of its
// own, since lanes of one warp would wait for each other.
template <class Rule, class T>
struct PrepareBody {
  GpuStep step;
  CoefficientsOf<Rule, T>* coefficients;
  GpuClipAndDecay<T>* clips_and_decays;
  int64_t count;        // of these
  uint64_t* first_bad;  // null with dense gradients

  TFO_HD void operator()(int64_t, int thread) const {
    const double rate = step.learning_rate_is_double
                            ? *static_cast<const double*>(step.learning_rate)
                            : *static_cast<const float*>(step.learning_rate);
    if (thread % kWarp == 0) MakeCoefficients(rate, thread / kWarp);
    if (thread == 0 && first_bad != nullptr) *first_bad = ~uint64_t{0};
    for (int64_t i = thread; i < count; i += kGpuThreads) {
      Variable<Rule, T> variable;
      SetClipAndDecay(
          step.gradient_scale ? step.gradient_scale[i] : 1.0, *step.clip_value,
          step.weight_decay ? rate * step.weight_decay[i] : 0.0, &variable);
      clips_and_decays[i] = {variable.clip_and_decay, variable.clips_or_decays};
    }
  }

 private:
  TFO_HD void MakeCoefficients(double rate, int warp) const {
    typename Rule::template Hyper<double> hyper;
    ForEachField(hyper,
                 [&](auto i, double& value) { value = *step.hyper[i()]; });
    const Step<double> now = {rate, static_cast<double>(*step.iterations) + 1};
    ForEachField(*coefficients, [&](auto i, auto& out) {
      if (static_cast<int>(i()) % (kGpuThreads / kWarp) != warp) return;
      // The compiler leaves off what only other members need.
      const auto all = PrepareAs<Rule, ComputeType<T>>(hyper, now);
      ForEachField(all, [&](auto k, const auto& value) {
        if constexpr (k() == i()) out = value;
      });
    });
  }
};

// Puts that on the device's queue, for `count` items.
template <class Rule, class T, class Device>
GpuShared<Rule, T> PrepareOn(Device* device, size_t count, const GpuStep& step,
                             uint64_t* first_bad) {
  const int64_t items = static_cast<int64_t>(count);
  const PrepareBody<Rule, T> body = {
      step, device->template Take<CoefficientsOf<Rule, T>>(1),
      device->template Take<GpuClipAndDecay<T>>(items), items, first_bad};
  device->Launch(body, 1);
  GpuShared<Rule, T> shared;
  shared.coefficients = body.coefficients;
  shared.clips_and_decays = body.clips_and_decays;
  return shared;
}

// Sums up the parts of each variable, in an order that depends on their number
// alone. A block per variable.
template <class Rule, class T, int capacity>
struct FinishMeansBody {
  int32_t first_block[capacity + 1];
  const GpuSums<Rule>* parts;
  GpuMeans<Rule, T>* means;

  TFO_HD GpuSums<Rule> Measure(int64_t block, int thread) const;
  TFO_HD void Store(int64_t block, const GpuSums<Rule>& total) const {
    means[block] = GpuMeans<Rule, T>::Of(total);
  }
};

template <class Rule, class T, int capacity>
TFO_HD GpuSums<Rule> FinishMeansBody<Rule, T, capacity>::Measure(
    int64_t block, int thread) const {
  GpuSums<Rule> sums;
  for (int64_t i = int64_t{first_block[block]} + thread;
       i < first_block[block + 1]; i += kGpuThreads) {
    sums.Add(parts[i]);
  }
  return sums;
}

// Runs the body's passes over `blocks` blocks: the update and, for rules with
// means over the variable and cautious steps, the measuring before it.
template <class Rule, class T, class Body, class Device>
void RunGpuPasses(Device* device, Body* body, int64_t blocks,
                  bool is_cautious) {
  if constexpr (kMayMeasureVariable<Rule>) {
    if (Rule::kMeansOver == Over::kVariable || is_cautious) {
      constexpr int kCapacity = decltype(body->table)::kCapacity;
      body->shared.parts = device->template Take<GpuSums<Rule>>(blocks);
      device->LaunchMeasure(*body, blocks);
      FinishMeansBody<Rule, T, kCapacity> finish = {};
      for (int i = 0; i < body->table.count; ++i) {
        finish.first_block[i] = body->table.first_block[i];
      }
      finish.first_block[body->table.count] = static_cast<int32_t>(blocks);
      finish.parts = body->shared.parts;
      finish.means =
          device->template Take<GpuMeans<Rule, T>>(body->table.count);
      device->LaunchMeasure(finish, body->table.count);
      body->shared.means = finish.means;
    }
  }
  device->Launch(*body, blocks);
}

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_DRIVERS_GPU_SPANS_H_
