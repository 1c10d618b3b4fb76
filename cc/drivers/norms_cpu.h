// The loops that measure gradients. Compiled once per instruction set.
#ifndef TF_OPTIM_CC_DRIVERS_NORMS_CPU_H_
#define TF_OPTIM_CC_DRIVERS_NORMS_CPU_H_

#include <algorithm>
#include <cmath>
#include <utility>

#include "cc/drivers/norms.h"
#include "cc/drivers/rows_cpu.h"

namespace tf_optim {

// A sum of squares in 32 chains of double: element i of each run belongs to
// chain i % 32, whichever vectors there are.
template <class Isa, class T>
class SumOfSquares {
  using L = Lanes<Isa, T>;
  using C = ComputeType<T>;
  using D = hn::ScalableTag<double>;
  static constexpr int64_t kLanes = L::kLanes;
  static constexpr size_t kVectors = kChains / hn::MaxLanes(D());

 public:
  HWY_INLINE SumOfSquares() {
    for (auto& chains : chains_) chains = hn::Zero(D());
  }

  HWY_INLINE void Add(const T* p, int64_t size) {
    Add(p, size, std::make_index_sequence<kChains / kLanes>());
  }

  // Of a run of at most one vector.
  HWY_INLINE void AddShort(const T* p, int64_t size) { AddRest<0>(p, size); }

  HWY_INLINE double Total() const {
    alignas(64) double sums[kChains];
    for (size_t v = 0; v < kVectors; ++v) {
      hn::Store(chains_[v], D(), sums + v * hn::MaxLanes(D()));
    }
    for (int64_t half = kChains / 2; half > 0; half /= 2) {
      for (int64_t k = 0; k < half; ++k) sums[k] += sums[k + half];
    }
    return sums[0];
  }

 private:
  // Every chain has a number that the compiler knows: they stay in registers.
  template <size_t... v>
  HWY_INLINE void Add(const T* p, int64_t size, std::index_sequence<v...>) {
    for (; size >= kChains; size -= kChains, p += kChains) {
      (AddVector<v>(L::Load(p + v * kLanes)), ...);
    }
    (AddRest<v>(p + v * kLanes, size - static_cast<int64_t>(v) * kLanes), ...);
  }

  template <size_t v>
  HWY_INLINE void AddRest(const T* p, int64_t size) {
    if (size >= kLanes) {
      AddVector<v>(L::Load(p));
    } else if (size > 0) {
      AddVector<v>(L::Load(p, size));
    }
  }

  template <size_t v>
  HWY_INLINE void AddVector(Simd<Isa, C> x) {
    if constexpr (std::is_same_v<C, double>) {
      chains_[v] = hn::Add(chains_[v], hn::Mul(x.raw, x.raw));
    } else {
      // The square of a float is exact in double: fused or not, the bits are
      // the same.
      const hn::Half<hn::ScalableTag<C>> half;
      const auto low = hn::PromoteTo(D(), hn::LowerHalf(half, x.raw));
      const auto high = hn::PromoteTo(D(), hn::UpperHalf(half, x.raw));
      chains_[2 * v] = hn::MulAdd(low, low, chains_[2 * v]);
      chains_[2 * v + 1] = hn::MulAdd(high, high, chains_[2 * v + 1]);
    }
  }

  hn::Vec<D> chains_[kVectors];
};

template <class T>
class SumOfSquares<Scalar, T> {
 public:
  void AddShort(const T* p, int64_t size) { Add(p, size); }

  void Add(const T* p, int64_t size) {
    for (int64_t i = 0; i < size; ++i) {
      const double x = ToCompute(p[i]);
      chains_[i % kChains] += x * x;
    }
  }

  double Total() const {
    double sums[kChains];
    std::copy(chains_, chains_ + kChains, sums);
    for (int64_t half = kChains / 2; half > 0; half /= 2) {
      for (int64_t k = 0; k < half; ++k) sums[k] += sums[k + half];
    }
    return sums[0];
  }

 private:
  double chains_[kChains] = {};
};

template <class Isa, class T>
HWY_INLINE int64_t CountNonFinite(const T* p, int64_t size) {
  int64_t count = 0;
  for (int64_t i = 0; i < size; ++i) count += !std::isfinite(ToCompute(p[i]));
  return count;
}

// A sum of squares that is finite has no part that is not.
template <class Isa, class T>
GradientNorm MeasureSpan(const T* grad, int64_t size) {
  SumOfSquares<Isa, T> squares;
  const int64_t stream = size / (kNormStreams * kChains) * kChains;
  for (int64_t i = 0; i < stream; i += kChains) {
    for (int64_t s = 0; s < kNormStreams; ++s) {
      squares.Add(grad + s * stream + i, kChains);
    }
  }
  squares.Add(grad + kNormStreams * stream, size - kNormStreams * stream);
  GradientNorm norm;
  norm.squares = squares.Total();
  if (!std::isfinite(norm.squares)) {
    norm.non_finite = CountNonFinite<Isa>(grad, size);
  }
  return norm;
}

// Calls visit(data, size) for the parts of the summed row of the sorted
// positions [begin, end), which share one id.
template <class Isa, class T, class Visit>
HWY_INLINE void VisitSummedRow(const T* grad, int64_t width,
                               const SortedIds& ids, int64_t begin, int64_t end,
                               const Visit& visit) {
  if (end - begin == 1) {
    visit(grad + ids.position(begin) * width, width);
    return;
  }
  ComputeType<T> sum[kSumBlock];
  for (int64_t column = 0; column < width; column += kSumBlock) {
    const int64_t size = std::min(kSumBlock, width - column);
    SumGradients<Isa>(grad, width, column, size, ids, begin, end, sum);
    visit(static_cast<const ComputeType<T>*>(sum), size);
  }
}

// Two sums, since a summed row lies in the computation type.
template <class Isa, class T>
struct SumsOfSquares {
  SumOfSquares<Isa, T> stored;
  SumOfSquares<Isa, ComputeType<T>> summed;

  HWY_INLINE void operator()(const T* p, int64_t size) { stored.Add(p, size); }
  template <class C, class = std::enable_if_t<!std::is_same_v<C, T>>>
  HWY_INLINE void operator()(const C* p, int64_t size) {
    summed.Add(p, size);
  }
};

template <class Isa, class T>
GradientNorm MeasureRows(const T* grad, int64_t width, const SortedIds& ids,
                         int64_t begin, int64_t end) {
  while (begin < end && !ids.begins_run(begin)) ++begin;
  const auto for_each_row = [&](const auto& visit) {
    int64_t prefetched = begin;
    for (int64_t i = begin; i < end;) {
      const int64_t run_end = RunEnd<Isa>(ids, i);
      const int64_t ahead = std::min(ids.count, run_end + kPrefetchRows);
      for (; prefetched < ahead; ++prefetched) {
        PrefetchRow<Isa>(grad + ids.position(prefetched) * width, width);
      }
      visit(i, run_end);
      i = run_end;
    }
  };
  GradientNorm norm;
  SumsOfSquares<Isa, T> squares;
  const bool is_short = width <= Lanes<Isa, T>::kLanes;
  for_each_row([&](int64_t from, int64_t to) {
    ++norm.rows;
    if (is_short && to - from == 1) {
      squares.stored.AddShort(grad + ids.position(from) * width, width);
      return;
    }
    VisitSummedRow<Isa>(grad, width, ids, from, to,
                        [&](const auto* p, int64_t size) { squares(p, size); });
  });
  norm.squares = squares.stored.Total() + squares.summed.Total();
  if (!std::isfinite(norm.squares)) {
    for_each_row([&](int64_t from, int64_t to) {
      VisitSummedRow<Isa>(grad, width, ids, from, to,
                          [&](const auto* p, int64_t size) {
                            norm.non_finite += CountNonFinite<Isa>(p, size);
                          });
    });
  }
  return norm;
}

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_DRIVERS_NORMS_CPU_H_
