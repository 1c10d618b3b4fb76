// Slots as the innermost loops read and write them: in place or, if they are
// packed, a block at a time. Compiled once per instruction set.
//
// Unpacking in the rule's own loop costs next to nothing: the processor does it
// while it waits for the rule's division and root. For the same reason 8-bit
// slots are packed a block behind, two vectors in turn with two of the loop's.
#ifndef TF_OPTIM_CC_DRIVERS_SLOTS_CPU_H_
#define TF_OPTIM_CC_DRIVERS_SLOTS_CPU_H_

#include <cstring>
#include <utility>

#include "cc/drivers/packed_cpu.h"

namespace tf_optim {

// Each has
//
//   Load<s>(i, count...)      elements i, i + 1, ... of slot s
//   Store<s>(v, i, count...)
//   kBehind, PackBehind(i)    to be called for each so many elements, if not 0
//   Prefetch<s>(i)
//
// `count...` is empty for a whole vector, and its length for a part.
template <class Isa, class Rule, class C>
struct SlotsInPlace {
  using V = typename Lanes<Isa, C>::V;
  static constexpr int64_t kBehind = 0;
  C* slot_of[kSlotFields<Rule> + 1];

  template <size_t s, class... Count>
  HWY_INLINE V Load(int64_t i, Count... count) const {
    return Lanes<Isa, C>::Load(slot_of[s] + i, count...);
  }
  template <size_t s, class... Count>
  HWY_INLINE void Store(V v, int64_t i, Count... count) {
    Lanes<Isa, C>::Store(v, slot_of[s] + i, count...);
  }
  template <size_t s>
  HWY_INLINE void Prefetch(int64_t i) const {
    __builtin_prefetch(slot_of[s] + i, 1);
  }
};

// Packed ones. For each block:
//
//   Open(run, part)   false for a block that needs what only PlainSlots does
//   work on it
//   Close(run, part)
//
// Finish() packs what is still behind: before a block that does not fit it, and
// after the last.
template <class Isa, class Rule, SlotFormat format>
class SlotsInBlocks;

// Calls f(number) for the slots of a rule.
template <class Rule, class F, size_t... s>
HWY_INLINE void CallForSlots(const F& f, std::index_sequence<s...>) {
  const auto call = [&](auto number) __attribute__((always_inline)) {
    if constexpr (SlotMask<Rule>() >> number() & 1) f(number);
  };
  (call(std::integral_constant<size_t, s>()), ...);
}
template <class Rule, class F>
HWY_INLINE void ForEachSlotNumber(const F& f) {
  CallForSlots<Rule>(f, std::make_index_sequence<kSlotFields<Rule>>());
}

template <class Isa, class Rule>
class SlotsInBlocks<Isa, Rule, SlotFormat::kBFloat16> {
 public:
  using V = typename Lanes<Isa, float>::V;
  using Block = PackedBlock<Isa>;
  static constexpr int64_t kBehind = 0;
  struct Buffer {};

  HWY_INLINE SlotsInBlocks(uint8_t* const* memory, Buffer*) : memory_(memory) {}

  HWY_INLINE bool Open(const PackedRun<Isa>& run, const PackedPart& part) {
    if (part.first % Random<Isa>::kLanes != 0) return false;
    first_ = part.first;
    ForEachSlotNumber<Rule>([&](auto s) __attribute__((always_inline)) {
      halves_[s] = run.HalvesIn(memory_[s], part);
      random_[s] = Random<Isa>(run.DrawnBy(part, s));
    });
    return true;
  }
  HWY_INLINE void Close(const PackedRun<Isa>&, const PackedPart&) {}
  HWY_INLINE bool FitsBehind(const PackedPart&) const { return true; }
  HWY_INLINE void PackBehind(int64_t) {}
  HWY_INLINE void Finish() {}

  template <size_t s, class... Count>
  HWY_INLINE V Load(int64_t i, Count... count) const {
    return Lanes<Isa, BFloat16>::Load(halves_[s] + i, count...);
  }
  template <size_t s, class... Count>
  HWY_INLINE void Store(V v, int64_t i, Count... count) {
    Block::PackVector(v.raw, random_[s].At(first_ + i), halves_[s] + i,
                      count...);
  }
  template <size_t s>
  HWY_INLINE void Prefetch(int64_t i) const {
    __builtin_prefetch(halves_[s] + i, 1);
  }

 private:
  uint8_t* const* memory_;
  int64_t first_;
  BFloat16* halves_[kSlotFields<Rule>];
  Random<Isa> random_[kSlotFields<Rule>];
};

template <class Isa, class Rule>
class SlotsInBlocks<Isa, Rule, SlotFormat::k8Bits> {
 public:
  using V = typename Lanes<Isa, float>::V;
  using Block = PackedBlock<Isa>;
  static constexpr int64_t kBehind = 2 * Random<Isa>::kLanes;
  static constexpr size_t kSlots = kSlotFields<Rule>;

  // Outside of the class, whose members the compiler then keeps in registers.
  // The last vector may reach behind a block.
  struct Buffer {
    alignas(64) float plain[2][kSlots][kPackedBlock + kBehind];
  };

  HWY_INLINE SlotsInBlocks(uint8_t* const* memory, Buffer* buffer)
      : memory_(memory) {
    ForEachSlotNumber<Rule>([&](auto s) __attribute__((always_inline)) {
      plain_[s] = buffer->plain[0][s];
      behind_[s].plain = buffer->plain[1][s];
    });
  }

  HWY_INLINE bool Open(const PackedRun<Isa>& run, const PackedPart& part) {
    bool is_finite = true;
    ForEachSlotNumber<Rule>([&](auto s) __attribute__((always_inline)) {
      float scale;
      std::memcpy(&scale, run.ScaleIn(memory_[s], part), sizeof(scale));
      is_finite = is_finite && BitCast<uint32_t>(scale) >> 31 == 0;
      scale_[s] = V(scale);
      most_[s] = Block::NoMagnitude();
      codes_[s] = run.CodesIn(memory_[s], part);
      if (part.at + kPrefetchAhead < run.size) {
        __builtin_prefetch(codes_[s] + kPrefetchAhead, 1);
        __builtin_prefetch(codes_[s] + kPrefetchAhead + 64, 1);
      }
    });
    return is_finite;
  }

  // Whether PackBehind during this block packs all of the one before.
  HWY_INLINE bool FitsBehind(const PackedPart& part) const {
    return part.count == behind_count_;
  }

  HWY_INLINE void Close(const PackedRun<Isa>& run, const PackedPart& part) {
    // A block waits for its largest number, so all slots look for it at once.
    uint32_t most[kSlots];
    bool is_plain = part.count % kBehind == 0;
    ForEachSlotNumber<Rule>([&](auto s) __attribute__((always_inline)) {
      most[s] = Block::MostIn(most_[s]);
      is_plain = is_plain && Block::PacksInVectors(most[s]);
    });
    behind_count_ = is_plain ? part.count : 0;
    ForEachSlotNumber<Rule>([&](auto s) __attribute__((always_inline)) {
      const Drawn drawn = run.DrawnBy(part, s);
      float scale;
      if (is_plain) {
        const Scale scales(most[s]);
        scale = scales.scale;
        Behind& behind = behind_[s];
        behind.codes = codes_[s];
        behind.random = Random<Isa>(drawn);
        behind.inverse = V(scales.inverse);
        std::swap(behind.plain, plain_[s]);
      } else {
        scale = Block::template Pack<IsSigned(s())>(plain_[s], part.count,
                                                    most[s], drawn, codes_[s]);
      }
      std::memcpy(run.ScaleIn(memory_[s], part), &scale, sizeof(scale));
    });
  }

  // Elements i ... i + kBehind of the block before.
  HWY_INLINE void PackBehind(int64_t i) {
    if (behind_count_ == 0) return;
    ForEachSlotNumber<Rule>([&](auto s) __attribute__((always_inline)) {
      const Behind& behind = behind_[s];
      Block::template PackPair<IsSigned(s())>(behind.plain + i,
                                              behind.inverse.raw, behind.random,
                                              i, behind.codes + i);
    });
  }
  HWY_INLINE void Finish() {
    for (int64_t i = 0; i < behind_count_; i += kBehind) PackBehind(i);
    behind_count_ = 0;
  }

  template <size_t s, class... Count>
  HWY_INLINE V Load(int64_t i, Count... count) const {
    return V(Block::template UnpackVector<IsSigned(s)>(
        codes_[s] + i, scale_[s].raw, count...));
  }
  template <size_t s, class... Count>
  HWY_INLINE void Store(V v, int64_t i, Count... count) {
    most_[s] = Block::Larger(most_[s], v.raw, count...);
    Lanes<Isa, float>::Store(v, plain_[s] + i);
  }
  template <size_t s>
  HWY_INLINE void Prefetch(int64_t) const {}  // see Open

 private:
  static constexpr bool IsSigned(size_t s) { return !IsPositiveSlot<Rule>(s); }

  // A block that is computed and not yet packed.
  struct Behind {
    float* plain;
    uint8_t* codes;
    V inverse;
    Random<Isa> random;
  };

  uint8_t* const* memory_;
  uint8_t* codes_[kSlots];
  V scale_[kSlots];
  typename Block::VU most_[kSlots];
  float* plain_[kSlots];
  Behind behind_[kSlots];
  int64_t behind_count_ = 0;
};

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_DRIVERS_SLOTS_CPU_H_
