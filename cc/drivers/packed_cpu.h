// The slots of a run of elements as numbers of the computation type, whatever
// they are in memory. Compiled once per instruction set.
#ifndef TF_OPTIM_CC_DRIVERS_PACKED_CPU_H_
#define TF_OPTIM_CC_DRIVERS_PACKED_CPU_H_

#include <algorithm>
#include <cstring>
#include <type_traits>

#include "cc/drivers/cpu.h"
#include "cc/values/packed_simd.h"

namespace tf_optim {

// A block, or the part of it that belongs to a span.
struct PackedPart {
  int64_t at, count;    // elements of the span
  int64_t first;        // of the block's elements
  int64_t row, column;  // of 8-bit slots
};

// Elements [begin, begin + size) of a variable whose slots are packed, block by
// block. Knows where a block's slots lie.
template <class Isa>
struct PackedRun {
  SlotFormat format;
  uint64_t rounding;
  int64_t width, begin, size;
  int64_t at, row, column;  // of the next block

  void Begin(SlotFormat slots_format, uint64_t roundings, int64_t row_width,
             int64_t from, int64_t count) {
    format = slots_format;
    rounding = roundings;
    width = row_width;
    begin = from;
    size = count;
    at = 0;
    row = IsInRows() ? begin / width : 0;
    column = IsInRows() ? begin % width : begin;
  }

  HWY_INLINE bool Next(PackedPart* part) {
    if (at == size) return false;
    const int64_t first = column % kPackedBlock;
    int64_t count = std::min(kPackedBlock - first, size - at);
    if (IsInRows()) count = std::min(count, width - column);
    part->at = at;
    part->count = count;
    part->first = first;
    part->row = row;
    part->column = column;
    at += count;
    column += count;
    if (IsInRows() && column == width) {
      column = 0;
      ++row;
    }
    return true;
  }

  bool IsInRows() const { return format == SlotFormat::k8Bits; }

  // What is drawn for slot `what`.
  HWY_INLINE Drawn DrawnBy(const PackedPart& part, size_t what) const {
    const int64_t start = begin + part.at - part.first;
    return {rounding != 0,
            MixKey(MixKey(rounding, static_cast<uint64_t>(start)), what),
            part.first};
  }

  BFloat16* HalvesIn(uint8_t* slot, const PackedPart& part) const {
    return reinterpret_cast<BFloat16*>(slot) + begin + part.at;
  }
  uint8_t* CodesIn(uint8_t* slot, const PackedPart& part) const {
    return slot + part.row * PackedRow{width}.bytes() + part.column;
  }
  uint8_t* ScaleIn(uint8_t* slot, const PackedPart& part) const {
    return slot + part.row * PackedRow{width}.bytes() + width +
           part.column / kPackedBlock * static_cast<int64_t>(sizeof(float));
  }
};

// Unpacks a span's slots into buffers in L1, some blocks at a time, and packs
// them again. Knows no rule: it is compiled once.
template <class Isa>
class PackedSpan {
 public:
  static constexpr int kMostBlocks = 4;
  static constexpr int64_t kBehind = 32;  // what unpacking writes there
  static constexpr int64_t kBuffer = kMostBlocks * kPackedBlock + kBehind;

  // Not initialized, for spans without packed slots.
  PackedSpan() {}

  // The part's number of blocks: enough that no block waits for the one
  // before, or one where the variable itself draws.
  HWY_NOINLINE void Begin(SlotFormat format, uint64_t rounding, int64_t width,
                          int64_t begin, int64_t size, int blocks) {
    run_.Begin(format, rounding, width, begin, size);
    most_ = blocks;
    slots_ = 0;
    offset_ = count_ = 0;
  }
  void Add(size_t number, uint8_t* memory, bool is_signed, float* buffer) {
    slot_[slots_++] = {number, memory, is_signed, buffer};
  }

  HWY_NOINLINE bool Next() {
    offset_ += count_;
    // A copy: what is stored meanwhile cannot change it.
    PackedRun<Isa> run = run_;
    for (used_ = 0; used_ < most_ && run.Next(&parts_[used_]);) ++used_;
    run_ = run;
    count_ = run.at - offset_;
    if (count_ == 0) return false;
    for (int s = 0; s < slots_; ++s) {
      for (int i = 0; i < used_; ++i) Unpack(slot_[s], parts_[i]);
    }
    return true;
  }

  HWY_NOINLINE void Pack() const {
    for (int s = 0; s < slots_; ++s) {
      const Slot& slot = slot_[s];
      // Blocks wait for their largest number, so all are looked for at once.
      uint32_t most[kMostBlocks];
      for (int i = 0; run_.IsInRows() && i < used_; ++i) {
        most[i] =
            PackedBlock<Isa>::MostIn(PlainOf(slot, parts_[i]), parts_[i].count);
      }
      for (int i = 0; i < used_; ++i) Pack(slot, parts_[i], most[i]);
    }
  }

  HWY_INLINE int64_t offset() const { return offset_; }
  HWY_INLINE int64_t count() const { return count_; }
  // What is drawn for slot `what` of the part's first block.
  HWY_NOINLINE Drawn DrawnBy(size_t what) const {
    return run_.DrawnBy(parts_[0], what);
  }

 private:
  struct Slot {
    size_t number;
    uint8_t* memory;
    bool is_signed;
    float* buffer;
  };

  float* PlainOf(const Slot& slot, const PackedPart& part) const {
    return slot.buffer + (part.at - offset_);
  }
  HWY_INLINE void Unpack(const Slot& slot, const PackedPart& part) const {
    using Block = PackedBlock<Isa>;
    float* const plain = PlainOf(slot, part);
    if (!run_.IsInRows()) {
      Block::Unpack(run_.HalvesIn(slot.memory, part), part.count, plain);
      return;
    }
    const uint8_t* const codes = run_.CodesIn(slot.memory, part);
    float scale;
    std::memcpy(&scale, run_.ScaleIn(slot.memory, part), sizeof(scale));
    if (slot.is_signed) {
      Block::template Unpack<true>(codes, scale, part.count, plain);
    } else {
      Block::template Unpack<false>(codes, scale, part.count, plain);
    }
  }

  HWY_INLINE void Pack(const Slot& slot, const PackedPart& part,
                       uint32_t most) const {
    using Block = PackedBlock<Isa>;
    const Drawn drawn = run_.DrawnBy(part, slot.number);
    const float* const plain = PlainOf(slot, part);
    if (!run_.IsInRows()) {
      Block::Pack(plain, part.count, drawn, run_.HalvesIn(slot.memory, part));
      return;
    }
    uint8_t* const codes = run_.CodesIn(slot.memory, part);
    const float scale =
        slot.is_signed
            ? Block::template Pack<true>(plain, part.count, most, drawn, codes)
            : Block::template Pack<false>(plain, part.count, most, drawn,
                                          codes);
    std::memcpy(run_.ScaleIn(slot.memory, part), &scale, sizeof(scale));
  }

  PackedRun<Isa> run_;
  int most_, slots_, used_;
  int64_t offset_, count_;  // of the part
  PackedPart parts_[kMostBlocks];
  Slot slot_[kMaxSlots];
};

// Slots as a rule's loop takes them:
//
//   PlainSlots<Isa, Rule, T> part(variable, begin, size, writes);
//   while (part.Next()) work on part.count() elements from part.offset() on,
//                       whose slot s is part.slot(s)[0 .. count)
//
// Slots in computation type are one part, in place. With them comes what random
// rounding draws from: blocks begin at the same elements whichever span they
// belong to.
template <class Isa, class Rule, class T>
class PlainSlots {
 public:
  using C = ComputeType<T>;

  HWY_INLINE PlainSlots(const Variable<Rule, T>& variable, int64_t begin,
                        int64_t size, bool writes)
      : variable_(variable), begin_(begin), size_(size), writes_(writes) {}

  HWY_INLINE bool Next() {
    if (InBlocks(variable_)) return NextBlocks();
    if (begun_) return false;
    return begun_ = true;
  }

  HWY_INLINE int64_t offset() const {
    return InBlocks(variable_) ? packed_.offset() : 0;
  }
  HWY_INLINE int64_t count() const {
    return InBlocks(variable_) ? packed_.count() : size_;
  }
  // nullptr where it is absent. Not from a list made by Next(): the processor
  // would wait for that to be written, and with it for the span before.
  HWY_INLINE C* slot(size_t s) {
    if ((SlotMask<Rule>() >> s & 1) == 0) return nullptr;
    if (kIsFloat && variable_.packed[s] != nullptr) return buffer_[s];
    return variable_.slots[s] + begin_ + offset();
  }
  // For the variable itself.
  HWY_INLINE bool DrawsVar() const { return DrawsVar(variable_); }
  HWY_INLINE Drawn drawn() const { return packed_.DrawnBy(kSlotFields<Rule>); }

 private:
  static constexpr bool kIsFloat = std::is_same_v<C, float>;
  static constexpr int kBlocks =
      std::is_same_v<T, C> ? PackedSpan<Isa>::kMostBlocks : 1;

  static constexpr bool InBlocks(const Variable<Rule, T>& variable) {
    return kIsFloat &&
           (variable.format != SlotFormat::kPlain || DrawsVar(variable));
  }
  static constexpr bool DrawsVar(const Variable<Rule, T>& variable) {
    return !std::is_same_v<T, C> && variable.rounds_var &&
           variable.rounding != 0;
  }

  HWY_NOINLINE bool NextBlocks() {
    if constexpr (kIsFloat) {
      if (!begun_) {
        begun_ = true;
        packed_.Begin(variable_.format, variable_.rounding, variable_.width,
                      begin_, size_, kBlocks);
        for (size_t s = 0; s < kSlotFields<Rule>; ++s) {
          if (variable_.packed[s] == nullptr) continue;
          packed_.Add(s, variable_.packed[s], !IsPositiveSlot<Rule>(s),
                      buffer_[s]);
        }
      } else if (writes_) {
        packed_.Pack();
      }
      return packed_.Next();
    }
    return true;
  }

  const Variable<Rule, T>& variable_;
  const int64_t begin_, size_;
  const bool writes_;  // or what is done to the slots is dropped
  bool begun_ = false;
  PackedSpan<Isa> packed_;
  // Not initialized.
  alignas(64)
      C buffer_[kSlotFields<Rule> + 1][kIsFloat ? PackedSpan<Isa>::kBuffer : 1];
};

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_DRIVERS_PACKED_CPU_H_
