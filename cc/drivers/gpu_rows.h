// Rows on the GPU: a power of two of threads, or a block, shares a row. Each
// thread takes packs of columns, adds up their gradient in registers and
// applies the rule to it.
#ifndef TF_OPTIM_CC_DRIVERS_GPU_ROWS_H_
#define TF_OPTIM_CC_DRIVERS_GPU_ROWS_H_

#include <cstdint>

#include "cc/drivers/gpu_runs.h"
#include "cc/drivers/gpu_spans.h"
#include "cc/drivers/gpu_table.h"

namespace tf_optim {

// Which rows a pass visits, and where their gradients are.
enum class RowSource {
  kDense,  // every row; its gradient lies where it does
  kNamed,  // the rows whose ids begin a run
  kAll,    // every row; one without an id has a zero gradient
};

template <class Rule, class T>
struct RowEntry {
  RuleEntry<Rule, T> rule;
  IdEntry ids;
};

// The rows of the item, and how its threads share one.
template <class Rule, class T>
RowEntry<Rule, T> RowEntryOf(const GpuItem& item, int32_t number) {
  RowEntry<Rule, T> entry = {RuleEntry<Rule, T>(item, number), IdEntry()};
  entry.rule.packed = entry.rule.packed && item.width % kPack<T> == 0;
  entry.ids.grad = item.grad;
  entry.ids.rows = item.rows;
  entry.ids.width = item.width;
  entry.ids.item = number;
  entry.ids.packed = entry.rule.packed;
  entry.ids.lane_bits =
      LaneBitsFor(entry.rule.packed ? item.width / kPack<T> : item.width);
  return entry;
}

// sum += the gradient columns [column, column + count) of sorted positions
// [begin, end), in their order.
template <int count, class T>
TFO_HD inline void AddRows(const IdEntry& entry, int64_t column, int64_t begin,
                           int64_t end, ComputeType<T>* sum) {
  const SortedIds ids = entry.ids();
  const T* grad = static_cast<const T*>(entry.grad) + column;
  TFO_UNROLL_BY_4
  for (int64_t i = begin; i < end; ++i) {
    ComputeType<T> row[count];
    LoadPack<count>(grad + ids.position(i) * entry.width, row);
    TFO_UNROLL
    for (int k = 0; k < count; ++k) sum[k] += row[k];
  }
}

// The same of a whole run: its first piece, then the sums of the others.
template <int count, class T>
TFO_HD inline void SumRun(const IdEntry& entry, int64_t column, const Run& run,
                          ComputeType<T>* sum) {
  using C = ComputeType<T>;
  const int64_t length = int64_t{1} << PieceBits(run.end - run.begin);
  const int64_t first_end =
      run.begin + length < run.end ? run.begin + length : run.end;
  const SortedIds ids = entry.ids();
  LoadPack<count>(static_cast<const T*>(entry.grad) +
                      ids.position(run.begin) * entry.width + column,
                  sum);
  AddRows<count, T>(entry, column, run.begin + 1, first_end, sum);
  const C* pieces = static_cast<const C*>(entry.pieces) + column;
  TFO_UNROLL_BY_4
  for (int64_t i = first_end; i < run.end; i += length) {
    C piece[count];
    LoadPack<count>(pieces + i / kMinPiece * entry.width, piece);
    TFO_UNROLL
    for (int k = 0; k < count; ++k) sum[k] += piece[k];
  }
}

template <class Rule, class T, RowSource source>
struct RowBody {
  using C = ComputeType<T>;
  static constexpr bool kByRow = Rule::kMeansOver == Over::kRow;
  // Where ptxas would spill to fit in a block more (tests/gpu_compile_test.py).
  static constexpr int kMinGpuBlocks = sizeof(T) == 8 ? 2
                                       : kByRow && source == RowSource::kAll
                                           ? 3
                                           : 0;
  static_assert(kByRow || Rule::kRowSlots == 0,
                "a row slot needs a pass that sees whole rows");

  GpuTable<RowEntry<Rule, T>> table;
  GpuShared<Rule, T> shared;

  // A thread's share of one row, in registers.
  struct State {
    const RowEntry<Rule, T>* entry;
    Variable<Rule, T> variable;
    CoefficientsOf<Rule, T> coefficients;
    RowSlots<Rule, T> row_slots;
    int lane;
    int64_t row = -1;  // none
    Run run;
    C kept[kPack<T>];  // the gradient of its first columns, if measured
  };

  TFO_HD int Lanes(int64_t block) const {
    return table.entries[table.Find(block)].ids.lanes();
  }

  TFO_HD State Start(int64_t block, int thread) const {
    State state;
    const int number = table.Find(block);
    state.entry = &table.entries[number];
    const IdEntry& entry = state.entry->ids;
    state.lane = LaneOf(thread, entry.lane_bits);
    FindRow(UnitOf(block - table.first_block[number], thread, entry.lane_bits),
            &state);
    if (state.row < 0) return state;
    state.variable = shared.VariableAt(state.entry->rule, number);
    state.coefficients = *shared.coefficients;
    ForEachField(state.row_slots.before, [&](auto s, auto& slot) {
      if constexpr (kIsPresent<decltype(slot)> && IsRowSlot<Rule>(s())) {
        slot = state.variable.slots[s()][state.row];
      }
    });
    return state;
  }

  TFO_HD void operator()(int64_t block, int thread) const {
    State state = Start(block, thread);
    GpuSums<Rule> unused;
    Visit<GpuPass::kUpdate>(&state, state.variable.means, &unused);
  }

  // Means over the variable: a pass of its own.
  TFO_HD GpuSums<Rule> Measure(int64_t block, int thread) const {
    State state = Start(block, thread);
    GpuSums<Rule> sums;
    Visit<GpuPass::kMeasure>(&state, {}, &sums);
    return sums;
  }
  TFO_HD void Store(int64_t block, const GpuSums<Rule>& total) const {
    shared.parts[block] = total;
  }

  // Means over each row: between the two the row's threads add up their sums.
  TFO_HD GpuSums<Rule> MeasureRow(State* state) const {
    GpuSums<Rule> sums;
    Visit<GpuPass::kMeasure>(state, {}, &sums);
    return sums;
  }
  TFO_HD void UpdateRow(State* state, const GpuSums<Rule>& of_row) const {
    GpuSums<Rule> unused;
    Visit<GpuPass::kUpdate>(state, of_row.template Means<T>(), &unused);
    if (state->row < 0 || state->lane != 0) return;
    ForEachField(state->row_slots.after, [&](auto s, auto& slot) {
      if constexpr (kIsPresent<decltype(slot)> && IsRowSlot<Rule>(s())) {
        state->variable.slots[s()][state->row] = slot;
      }
    });
  }

 private:
  TFO_HD void FindRow(int64_t unit, State* state) const {
    const IdEntry& entry = state->entry->ids;
    if (entry.width == 0) return;
    if constexpr (source == RowSource::kDense) {
      if (unit < entry.rows) state->row = unit;
    } else {
      const SortedIds ids = entry.ids();
      if constexpr (source == RowSource::kNamed) {
        if (unit >= ids.count || !BeginsRun(ids, unit)) return;
        const int64_t row = ids.id(unit) - entry.first_row;
        if (row >= entry.rows) return;  // an id outside the table
        state->row = row;
        state->run = {unit, RunEndAfter(ids, unit)};
      } else {
        if (unit >= entry.rows) return;
        state->row = unit;
        const int64_t id = entry.first_row + unit;
        const int64_t begin = LowerBound(ids, id);
        if (begin < ids.count && ids.id(begin) == id) {
          state->run = {begin, RunEndAfter(ids, begin)};
        }
      }
    }
  }

  template <GpuPass pass>
  TFO_HD void Visit(State* state, const MeansOf<Rule, T>& means,
                    GpuSums<Rule>* sums) const {
    if (state->row < 0) return;
    if (state->entry->ids.packed) {
      VisitPacks<pass, kPack<T>>(state, means, sums);
    } else {
      VisitPacks<pass, 1>(state, means, sums);
    }
  }

  template <GpuPass pass, int count>
  TFO_HD void VisitPacks(State* state, const MeansOf<Rule, T>& means,
                         GpuSums<Rule>* sums) const {
    const IdEntry& entry = state->entry->ids;
    const int64_t stride = int64_t{entry.lanes()} * count;
    int64_t column = int64_t{state->lane} * count;
    const auto run = [&](const C* g) {
      RunPack<pass, count>(state->variable, state->coefficients,
                           state->row * entry.width + column, g, means,
                           &state->row_slots, sums);
    };
    if constexpr (kByRow && !Rule::kMeasureChangesSlots) {
      // Means over a row need its gradient twice.
      if (column >= entry.width) return;
      if (pass == GpuPass::kMeasure) {
        Gradient<count>(*state, column, state->kept);
      }
      run(state->kept);
      column += stride;
    }
    for (; column < entry.width; column += stride) {
      C g[count] = {};
      // Or the slots have taken the gradient in.
      if (!Rule::kMeasureChangesSlots || pass == GpuPass::kMeasure) {
        Gradient<count>(*state, column, g);
      }
      run(g);
    }
  }

  template <int count>
  TFO_HD void Gradient(const State& state, int64_t column, C* g) const {
    const IdEntry& entry = state.entry->ids;
    if constexpr (source == RowSource::kDense) {
      LoadPack<count>(
          static_cast<const T*>(entry.grad) + state.row * entry.width + column,
          g);
    } else if (source == RowSource::kAll && state.run.begin == state.run.end) {
      TFO_UNROLL
      for (int i = 0; i < count; ++i) g[i] = C(0);
    } else {
      SumRun<count, T>(entry, column, state.run, g);
    }
  }
};

// Runs a row body the way its rule's means ask for.
template <class Rule, class T, class Body, class Device>
void RunGpuRowPasses(Device* device, Body* body, int64_t blocks) {
  if constexpr (Rule::kMeansOver == Over::kRow) {
    device->LaunchRowMeans(*body, blocks);
  } else {
    RunGpuPasses<Rule, T>(device, body, blocks);
  }
}

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_DRIVERS_GPU_ROWS_H_
