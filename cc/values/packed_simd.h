// Blocks of packed slots to float32 and back, for one instruction set. The same
// numbers as packed.h's, many at a time.
#ifndef TF_OPTIM_CC_VALUES_PACKED_SIMD_H_
#define TF_OPTIM_CC_VALUES_PACKED_SIMD_H_

#include <algorithm>
#include <type_traits>

#include "cc/values/packed.h"
#include "cc/values/simd.h"

namespace tf_optim {

// What a block's elements are rounded by: their RandomBits or, to nearest, a
// half, whose odd multiples are the same.
template <class Isa>
class Random {
 public:
  using D = hn::RebindToUnsigned<hn::ScalableTag<float>>;
  using V = hn::Vec<D>;
  static constexpr int64_t kLanes = static_cast<int64_t>(hn::MaxLanes(D()));
  static_assert(kDrawnLanes % kLanes == 0);

  Random() {}  // not initialized
  explicit HWY_INLINE Random(const Drawn& drawn) {
    const D d;
    const V low = hn::Set(d, static_cast<uint32_t>(drawn.key));
    const V high = hn::Set(d, static_cast<uint32_t>(drawn.key >> 32));
    for (uint32_t i = 0; i < kVectors; ++i) {
      lanes_[i] = hn::Set(d, 1u << 31);
      if (!drawn.at_random) continue;
      const V lane = hn::Iota(d, i * static_cast<uint32_t>(kLanes));
      V x = hn::Xor(hn::Mul(lane, hn::Set(d, 0x9e3779b1u)), low);
      x = hn::Mul(hn::Xor(x, hn::ShiftRight<16>(x)), hn::Set(d, 0x7feb352du));
      x = hn::Add(x, high);
      x = hn::Mul(hn::Xor(x, hn::ShiftRight<15>(x)), hn::Set(d, 0x846ca68bu));
      lanes_[i] = hn::Xor(x, hn::ShiftRight<16>(x));
    }
  }

  // Of elements i, i + 1, ...; i is a multiple of kLanes.
  HWY_INLINE V At(int64_t i) const {
    const auto vector = static_cast<uint32_t>(i / kLanes);
    const uint32_t factor = RandomFactor(vector / kVectors);
    return hn::Mul(lanes_[vector % kVectors], hn::Set(D(), factor));
  }

 private:
  static constexpr uint32_t kVectors = kDrawnLanes / kLanes;
  V lanes_[kVectors];
};

// A value's neighbours in 16-bit storage, by chance.
template <class Isa, class T>
class RandomRounding {
 public:
  using D = hn::ScalableTag<float>;
  using V = Simd<Isa, float>;

  RandomRounding() {}  // not initialized

  // To be called before a value is rounded.
  HWY_NOINLINE void Draw(const Drawn& drawn) {
    first_ = drawn.first;
    const Random<Isa> random(drawn);
    for (int64_t i = 0; i < kPackedBlock; i += Random<Isa>::kLanes) {
      hn::Store(random.At(i), DU(), bits_ + i);
    }
  }

  // Of elements i, i + 1, ... of the part.
  HWY_INLINE V operator()(V value, int64_t i) const {
    const DU d;
    const VU random = hn::LoadU(d, bits_ + first_ + i);
    const VU x = hn::BitCast(d, value.raw);
    const VU magnitude = hn::And(x, hn::Set(d, 0x7fffffffu));
    const VU rounded = Round(x, magnitude, random, T());
    const auto finite = hn::Lt(magnitude, hn::Set(d, 0x7f800000u));
    return V(hn::BitCast(D(), hn::IfThenElse(finite, rounded, x)));
  }

 private:
  using DU = hn::RebindToUnsigned<D>;
  using VU = hn::Vec<DU>;

  static HWY_INLINE VU Round(VU x, VU, VU random, BFloat16) {
    return hn::And(hn::Add(x, hn::ShiftRight<16>(random)),
                   hn::Set(DU(), 0xffff0000u));
  }
  static HWY_INLINE VU Round(VU x, VU magnitude, VU random, Float16) {
    const DU d;
    const D df;
    const hn::RebindToSigned<D> di;
    const VU normal = hn::And(hn::Add(x, hn::ShiftRight<19>(random)),
                              hn::Set(d, 0xffffe000u));
    const auto drawn =
        hn::ConvertTo(df, hn::BitCast(di, hn::ShiftRight<16>(random)));
    const auto share =
        hn::Mul(hn::Add(drawn, hn::Set(df, 0.5f)), hn::Set(df, 0x1p-16f));
    const auto units = hn::Add(
        hn::Mul(hn::BitCast(df, magnitude), hn::Set(df, 0x1p24f)), share);
    const auto whole = hn::Mul(hn::ConvertTo(df, hn::ConvertTo(di, units)),
                               hn::Set(df, 0x1p-24f));
    const VU small =
        hn::Or(hn::BitCast(d, whole), hn::And(x, hn::Set(d, 0x80000000u)));
    return hn::IfThenElse(hn::Ge(magnitude, hn::Set(d, 0x38800000u)), normal,
                          small);
  }

  int64_t first_;
  // The last vector may reach behind the block.
  alignas(64) uint32_t bits_[kPackedBlock + kDrawnLanes];
};

template <class T>
class RandomRounding<Scalar, T> {
 public:
  void Draw(const Drawn& drawn) { drawn_ = drawn; }
  float operator()(float x, int64_t i) const {
    return RoundedAtRandom(x, drawn_.BitsOf(i), T());
  }

 private:
  Drawn drawn_;
};

// Codes one number at a time: the yardstick, and for blocks in which something
// is not finite.
template <bool is_signed>
inline void UnpackEach(const uint8_t* codes, float scale, int64_t count,
                       float* plain) {
  std::transform(codes, codes + count, plain, [scale](uint8_t code) {
    return FromCode<is_signed>(code, scale);
  });
}
// Returns the scale.
template <bool is_signed>
inline float PackEach(const float* plain, int64_t count, const Drawn& drawn,
                      uint8_t* codes) {
  uint32_t most = 0;
  bool finite = true;
  for (int64_t i = 0; i < count; ++i) {
    const uint32_t bits = MagnitudeBits(plain[i]);
    if (IsFiniteBits(bits)) {
      most = std::max(most, bits);
    } else {
      finite = false;
    }
  }
  const Scale scale(most);
  for (int64_t i = 0; i < count; ++i) {
    codes[i] = ToCode<is_signed>(plain[i] * scale.shrink * scale.inverse,
                                 drawn.at_random, drawn.BitsOf(i));
  }
  return finite ? scale.scale : -scale.scale;
}

// Two vectors of floats at a time: unpacking may write that far behind `count`,
// and packing may read, but does not use, what is there.
template <class Isa>
struct PackedBlock {
  using D = hn::ScalableTag<float>;
  using DU = hn::RebindToUnsigned<D>;
  using D16 = hn::Repartition<uint16_t, D>;  // of two vectors of floats
  using D8 = hn::Rebind<uint8_t, D16>;
  using V = hn::Vec<D>;
  using VU = hn::Vec<DU>;
  using V16 = hn::Vec<D16>;
  static constexpr int64_t kLanes = static_cast<int64_t>(hn::MaxLanes(D()));
  static_assert(kPackedBlock % (2 * kLanes) == 0);

  static void Unpack(const BFloat16* packed, int64_t count, float* plain) {
    ForEachVector(count, [&](int64_t i, auto... part) {
      hn::StoreU(Lanes<Isa, BFloat16>::Load(packed + i, part...).raw, D(),
                 plain + i);
    });
  }

  template <bool is_signed>
  static void Unpack(const uint8_t* codes, float scale, int64_t count,
                     float* plain) {
    if (BitCast<uint32_t>(scale) >> 31) {
      UnpackEach<is_signed>(codes, -scale, count, plain);
      return;
    }
    const V scales = hn::Set(D(), scale);
    ForEachVector(count, [&](int64_t i, auto... part) {
      const V x = UnpackVector<is_signed>(codes + i, scales, part...);
      hn::StoreU(x, D(), plain + i);
    });
  }

  // One vector of codes, of a block in which all is finite.
  template <bool is_signed, class... Count>
  static HWY_INLINE V UnpackVector(const uint8_t* codes, V scale,
                                   Count... count) {
    using C = Code<is_signed>;
    const DU d;
    const VU code = hn::PromoteTo(d, Load(hn::Rebind<uint8_t, DU>(), codes,
                                          static_cast<size_t>(count)...));
    VU magnitude = code;
    if constexpr (is_signed) magnitude = hn::And(code, hn::Set(d, 127u));
    VU bits =
        hn::ShiftLeft<C::kDropped>(hn::Add(magnitude, hn::Set(d, C::kBase)));
    bits = hn::IfThenElseZero(hn::Ne(magnitude, hn::Zero(d)), bits);
    if constexpr (is_signed) {
      bits = hn::OrAnd(bits, hn::ShiftLeft<24>(code), hn::Set(d, 1u << 31));
    }
    return hn::Mul(hn::BitCast(D(), bits), scale);
  }

  // A number whose upper half is x as a bfloat16. What is not finite keeps its
  // upper bits, and stays NaN.
  static HWY_INLINE VU UpperHalf(V x, VU random) {
    const DU d;
    const VU bits = hn::BitCast(d, x);
    const VU magnitude = hn::And(bits, hn::Set(d, 0x7fffffffu));
    const auto is_nan = hn::Gt(magnitude, hn::Set(d, 0x7f800000u));
    const auto is_finite = hn::Lt(magnitude, hn::Set(d, 0x7f800000u));
    const VU sign = hn::And(bits, hn::Set(d, 0x80000000u));
    const VU quiet = hn::Or(sign, hn::Set(d, 0x7fc00000u));
    const VU rounded = hn::Add(bits, hn::ShiftRight<16>(random));
    return hn::IfThenElse(is_nan, quiet,
                          hn::IfThenElse(is_finite, rounded, bits));
  }

  template <class... Count>
  static HWY_INLINE void PackVector(V x, VU random, BFloat16* packed,
                                    Count... count) {
    const hn::Rebind<uint16_t, DU> d;
    Store(hn::TruncateTo(d, hn::ShiftRight<16>(UpperHalf(x, random))), d,
          reinterpret_cast<uint16_t*>(packed), static_cast<size_t>(count)...);
  }

  static HWY_INLINE VU NoMagnitude() { return hn::Zero(DU()); }
  // The larger magnitudes, lane by lane; of x's first `count` lanes.
  static HWY_INLINE VU Larger(VU most, V x) {
    const DU d;
    return hn::Max(most, hn::And(hn::BitCast(d, x), hn::Set(d, 0x7fffffffu)));
  }
  static HWY_INLINE VU Larger(VU most, V x, int64_t count) {
    const D d;
    const auto mask = hn::FirstN(d, static_cast<size_t>(count));
    return Larger(most, hn::IfThenElseZero(mask, x));
  }
  static HWY_INLINE uint32_t MostIn(VU most) {
    return hn::ReduceMax(DU(), most);
  }

  static void Pack(const float* plain, int64_t count, const Drawn& drawn,
                   BFloat16* packed) {
    if (!drawn.at_random || drawn.first == 0) {
      const Random<Isa> random(drawn);
      ForEachVector(count, [&](int64_t i, auto... part) {
        PackVector(hn::LoadU(D(), plain + i), random.At(i), packed + i,
                   part...);
      });
    } else {
      RandomRounding<Isa, BFloat16> rounding;
      rounding.Draw(drawn);
      for (int64_t i = 0; i < count; i += kLanes) {
        const auto x = rounding(Simd<Isa, float>(hn::LoadU(D(), plain + i)), i);
        const int64_t left = std::min(kLanes, count - i);
        Lanes<Isa, BFloat16>::Store(x, packed + i, left);
      }
    }
  }

  // The bits of the largest magnitude.
  static HWY_INLINE uint32_t MostIn(const float* plain, int64_t count) {
    VU most = NoMagnitude();
    ForEachVector(count, [&](int64_t i, auto... part) {
      most = Larger(most, Load(D(), plain + i, part...));
    });
    return MostIn(most);
  }

  // Two vectors, from the block's element i on.
  template <bool is_signed, class... Count>
  static HWY_INLINE void PackPair(const float* plain, V inverse,
                                  const Random<Isa>& random, int64_t i,
                                  uint8_t* codes, Count... count) {
    using C = Code<is_signed>;
    const auto share = [&](int64_t at) __attribute__((always_inline)) {
      V x = hn::Mul(hn::LoadU(D(), plain + at), inverse);
      if constexpr (!is_signed) {  // only 0 becomes 0
        const float one = BitCast<float>((C::kBase + 1) << C::kDropped);
        x = hn::IfThenElseZero(hn::Ne(x, hn::Zero(D())),
                               hn::Max(x, hn::Set(D(), one)));
      }
      return hn::Add(hn::BitCast(DU(), x),
                     hn::ShiftRight<32 - C::kDropped>(random.At(i + at)));
    };
    const V16 rounded = UpperHalves(share(0), share(kLanes));
    V16 magnitude = rounded;
    if constexpr (is_signed) magnitude = hn::And(rounded, Set16(0x7fff));
    V16 code = hn::SaturatedSub(hn::ShiftRight<C::kDropped - 16>(magnitude),
                                Set16(C::kBase));
    if constexpr (is_signed) {
      code = hn::OrAnd(code, hn::ShiftRight<8>(rounded), Set16(128));
    }
    Store(hn::TruncateTo(D8(), code), D8(), codes, count...);
  }

  // Whether a block whose MostIn is `most` needs nothing but PackPair.
  static HWY_INLINE bool PacksInVectors(uint32_t most) {
    return IsFiniteBits(most) && Scale(most).shrink == 1;
  }

  // Returns the scale.
  template <bool is_signed>
  static HWY_NOINLINE float Pack(const float* plain, int64_t count,
                                 uint32_t most, const Drawn& drawn,
                                 uint8_t* codes) {
    if (!PacksInVectors(most)) {
      return PackEach<is_signed>(plain, count, drawn, codes);
    }
    const Scale scale(most);
    const Random<Isa> random(drawn);
    const V inverse = hn::Set(D(), scale.inverse);
    ForEachPair(count, [&](int64_t i, auto... part) {
      PackPair<is_signed>(plain + i, inverse, random, i, codes + i, part...);
    });
    return scale.scale;
  }

 private:
  static HWY_INLINE V16 Set16(uint32_t x) {
    return hn::Set(D16(), static_cast<uint16_t>(x));
  }

  // Calls f for each vector, or for each pair of vectors, of floats.
  template <class F>
  static HWY_INLINE void ForEachVector(int64_t count, const F& f) {
    int64_t i = 0;
    for (; i + kLanes <= count; i += kLanes) f(i);
    if (i < count) f(i, static_cast<size_t>(count - i));
  }
  template <class F>
  static HWY_INLINE void ForEachPair(int64_t count, const F& f) {
    int64_t i = 0;
    for (; i + 2 * kLanes <= count; i += 2 * kLanes) f(i);
    if (i < count) f(i, static_cast<size_t>(count - i));
  }
  template <class Tag, class T>
  static HWY_INLINE auto Load(Tag d, const T* p) {
    return hn::LoadU(d, p);
  }
  template <class Tag, class T>
  static HWY_INLINE auto Load(Tag d, const T* p, size_t count) {
    return hn::LoadN(d, p, count);
  }
  template <class Tag, class Raw, class T>
  static HWY_INLINE void Store(Raw v, Tag d, T* p) {
    hn::StoreU(v, d, p);
  }
  template <class Tag, class Raw, class T>
  static HWY_INLINE void Store(Raw v, Tag d, T* p, size_t count) {
    hn::StoreN(v, d, p, count);
  }

  static HWY_INLINE V16 UpperHalves(VU low, VU high) {
    const D16 d;
    return hn::ConcatOdd(d, hn::BitCast(d, high), hn::BitCast(d, low));
  }
};

template <>
struct PackedBlock<Scalar> {
  static void Unpack(const BFloat16* packed, int64_t count, float* plain) {
    std::transform(packed, packed + count, plain,
                   [](BFloat16 x) { return ToCompute(x); });
  }

  template <bool is_signed>
  static void Unpack(const uint8_t* codes, float scale, int64_t count,
                     float* plain) {
    UnpackEach<is_signed>(codes, std::fabs(scale), count, plain);
  }

  static void Pack(const float* plain, int64_t count, const Drawn& drawn,
                   BFloat16* packed) {
    for (int64_t i = 0; i < count; ++i) {
      const uint32_t bits = drawn.at_random ? drawn.BitsOf(i) : 1u << 31;
      FromCompute(RoundedAtRandom(plain[i], bits, BFloat16()), &packed[i]);
    }
  }

  static uint32_t MostIn(const float*, int64_t) { return 0; }  // see Pack

  template <bool is_signed>
  static float Pack(const float* plain, int64_t count, uint32_t,
                    const Drawn& drawn, uint8_t* codes) {
    return PackEach<is_signed>(plain, count, drawn, codes);
  }
};

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_VALUES_PACKED_SIMD_H_
