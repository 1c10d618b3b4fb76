// Lists of variables of awkward sizes, in memory of exactly their size, and a
// step of the CPU drivers over them.
#ifndef TF_OPTIM_CC_TESTS_LISTS_H_
#define TF_OPTIM_CC_TESTS_LISTS_H_

#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include "cc/cpu/kernels.h"
#include "cc/drivers/dense_cpu.h"
#include "cc/drivers/sparse_cpu.h"
#include "cc/kernels/share.h"
#include "cc/tests/testing.h"

namespace tf_optim {

// Numbers that look random, between 0 and 1.
class Numbers {
 public:
  double Next() {
    state_ = state_ * 6364136223846793005u + 1442695040888963407u;
    return static_cast<double>(state_ >> 40) / (1 << 24);
  }
  int64_t Below(int64_t n) {
    return static_cast<int64_t>(Next() * static_cast<double>(n));
  }

 private:
  uint64_t state_ = 1;
};

template <class T>
using Array = std::unique_ptr<T[]>;  // exactly its size: no capacity behind

template <class T>
Array<T> Draw(int64_t size, Numbers* numbers) {
  Array<T> array(new T[size]);
  for (int64_t i = 0; i < size; ++i) {
    const float value = static_cast<float>(numbers->Next());
    if constexpr (sizeof(T) == 2) {
      std::memcpy(&array[i], reinterpret_cast<const char*>(&value) + 2, 2);
    } else {
      array[i] = static_cast<T>(value);
    }
  }
  return array;
}

// What slots are kept in, what they are rounded by (0 is to nearest), and
// whether steps are cautious.
struct SlotStorage {
  SlotFormat format = SlotFormat::kPlain;
  uint64_t rounding = 0;
  bool is_cautious = false;
};

// Of a sparse gradient.
struct Ids {
  const int64_t* indices;
  int64_t count, rows;
};

// Variables [rows, width] with all that a step needs. Packed slots begin at 0.
template <class Rule, class T>
struct List {
  using C = ComputeType<T>;

  List(const std::vector<std::pair<int64_t, int64_t>>& shapes, bool sparse,
       SlotStorage storage) {
    Numbers numbers;
    for (const auto& [rows, width] : shapes) {
      const int64_t count = sparse && rows > 0 ? rows + 5 : 0;
      const int64_t size = rows * width;
      vars.push_back(Draw<T>(size, &numbers));
      sizes.push_back(size);
      grads.push_back(Draw<T>(sparse ? count * width : size, &numbers));
      ids.emplace_back(new int64_t[count]);
      for (int64_t i = 0; i < count; ++i) ids.back()[i] = numbers.Below(rows);
      Variable<Rule, T> variable;
      variable.var = vars.back().get();
      variable.width = rows > 0 ? width : 0;
      variable.format = storage.format;
      variable.rounding = storage.rounding;
      variable.rounds_var = storage.rounding != 0;
      variable.is_cautious = storage.is_cautious;
      for (size_t s = 0; s < kSlotFields<Rule>; ++s) {
        if (!(SlotMask<Rule>() >> s & 1)) continue;
        if (storage.format != SlotFormat::kPlain && !IsRowSlot<Rule>(s)) {
          const int64_t bytes = storage.format == SlotFormat::k8Bits
                                    ? rows * PackedRow{width}.bytes()
                                    : size * int64_t{sizeof(BFloat16)};
          packed.emplace_back(new uint8_t[bytes]());
          packed_sizes.push_back(bytes);
          variable.packed[s] = packed.back().get();
          continue;
        }
        const int64_t slot_size = IsRowSlot<Rule>(s) ? rows : size;
        slots.push_back(Draw<C>(slot_size, &numbers));
        slot_sizes.push_back(slot_size);
        variable.slots[s] = slots.back().get();
      }
      SetClipAndDecay(0.5, 0.25, 0.01, &variable);
      dense.push_back({variable, grads.back().get(), size});
      rows_of.push_back({variable, grads.back().get(), rows});
      ids_of.push_back({ids.back().get(), count, rows});
    }
  }

  // Calls f(memory, bytes) for each array that a step writes.
  template <class F>
  void ForEachArray(const F& f) const {
    const auto each = [&](const auto& arrays,
                          const std::vector<int64_t>& counts) {
      for (size_t i = 0; i < arrays.size(); ++i) {
        f(static_cast<const void*>(arrays[i].get()),
          counts[i] * static_cast<int64_t>(sizeof(arrays[i][0])));
      }
    };
    each(vars, sizes);
    each(slots, slot_sizes);
    each(packed, packed_sizes);
  }

  bool operator==(const List& other) const {
    std::vector<const void*> others;
    other.ForEachArray(
        [&](const void* memory, int64_t) { others.push_back(memory); });
    bool same = true;
    size_t i = 0;
    ForEachArray([&](const void* memory, int64_t bytes) {
      same &= bytes == 0 || std::memcmp(memory, others[i], bytes) == 0;
      ++i;
    });
    return same;
  }

  std::vector<Array<T>> vars, grads;
  std::vector<Array<C>> slots;
  std::vector<Array<uint8_t>> packed;
  std::vector<Array<int64_t>> ids;
  std::vector<int64_t> sizes, slot_sizes, packed_sizes;
  std::vector<DenseItem<Rule, T>> dense;
  std::vector<SparseItem<Rule, T>> rows_of;
  std::vector<Ids> ids_of;
};

enum class Kind { kDense, kLazy, kAllRows };

// Two steps; packed slots have left 0 by the second.
template <class Rule, class T>
std::unique_ptr<List<Rule, T>> Stepped(Kind kind, SlotStorage storage,
                                       const CpuKernels<Rule, T>& kernels,
                                       int64_t threads,
                                       UpdateNorms<T>* norms = nullptr) {
  const std::vector<std::pair<int64_t, int64_t>> shapes = {
      {1, 1}, {7, 3}, {0, 4}, {5, 0}, {40, 33}, {3, 700}, {900, 1}, {301, 17}};
  auto list =
      std::make_unique<List<Rule, T>>(shapes, kind != Kind::kDense, storage);
  typename Rule::template Hyper<double> hyper;
  ForEachField(hyper, [](auto i, double& x) { x = i() < 2 ? 0.9 : 1e-3; });
  Threads pool;
  const ParallelFor shared =
      ShareAmong(threads, [&](Task task) { pool.Start(std::move(task)); });
  // Dear, so that so little work is shared at all.
  const ParallelFor parallel_for = [&](int64_t total, double, const auto& f) {
    shared(total, 1e6, f);
  };
  std::vector<IdSorter> sorters;
  if (kind != Kind::kDense) {
    EXPECT(SortItems(list->ids_of, parallel_for, &sorters).item < 0);
  }
  for (const double number : {3.0, 4.0}) {
    const auto coefficients =
        PrepareAs<Rule, ComputeType<T>>(hyper, {0.01, number});
    if (kind == Kind::kDense) {
      ApplyDense(&list->dense, coefficients, kernels, parallel_for, {}, norms);
    } else {
      ApplySparse(&list->rows_of, sorters,
                  kind == Kind::kLazy ? SparseMode::kLazy : SparseMode::kDense,
                  coefficients, kernels, parallel_for, {}, norms);
    }
  }
  return list;
}

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_TESTS_LISTS_H_
