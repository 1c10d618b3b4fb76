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

// Rows of gradient that a thread waits for at a time. A row has its variable
// and slots to wait for as well.
inline constexpr int kRowsOfRun = 4, kRowsOfPiece = 8;

// sum += what `at(i)` points to, for i = begin, begin + stride, ... in their
// order; `batch` of them are loaded before the first is added. Where most come
// in whole batches, these need no predicates.
template <int batch, bool whole_batches, int count, class T, class At>
TFO_HD inline void AddInBatches(uint32_t begin, uint32_t end, uint32_t stride,
                                const At& at, ComputeType<T>* sum) {
  const auto add_batch = [&](uint32_t first, const auto& has) {
    ComputeType<T> rows[batch][count] = {};
    TFO_UNROLL
    for (int b = 0; b < batch; ++b) {
      const uint32_t i = first + b * stride;
      if (has(i)) LoadPack<count>(at(i), rows[b]);
    }
    TFO_UNROLL
    for (int b = 0; b < batch; ++b) {
      if (!has(first + b * stride)) break;
      TFO_UNROLL
      for (int k = 0; k < count; ++k) sum[k] += rows[b][k];
    }
  };
  uint32_t first = begin;
  if constexpr (whole_batches) {
    for (; first + (batch - 1) * stride < end; first += batch * stride) {
      add_batch(first, [](uint32_t) { return true; });
    }
  }
  for (; first < end; first += batch * stride) {
    add_batch(first, [end](uint32_t i) { return i < end; });
  }
}

// The sum of the gradient columns [column, column + count) of sorted positions,
// which are one at least.
template <int batch, bool whole_batches, int count, class T>
TFO_HD inline void SumRows(const IdEntry& entry, int64_t column,
                           const Run& positions, ComputeType<T>* sum) {
  const GpuIds ids = entry.ids();
  const T* grad = static_cast<const T*>(entry.grad) + column;
  const int64_t width = entry.width;
  const auto at = [&](uint32_t i) { return grad + ids.Position(i) * width; };
  LoadPack<count>(at(positions.begin), sum);
  AddInBatches<batch, whole_batches, count, T>(positions.begin + 1,
                                               positions.end, 1, at, sum);
}

// The same of a whole run: its first rows, then the sums of its pieces.
template <int count, class T>
TFO_HD inline void SumRun(const IdEntry& entry, int64_t column, const Run& run,
                          ComputeType<T>* sum) {
  using C = ComputeType<T>;
  const uint32_t first_end = run.begin + kMinPiece;
  if (run.end <= first_end) {
    return SumRows<kRowsOfRun, false, count, T>(entry, column, run, sum);
  }
  SumRows<kRowsOfRun, false, count, T>(entry, column, {run.begin, first_end},
                                       sum);
  const C* sums = static_cast<const C*>(entry.pieces) + column;
  const int64_t width = entry.width;
  const Pieces pieces(run);
  AddInBatches<kRowsOfRun, false, count, C>(
      pieces.begin, run.end, pieces.length(),
      [&](uint32_t i) { return sums + i / kMinPiece * width; }, sum);
}

// Asks for memory that is read soon; without a register to wait in.
TFO_HD inline void Prefetch([[maybe_unused]] const void* address) {
#ifdef __CUDA_ARCH__
  asm volatile("prefetch.global.L1 [%0];" ::"l"(address));
#endif
}

template <class Rule, class T, RowSource source>
struct RowBody {
  using C = ComputeType<T>;
  static constexpr bool kByRow = Rule::kMeansOver == Over::kRow;
  // Where ptxas would spill to fit in a block more (tests/gpu_compile_test.py).
  static constexpr bool kSumsTwice = kByRow && source != RowSource::kDense;
  static constexpr int kMinGpuBlocks = sizeof(T) == 4 ? (kSumsTwice ? 3 : 0)
                                       : sizeof(T) == 8 || kSumsTwice ? 2
                                                                      : 0;
  static_assert(kByRow || Rule::kRowSlots == 0,
                "a row slot needs a pass that sees whole rows");

  GpuTable<RowEntry<Rule, T>> table;
  GpuShared<Rule, T> shared;

  // A thread's share of a row, in registers.
  struct State {
    int number;  // of the table's entry
    int lane;
    int64_t block;  // of the entry's
    Variable<Rule, T> variable;
    CoefficientsOf<Rule, T> coefficients;
    int64_t row = -1;  // none
    Run run;
    RowSlots<Rule, T> row_slots;
    // Of its first columns, if they are measured before they are updated.
    Loaded<Rule, T> loaded;
    C gradient[kPack<T>];
  };

  // Threads that share a row, and rows that they take in turn.
  TFO_HD int Lanes(int64_t block) const {
    return IdsOf(table.Find(block)).lanes();
  }
  TFO_HD int Turns(int64_t block) const {
    // Known to the compiler: without the loop a thread needs 46 registers, not
    // 54.
    if (source == RowSource::kDense) return 1;
    return IdsOf(table.Find(block)).turns();
  }

  TFO_HD State Start(int64_t block, int thread) const {
    State state;
    state.number = table.Find(block);
    state.block = block - table.first_block[state.number];
    state.lane = LaneOf(thread, IdsOf(state.number).lane_bits);
    state.variable =
        shared.VariableAt(table.entries[state.number].rule, state.number);
    state.coefficients = *shared.coefficients;
    return state;
  }

  // Looks up the row of a turn.
  TFO_HD void Take(int turn, int thread, State* state) const {
    state->row = -1;
    FindRow(turn, thread, state);
    if (state->row < 0) return;
    ForEachField(state->row_slots.before, [&](auto s, auto& slot) {
      if constexpr (kIsPresent<decltype(slot)> && IsRowSlot<Rule>(s())) {
        slot = state->variable.slots[s()][state->row];
      }
    });
  }

  TFO_HD void operator()(int64_t block, int thread) const {
    GpuSums<Rule> unused;
    VisitAll<GpuPass::kUpdate>(block, thread, &unused);
  }

  // Means over the variable: a pass of its own.
  TFO_HD GpuSums<Rule> Measure(int64_t block, int thread) const {
    GpuSums<Rule> sums;
    VisitAll<GpuPass::kMeasure>(block, thread, &sums);
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
    if (state->row < 0) return;
    const auto width = static_cast<double>(IdsOf(state->number).width);
    GpuSums<Rule> unused;
    Visit<GpuPass::kUpdate>(state, of_row.template Means<T>(width), &unused);
    if (state->lane != 0) return;
    ForEachField(state->row_slots.after, [&](auto s, auto& slot) {
      if constexpr (kIsPresent<decltype(slot)> && IsRowSlot<Rule>(s())) {
        state->variable.slots[s()][state->row] = slot;
      }
    });
  }

 private:
  // By its number, which leaves it in constant memory.
  TFO_HD const IdEntry& IdsOf(int number) const {
    return table.entries[number].ids;
  }

  template <GpuPass pass>
  TFO_HD void VisitAll(int64_t block, int thread, GpuSums<Rule>* sums) const {
    State state = Start(block, thread);
    const int turns = Turns(block);
    for (int turn = 0; turn < turns; ++turn) {
      Take(turn, thread, &state);
      Visit<pass>(&state, state.variable.means, sums);
    }
  }

  // The row, or the position among the ids, of a turn.
  TFO_HD int64_t UnitOf(const State& state, int turn, int thread) const {
    const IdEntry& entry = IdsOf(state.number);
    return tf_optim::UnitOf((state.block << entry.turn_bits) + turn, thread,
                            entry.lane_bits);
  }

  TFO_HD void FindRow(int turn, int thread, State* state) const {
    const IdEntry& entry = IdsOf(state->number);
    if (entry.width == 0) return;
    const int64_t unit = UnitOf(*state, turn, thread);
    if constexpr (source == RowSource::kDense) {
      if (unit < entry.rows) state->row = unit;
    } else {
      const GpuIds ids = entry.ids();
      if constexpr (source == RowSource::kNamed) {
        if (unit >= ids.count) return;
        const int64_t next = unit + (kGpuThreads >> entry.lane_bits);
        if (turn + 1 < entry.turns() && next < ids.count) {
          Prefetch(ids.keys + next);
        }
        const uint32_t begin = static_cast<uint32_t>(unit);
        if (!BeginsRun(ids, begin)) return;
        const int64_t row =
            static_cast<int64_t>(ids.Id(begin)) - entry.first_row;
        if (row >= entry.rows) return;  // an id outside the table
        state->row = row;
        state->run = {begin, RunEndAfter(ids, begin)};
      } else {
        if (unit >= entry.rows) return;
        state->row = unit;
        state->run = {};
        const auto id = static_cast<uint64_t>(entry.first_row + unit);
        const uint32_t begin = LowerBound(ids, id);
        if (begin < ids.count && ids.Id(begin) == id) {
          state->run = {begin, RunEndAfter(ids, begin)};
        }
      }
    }
  }

  template <GpuPass pass>
  TFO_HD void Visit(State* state, const MeansOf<Rule, T>& means,
                    GpuSums<Rule>* sums) const {
    if (state->row < 0) return;
    if (IdsOf(state->number).packed) {
      VisitPacks<pass, kPack<T>>(state, means, sums);
    } else {
      VisitPacks<pass, 1>(state, means, sums);
    }
  }

  template <GpuPass pass, int count>
  TFO_HD void VisitPacks(State* state, const MeansOf<Rule, T>& means,
                         GpuSums<Rule>* sums) const {
    const IdEntry& entry = IdsOf(state->number);
    const int64_t first = state->row * entry.width;
    const int64_t stride = int64_t{entry.lanes()} * count;
    int64_t column = int64_t{state->lane} * count;
    const auto run = [&](const Loaded<Rule, T>& loaded, const C* g) {
      RunPack<pass, count>(state->variable, state->coefficients, first + column,
                           g, means, loaded, &state->row_slots, sums);
    };
    if constexpr (kByRow && !Rule::kMeasureChangesSlots) {
      // Means over a row need its gradient twice.
      if (column >= entry.width) return;
      if (pass == GpuPass::kMeasure) {
        state->loaded.template Load<count>(state->variable, first + column);
        Gradient<count>(*state, column, state->gradient);
      }
      run(state->loaded, state->gradient);
      column += stride;
    }
    for (; column < entry.width; column += stride) {
      Loaded<Rule, T> loaded;
      loaded.template Load<count>(state->variable, first + column);
      C g[count] = {};
      // Or the slots have taken the gradient in.
      if (!Rule::kMeasureChangesSlots || pass == GpuPass::kMeasure) {
        Gradient<count>(*state, column, g);
      }
      run(loaded, g);
    }
  }

  template <int count>
  TFO_HD void Gradient(const State& state, int64_t column, C* g) const {
    const IdEntry& entry = IdsOf(state.number);
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
void RunGpuRowPasses(Device* device, Body* body, int64_t blocks,
                     bool is_cautious) {
  if constexpr (Rule::kMeansOver == Over::kRow) {
    device->LaunchRowMeans(*body, blocks);
  } else {
    RunGpuPasses<Rule, T>(device, body, blocks, is_cautious);
  }
}

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_DRIVERS_GPU_ROWS_H_
