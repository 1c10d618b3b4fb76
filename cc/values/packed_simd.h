// Blocks of packed slots to float32 and back, for one instruction set. The same
// numbers as packed.h's, many at a time.
#ifndef TF_OPTIM_CC_VALUES_PACKED_SIMD_H_
#define TF_OPTIM_CC_VALUES_PACKED_SIMD_H_

#include <algorithm>
#include <type_traits>

#include "cc/values/packed.h"
#include "cc/values/simd.h"

namespace tf_optim {

// RandomBits of a block's elements.
template <class Isa>
class Random {
 public:
  using D = hn::RebindToUnsigned<hn::ScalableTag<float>>;
  using V = hn::Vec<D>;
  static constexpr int64_t kLanes = static_cast<int64_t>(hn::MaxLanes(D()));
  static_assert(kDrawnLanes % kLanes == 0);

  explicit HWY_INLINE Random(uint64_t key) {
    const D d;
    const V low = hn::Set(d, static_cast<uint32_t>(key));
    const V high = hn::Set(d, static_cast<uint32_t>(key >> 32));
    for (uint32_t i = 0; i < kVectors; ++i) {
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

  // Not initialized.
  RandomRounding() {}

  // To be called before a value is rounded.
  HWY_NOINLINE void Draw(const Drawn& drawn) {
    first_ = drawn.first;
    const Random<Isa> random(drawn.key);
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
    const auto* bits = reinterpret_cast<const uint16_t*>(packed);
    ForEachPair(count, [&](int64_t i, auto... part) {
      StoreFloats(Load(D16(), bits + i, part...), hn::Set(D(), 1.0f),
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
    using C = Code<is_signed>;
    const V scales = hn::Set(D(), scale);
    ForEachPair(count, [&](int64_t i, auto... part) {
      const D16 d;
      const V16 code = hn::PromoteTo(d, Load(D8(), codes + i, part...));
      V16 magnitude = code;
      if constexpr (is_signed) magnitude = hn::And(code, Set16(127));
      V16 bits = hn::ShiftLeft<kDropped16>(hn::Add(magnitude, Set16(C::kBase)));
      bits = hn::IfThenZeroElse(hn::Eq(magnitude, hn::Zero(d)), bits);
      if constexpr (is_signed) {
        bits = hn::Or(bits, hn::ShiftLeft<8>(hn::Xor(code, magnitude)));
      }
      StoreFloats(bits, scales, plain + i);
    });
  }

  static void Pack(const float* plain, int64_t count, const Drawn& drawn,
                   BFloat16* packed) {
    auto* const bits = reinterpret_cast<uint16_t*>(packed);
    if (!drawn.at_random) {
      PackHalves(plain, count, HalfOf<16>(), bits);
    } else if (drawn.first == 0) {
      PackHalves(plain, count, BitsOf<16>{Random<Isa>(drawn.key)}, bits);
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
    const DU d;
    VU most = hn::Zero(d);
    const auto take = [&](VU x) {
      most = hn::Max(most, hn::And(x, hn::Set(d, 0x7fffffffu)));
    };
    const auto* bits = reinterpret_cast<const uint32_t*>(plain);
    int64_t i = 0;
    for (; i + kLanes <= count; i += kLanes) take(hn::LoadU(d, bits + i));
    if (i < count) take(hn::LoadN(d, bits + i, static_cast<size_t>(count - i)));
    return hn::ReduceMax(d, most);
  }

  // `most` is MostIn. Returns the scale.
  template <bool is_signed>
  static float Pack(const float* plain, int64_t count, uint32_t most,
                    const Drawn& drawn, uint8_t* codes) {
    const Scale scale(most);
    if (!IsFiniteBits(most) || scale.shrink != 1) {
      return PackEach<is_signed>(plain, count, drawn, codes);
    }
    if (drawn.at_random) {
      PackCodes<is_signed>(plain, scale.inverse, count,
                           BitsOf<kDropped>{Random<Isa>(drawn.key)}, codes);
    } else {
      PackCodes<is_signed>(plain, scale.inverse, count, HalfOf<kDropped>(),
                           codes);
    }
    return scale.scale;
  }

 private:
  // Bits of a float, and of its upper half, that codes leave out.
  static constexpr int kDropped = Code<true>::kDropped;
  static constexpr int kDropped16 = kDropped - 16;

  // What is added before the lower bits are dropped: half of what they can be,
  // or as many random ones.
  template <int dropped>
  struct HalfOf {
    HWY_INLINE VU operator()(int64_t) const {
      return hn::Set(DU(), 1u << (dropped - 1));
    }
  };
  template <int dropped>
  struct BitsOf {
    Random<Isa> random;
    HWY_INLINE VU operator()(int64_t i) const {
      return hn::ShiftRight<32 - dropped>(random.At(i));
    }
  };

  static HWY_INLINE V16 Set16(uint32_t x) {
    return hn::Set(D16(), static_cast<uint16_t>(x));
  }

  // Calls f for two vectors of floats at a time.
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

  // Upper halves of floats, times a scale.
  static HWY_INLINE void StoreFloats(V16 upper, V scales, float* plain) {
    const DU d;
    const VU low = hn::ShiftLeft<16>(hn::PromoteLowerTo(d, upper));
    const VU high = hn::ShiftLeft<16>(hn::PromoteUpperTo(d, upper));
    hn::StoreU(hn::Mul(hn::BitCast(D(), low), scales), D(), plain);
    hn::StoreU(hn::Mul(hn::BitCast(D(), high), scales), D(), plain + kLanes);
  }

  template <bool is_signed, class Added>
  static HWY_INLINE void PackCodes(const float* plain, float inverse,
                                   int64_t count, const Added& added,
                                   uint8_t* codes) {
    using C = Code<is_signed>;
    const V inverses = hn::Set(D(), inverse);
    ForEachPair(count, [&](int64_t i, auto... part) {
      const DU d;
      const auto share = [&](int64_t at) {
        return hn::BitCast(d, hn::Mul(hn::LoadU(D(), plain + at), inverses));
      };
      const VU low = share(i), high = share(i + kLanes);
      const V16 rounded =
          UpperHalves(hn::Add(low, added(i)), hn::Add(high, added(i + kLanes)));
      V16 magnitude = rounded;
      if constexpr (is_signed) magnitude = hn::And(rounded, Set16(0x7fff));
      V16 code = hn::SaturatedSub(hn::ShiftRight<kDropped16>(magnitude),
                                  Set16(C::kBase));
      if constexpr (is_signed) {
        code = hn::Or(code, hn::ShiftRight<8>(hn::Xor(rounded, magnitude)));
      } else {
        const V16 exact = UpperHalves(low, high);
        code = hn::Max(code, hn::Min(exact, Set16(1)));
      }
      Store(hn::TruncateTo(D8(), code), D8(), codes + i, part...);
    });
  }

  template <class Added>
  static HWY_INLINE void PackHalves(const float* plain, int64_t count,
                                    const Added& added, uint16_t* bits) {
    ForEachPair(count, [&](int64_t i, auto... part) {
      const DU d;
      const auto rounded = [&](int64_t at) {
        const VU x = hn::BitCast(d, hn::LoadU(D(), plain + at));
        // What is not finite keeps its upper bits, and stays NaN.
        const VU magnitude = hn::And(x, hn::Set(d, 0x7fffffffu));
        const auto is_nan = hn::Gt(magnitude, hn::Set(d, 0x7f800000u));
        const auto is_finite = hn::Lt(magnitude, hn::Set(d, 0x7f800000u));
        const VU sign = hn::And(x, hn::Set(d, 0x80000000u));
        const VU quiet = hn::Or(sign, hn::Set(d, 0x7fc00000u));
        return hn::IfThenElse(
            is_nan, quiet, hn::IfThenElse(is_finite, hn::Add(x, added(at)), x));
      };
      Store(UpperHalves(rounded(i), rounded(i + kLanes)), D16(), bits + i,
            part...);
    });
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
