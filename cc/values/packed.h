// Slots in fewer bits than they are computed in: how they lie in memory, and
// what one number becomes. docs/decisions/0020 says why so.
//
//   bfloat16  an array of them.
//   8 bits    for each row a code per element, then a float32 scale per block
//             of 128 elements (the row's last block may be shorter). The scale
//             is the largest magnitude in the block. A code is a share of it:
//             0, or 2^-e (1 + m / 8), from 1 down to 2^-31.5 for slots that are
//             never negative, to 2^-15.5 for those with a sign. A block in
//             which something is not finite has its scale's sign set.
//
// Both round to nearest or, by chance, to one of the two neighbours, so that
// the mean of many roundings is the number itself.
#ifndef TF_OPTIM_CC_VALUES_PACKED_H_
#define TF_OPTIM_CC_VALUES_PACKED_H_

#include <cstdint>

#include "cc/values/storage.h"

namespace tf_optim {

enum class SlotFormat : uint8_t {
  kPlain,  // the computation type
  kBFloat16,
  k8Bits,
};

inline constexpr int64_t kPackedBlock = 128;

// A row of 8-bit codes.
struct PackedRow {
  int64_t width;

  constexpr int64_t blocks() const {
    return (width + kPackedBlock - 1) / kPackedBlock;
  }
  constexpr int64_t bytes() const {
    return width + blocks() * static_cast<int64_t>(sizeof(float));
  }
};

TFO_HD inline uint32_t MagnitudeBits(float x) {
  return BitCast<uint32_t>(x) & 0x7fffffffu;
}
TFO_HD inline bool IsFiniteBits(uint32_t magnitude) {
  return magnitude < 0x7f800000u;
}

// Codes of magnitudes are the upper bits of float32 numbers: code + base is a
// float's exponent and its first three bits. The top code is 1.
template <bool is_signed>
struct Code {
  static constexpr int kDropped = 20;  // bits of a float that a code leaves out
  static constexpr uint32_t kTop = is_signed ? 126 : 254;
  static constexpr uint32_t kBase = (0x3f800000u >> kDropped) - kTop;
  static constexpr uint32_t kNotFinite = kTop + 1;
  static constexpr uint32_t kSign = is_signed ? 128 : 0;
};

template <bool is_signed>
TFO_HD inline float FromCode(uint8_t code, float scale) {
  using C = Code<is_signed>;
  const uint32_t magnitude = code & ~C::kSign;
  const uint32_t sign = (code & C::kSign) << 24;
  if (magnitude == C::kNotFinite) return BitCast<float>(0x7fc00000u);
  if (magnitude == 0) return BitCast<float>(sign);
  return BitCast<float>(((magnitude + C::kBase) << C::kDropped) | sign) * scale;
}

// A share of the scale, in [-1, 1]. `random` is 32 bits.
template <bool is_signed>
TFO_HD inline uint8_t ToCode(float share, bool at_random, uint32_t random) {
  using C = Code<is_signed>;
  const uint32_t bits = MagnitudeBits(share);
  const uint32_t added =
      at_random ? random >> (32 - C::kDropped) : 1u << (C::kDropped - 1);
  const uint32_t top = (bits + added) >> C::kDropped;
  uint32_t code = top > C::kBase ? top - C::kBase : 0;
  // What is never negative stands under a root in a denominator: it must not
  // become 0.
  if (!is_signed && code == 0 && bits >= 0x10000u) code = 1;
  // Without its sign: that of a NaN is the processor's choice.
  if (!IsFiniteBits(bits)) return C::kNotFinite;
  if (!is_signed && share < 0) return 1;  // the least that is not 0
  return static_cast<uint8_t>(code |
                              (BitCast<uint32_t>(share) >> 24 & C::kSign));
}

// The scale of a block, from the bits of its largest finite magnitude, and what
// turns a number into its share. Denormals are zero here as everywhere.
struct Scale {
  float scale, inverse;
  // Scales whose inverse is denormal: numbers are multiplied by this first.
  float shrink = 1;

  TFO_HD explicit Scale(uint32_t most) {
    scale = most < 0x800000u ? 0.0f : BitCast<float>(most);
    if (scale > 0x1p125f) shrink = 0x1p-8f;
    inverse = scale == 0 ? 0.0f : 1 / (scale * shrink);
  }
};

// Random bits by counting: the same for an element and a step on any machine,
// whatever else is drawn. 16 elements of a block have numbers of their own, of
// which the others' are odd multiples that have little to do with each other.
inline constexpr uint32_t kDrawnLanes = 16;

TFO_HD inline uint32_t RandomLane(uint64_t key, uint32_t lane) {
  uint32_t x = (lane * 0x9e3779b1u) ^ static_cast<uint32_t>(key);
  x = (x ^ (x >> 16)) * 0x7feb352du;
  x += static_cast<uint32_t>(key >> 32);
  x = (x ^ (x >> 15)) * 0x846ca68bu;
  return x ^ (x >> 16);
}
TFO_HD inline uint32_t RandomFactor(uint32_t sixteens) {
  return 0x9e3779b1u ^ (sixteens * 0x3c6ef362u);
}
TFO_HD inline uint32_t RandomBits(uint64_t key, uint32_t i) {
  return RandomLane(key, i % kDrawnLanes) * RandomFactor(i / kDrawnLanes);
}

TFO_HD inline uint64_t MixKey(uint64_t key, uint64_t with) {
  uint64_t x = key + (with + 1) * 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

// What a variable's roundings of a step are drawn from; 0 rounds to nearest.
TFO_HD inline uint64_t RoundingOf(int64_t seed, int64_t iterations) {
  return MixKey(static_cast<uint64_t>(seed),
                static_cast<uint64_t>(iterations)) |
         1;
}

// Whether rounding is by chance, and what it draws for a run of elements that
// begins at element `first` of a block.
struct Drawn {
  bool at_random = false;
  uint64_t key = 0;
  int64_t first = 0;

  TFO_HD uint32_t BitsOf(int64_t i) const {
    return RandomBits(key, static_cast<uint32_t>(first + i));
  }
};

// A neighbour of x that 16-bit storage has exactly.
TFO_HD inline float RoundedAtRandom(float x, uint32_t random, BFloat16) {
  const uint32_t bits = BitCast<uint32_t>(x);
  if (!IsFiniteBits(bits & 0x7fffffffu)) return x;
  return BitCast<float>((bits + (random >> 16)) & 0xffff0000u);
}
TFO_HD inline float RoundedAtRandom(float x, uint32_t random, Float16) {
  const uint32_t bits = BitCast<uint32_t>(x), magnitude = MagnitudeBits(x);
  if (!IsFiniteBits(magnitude)) return x;
  if (magnitude >= 0x38800000u) {  // 13 bits are left out
    return BitCast<float>((bits + (random >> 19)) & 0xffffe000u);
  }
  // Multiples of 2^-24.
  const float share = (static_cast<float>(random >> 16) + 0.5f) * 0x1p-16f;
  const float units = BitCast<float>(magnitude) * 0x1p24f + share;
  const float whole =
      static_cast<float>(static_cast<int32_t>(units)) * 0x1p-24f;
  return BitCast<float>(BitCast<uint32_t>(whole) | (bits & 0x80000000u));
}

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_VALUES_PACKED_H_
