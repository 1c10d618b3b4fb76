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

// Slots that are packed are unpacked into buffers in L1, some blocks at a time,
// and packed again from there:
//
//   PlainSlots<Isa, Rule, T, true> part(variable, begin, size);
//   while (part.Next()) work on part.count() elements from part.offset() on,
//                       whose slots are part.slots()[s][0 .. count)
//
// Slots in computation type are one part, in place. With them comes what random
// rounding draws from: blocks begin at the same elements whichever span they
// belong to.
template <class Isa, class Rule, class T, bool writes>
class PlainSlots {
 public:
  using C = ComputeType<T>;

  HWY_INLINE PlainSlots(const Variable<Rule, T>& variable, int64_t begin,
                        int64_t size)
      : variable_(variable), begin_(begin), size_(size) {}

  HWY_INLINE bool Next() {
    if (!InBlocks(variable_)) {
      if (offset_ >= 0) return false;
      offset_ = 0;
      count_ = size_;
      SetSlotsInPlace();
      return true;
    }
    return NextBlocks();
  }

  HWY_INLINE int64_t offset() const { return offset_; }
  HWY_INLINE int64_t count() const { return count_; }
  HWY_INLINE C* const* slots() const { return slots_; }
  // For the variable itself.
  HWY_INLINE Drawn drawn() const {
    Drawn drawn = DrawnBy(blocks_[0], kSlotFields<Rule>);
    drawn.at_random = DrawsVar(variable_);
    return drawn;
  }

  static constexpr bool DrawsVar(const Variable<Rule, T>& variable) {
    return !std::is_same_v<T, C> && variable.rounds_var &&
           variable.rounding != 0;
  }
  static constexpr bool InBlocks(const Variable<Rule, T>& variable) {
    return std::is_same_v<C, float> &&
           (variable.format != SlotFormat::kPlain ||
            DrawsVar(variable));
  }

 private:
  static constexpr bool kIsFloat = std::is_same_v<C, float>;
  // Enough that no block waits for the one before; one where the variable
  // itself draws.
  static constexpr int kBlocks = std::is_same_v<T, C> ? 4 : 1;

  // A block, or the part of it that belongs to the span.
  struct Block {
    int64_t at = 0, count = 0;    // elements of the span
    int64_t first = 0;            // of its elements
    int64_t row = 0, column = 0;  // of 8-bit slots
  };

  HWY_INLINE void SetSlotsInPlace() {
    for (size_t s = 0; s < kSlotFields<Rule>; ++s) {
      C* const slot = variable_.slots[s];
      slots_[s] = slot == nullptr ? nullptr : slot + begin_ + offset_;
    }
  }

  HWY_NOINLINE bool NextBlocks() {
    if (offset_ < 0) {
      offset_ = 0;
      next_ = FirstBlock();
    } else {
      if constexpr (writes) Pack();
      offset_ += count_;
    }
    used_ = 0;
    count_ = 0;
    while (used_ < kBlocks && next_.count > 0) {
      count_ += next_.count;
      blocks_[used_++] = next_;
      next_ = After(next_);
    }
    if (count_ == 0) return false;
    // Of row slots too, where an element is a row.
    SetSlotsInPlace();
    Unpack();
    return true;
  }

  Block FirstBlock() const {
    Block block;
    block.column = begin_;
    if (IsInRows()) {
      block.row = begin_ / variable_.width;
      block.column = begin_ % variable_.width;
    }
    block.first = block.column % kPackedBlock;
    SetCount(&block);
    return block;
  }
  Block After(const Block& block) const {
    Block next = {block.at + block.count, 0, 0, block.row,
                  block.column + block.count};
    if (IsInRows() && next.column == variable_.width) {
      next.column = 0;
      ++next.row;
    }
    SetCount(&next);
    return next;
  }
  void SetCount(Block* block) const {
    block->count = std::min(kPackedBlock - block->first, size_ - block->at);
    if (IsInRows()) {
      block->count = std::min(block->count, variable_.width - block->column);
    }
  }
  bool IsInRows() const { return variable_.format == SlotFormat::k8Bits; }

  HWY_INLINE Drawn DrawnBy(const Block& block, size_t what) const {
    const int64_t start = begin_ + block.at - block.first;
    return {
        variable_.rounding != 0,
        MixKey(MixKey(variable_.rounding, static_cast<uint64_t>(start)), what),
        block.first};
  }

  HWY_INLINE void Unpack() {
    if constexpr (kIsFloat) {
      ForEachPacked([&](auto s, uint8_t* memory) {
        slots_[s()] = buffer_[s()];
        for (int i = 0; i < used_; ++i) {
          const Block& block = blocks_[i];
          C* const plain = PlainOf(s(), block);
          if (!IsInRows()) {
            PackedBlock<Isa>::Unpack(HalvesAt(memory, block), block.count,
                                     plain);
            continue;
          }
          uint8_t* const row = RowIn(memory, block);
          float scale;
          std::memcpy(&scale, ScaleIn(row, block), sizeof(scale));
          PackedBlock<Isa>::template Unpack<!IsPositiveSlot<Rule>(s())>(
              row + block.column, scale, block.count, plain);
        }
      });
    }
  }

  HWY_INLINE void Pack() {
    if constexpr (kIsFloat) {
      ForEachPacked([&](auto s, uint8_t* memory) {
        if (!IsInRows()) {
          for (int i = 0; i < used_; ++i) {
            const Block& block = blocks_[i];
            PackedBlock<Isa>::Pack(PlainOf(s(), block), block.count,
                                   DrawnBy(block, s()),
                                   HalvesAt(memory, block));
          }
          return;
        }
        uint32_t most[kBlocks];
        for (int i = 0; i < used_; ++i) {
          most[i] = PackedBlock<Isa>::MostIn(PlainOf(s(), blocks_[i]),
                                             blocks_[i].count);
        }
        for (int i = 0; i < used_; ++i) {
          const Block& block = blocks_[i];
          uint8_t* const row = RowIn(memory, block);
          const float scale =
              PackedBlock<Isa>::template Pack<!IsPositiveSlot<Rule>(s())>(
                  PlainOf(s(), block), block.count, most[i],
                  DrawnBy(block, s()), row + block.column);
          std::memcpy(ScaleIn(row, block), &scale, sizeof(scale));
        }
      });
    }
  }

  // Calls f(slot's number, its memory) for the slots that are packed.
  template <class F>
  HWY_INLINE void ForEachPacked(const F& f) const {
    if (variable_.format == SlotFormat::kPlain) return;
    typename Rule::template Slots<C> slots{};
    ForEachField(slots, [&](auto s, auto& slot) {
      if constexpr (kIsPresent<decltype(slot)> && !IsRowSlot<Rule>(s())) {
        f(s, variable_.packed[s()]);
      }
    });
  }

  C* PlainOf(size_t slot, const Block& block) {
    return buffer_[slot] + (block.at - offset_);
  }
  BFloat16* HalvesAt(uint8_t* memory, const Block& block) const {
    return reinterpret_cast<BFloat16*>(memory) + begin_ + block.at;
  }
  uint8_t* RowIn(uint8_t* memory, const Block& block) const {
    return memory + block.row * PackedRow{variable_.width}.bytes();
  }
  uint8_t* ScaleIn(uint8_t* row, const Block& block) const {
    return row + variable_.width +
           block.column / kPackedBlock * static_cast<int64_t>(sizeof(float));
  }

  static constexpr int64_t kBehind = 32;  // what unpacking writes there

  const Variable<Rule, T>& variable_;
  const int64_t begin_, size_;
  int64_t offset_ = -1, count_ = 0;  // of the part
  Block blocks_[kBlocks], next_;
  int used_ = 0;
  C* slots_[kSlotFields<Rule> + 1] = {};
  // Not initialized.
  alignas(64) C buffer_[kSlotFields<Rule> + 1]
                       [kIsFloat ? kBlocks * kPackedBlock + kBehind : 1];
};

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_DRIVERS_PACKED_CPU_H_
