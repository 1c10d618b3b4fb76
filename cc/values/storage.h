// How numbers lie in memory: the 16-bit formats, and the type a dtype is
// computed in. Conversions round to nearest even, as the hardware does.
#ifndef TF_OPTIM_CC_VALUES_STORAGE_H_
#define TF_OPTIM_CC_VALUES_STORAGE_H_

#include <cstdint>
#include <cstring>

#include "cc/values/host_device.h"

#ifdef __CUDACC__
#include <cuda_fp16.h>
#endif

namespace tf_optim {

struct Float16 {
  uint16_t bits;
};
struct BFloat16 {
  uint16_t bits;
};

template <class T>
struct ComputeOf {
  using type = float;
};
template <>
struct ComputeOf<double> {
  using type = double;
};
// 16-bit storage computes in float32, and has its slots in float32.
template <class T>
using ComputeType = typename ComputeOf<T>::type;

enum class Storage { kFloat32, kFloat64, kFloat16, kBFloat16 };

template <class T>
inline constexpr Storage kStorageOf = Storage::kFloat32;
template <>
inline constexpr Storage kStorageOf<double> = Storage::kFloat64;
template <>
inline constexpr Storage kStorageOf<Float16> = Storage::kFloat16;
template <>
inline constexpr Storage kStorageOf<BFloat16> = Storage::kBFloat16;

template <class T>
struct Stored {
  using Type = T;
};

// Calls f(Stored<T>()) for a storage's T.
template <class F>
auto WithStorage(Storage storage, const F& f) {
  switch (storage) {
    case Storage::kFloat64:
      return f(Stored<double>());
    case Storage::kFloat16:
      return f(Stored<Float16>());
    case Storage::kBFloat16:
      return f(Stored<BFloat16>());
    default:
      return f(Stored<float>());
  }
}

template <class To, class From>
TFO_HD inline To BitCast(From from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  std::memcpy(&to, &from, sizeof(to));
  return to;
}

TFO_HD inline float ToCompute(float x) { return x; }
TFO_HD inline double ToCompute(double x) { return x; }

TFO_HD inline float ToCompute(BFloat16 x) {
  return BitCast<float>(static_cast<uint32_t>(x.bits) << 16);
}

TFO_HD inline float ToCompute(Float16 x) {
#ifdef __CUDA_ARCH__  // the same numbers, from one instruction
  return __half2float(__ushort_as_half(x.bits));
#else
  const uint32_t sign = static_cast<uint32_t>(x.bits & 0x8000) << 16;
  const uint32_t exponent = (x.bits >> 10) & 31;
  const uint32_t mantissa = x.bits & 0x3ff;
  if (exponent == 0) {  // zero and subnormals: exact multiples of 2^-24
    const float magnitude = static_cast<float>(mantissa) * 0x1p-24f;
    return BitCast<float>(BitCast<uint32_t>(magnitude) | sign);
  }
  if (exponent == 31) {
    const uint32_t quiet = mantissa ? 0x400000 : 0;
    return BitCast<float>(sign | 0x7f800000 | (mantissa << 13) | quiet);
  }
  return BitCast<float>(sign | ((exponent + 112) << 23) | (mantissa << 13));
#endif
}

TFO_HD inline void FromCompute(float x, float* out) { *out = x; }
TFO_HD inline void FromCompute(double x, double* out) { *out = x; }

TFO_HD inline void FromCompute(float x, BFloat16* out) {
  const uint32_t bits = BitCast<uint32_t>(x);
  const uint32_t is_nan = (bits & 0x7fffffff) > 0x7f800000;
  const uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  const uint32_t nan = ((bits >> 16) & 0x8000) | 0x7fc0;
  out->bits = static_cast<uint16_t>(is_nan ? nan : rounded);
}

TFO_HD inline void FromCompute(float x, Float16* out) {
#ifdef __CUDA_ARCH__
  out->bits = __half_as_ushort(__float2half_rn(x));
#else
  const uint32_t bits = BitCast<uint32_t>(x);
  const uint32_t sign = (bits >> 16) & 0x8000;
  const uint32_t magnitude = bits & 0x7fffffff;
  uint32_t half;
  if (magnitude > 0x7f800000) {  // NaN keeps its top bits and becomes quiet
    half = 0x7e00 | ((magnitude >> 13) & 0x3ff);
  } else if (magnitude >= 0x477ff000) {  // 65520 and more round to infinity
    half = 0x7c00;
  } else if (magnitude >= 0x38800000) {
    const uint32_t rebased = magnitude - (112u << 23);
    half = (rebased + 0xfff + ((rebased >> 13) & 1)) >> 13;
  } else if (magnitude > 0x33000000) {  // subnormal: multiples of 2^-24
    const uint32_t shift = 126 - (magnitude >> 23);
    const uint32_t mantissa = (magnitude & 0x7fffff) | 0x800000;
    const uint32_t rest = mantissa & ((1u << shift) - 1);
    const uint32_t tie = 1u << (shift - 1);
    half = mantissa >> shift;
    half += rest > tie || (rest == tie && (half & 1));
  } else {
    half = 0;
  }
  out->bits = static_cast<uint16_t>(sign | half);
#endif
}

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_VALUES_STORAGE_H_
