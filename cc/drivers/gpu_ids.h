// From the ids of sparse gradients to sorted keys and the sums of long runs'
// pieces: the part of a sparse step that no rule changes.
#ifndef TF_OPTIM_CC_DRIVERS_GPU_IDS_H_
#define TF_OPTIM_CC_DRIVERS_GPU_IDS_H_

#include <algorithm>
#include <cstdint>

#include "cc/drivers/gpu.h"
#include "cc/drivers/gpu_rows.h"
#include "cc/drivers/gpu_runs.h"
#include "cc/drivers/gpu_table.h"
#include "cc/drivers/sort_ids.h"

namespace tf_optim {

using IdTable = GpuTable<IdEntry>;

// Elements: every table's sums begin at a multiple of 16 bytes.
inline constexpr int64_t kPieceAlignment = 16;

// The least of what all threads bring: an order-free sum up, so it is the same
// whichever thread is first.
TFO_HD inline void StoreMin(uint64_t* least, uint64_t value) {
#ifdef __CUDA_ARCH__
  atomicMin(reinterpret_cast<unsigned long long*>(least), value);
#else
  *least = value < *least ? value : *least;
#endif
}

// Where a sparse step tells of an index outside its table.
struct BadIndices {
  BadIndexReport* report = nullptr;
  int64_t generation = 1;
  // On the device: the first one, as item << 32 | position, or all ones.
  uint64_t* first = nullptr;
};

// Every id becomes the key row << position_bits | position, where the rows of
// the tables are counted through. An id outside its table becomes the row
// behind the table's last one, which exists for no other purpose: it is sorted
// with its table, and nobody writes there.
struct MakeKeysBody {
  IdTable table;
  uint64_t* first_bad;

  TFO_HD void operator()(int64_t block, int thread) const {
    const int number = table.Find(block);
    const IdEntry& entry = table.entries[number];
    const int64_t i =
        (block - table.first_block[number]) * kGpuThreads + thread;
    if (i >= entry.count) return;
    int64_t row = entry.Index(i);
    if (row < 0 || row >= entry.rows) {
      StoreMin(first_bad, static_cast<uint64_t>(entry.item) << 32 |
                              static_cast<uint64_t>(i));
      row = entry.rows;
    }
    entry.keys[i] = static_cast<uint64_t>(entry.first_row + row)
                        << entry.position_bits |
                    static_cast<uint64_t>(i);
  }
};

// Adds up the pieces of long runs, and tells the host of an id outside its
// table.
template <class T>
struct PiecesBody {
  using C = ComputeType<T>;
  static constexpr int kMinGpuBlocks = sizeof(T) == 8 ? 2 : 0;  // no spills

  IdTable table;
  BadIndices bad;
  int64_t blocks;  // of the table; one more reports

  TFO_HD void operator()(int64_t block, int thread) const {
    if (block == blocks) {
      if (thread == 0) Report();
      return;
    }
    const int number = table.Find(block);
    const IdEntry& entry = table.entries[number];
    const int64_t tile =
        UnitOf(block - table.first_block[number], thread, entry.lane_bits);
    const Run piece = PieceOfTile(entry.ids(), tile);
    if (piece.begin == piece.end) return;
    const int lane = LaneOf(thread, entry.lane_bits);
    if (entry.packed) {
      Add<kPack<T>>(entry, tile, piece, lane);
    } else {
      Add<1>(entry, tile, piece, lane);
    }
  }

 private:
  template <int count>
  TFO_HD void Add(const IdEntry& entry, int64_t tile, const Run& piece,
                  int lane) const {
    for (int64_t column = int64_t{lane} * count; column < entry.width;
         column += int64_t{entry.lanes()} * count) {
      C sum[count];
      SumRows<kRowsOfPiece, true, count, T>(entry, column, piece, sum);
      StorePack<count>(
          sum, static_cast<C*>(entry.pieces) + tile * entry.width + column);
    }
  }

  TFO_HD void Report() const {
    const uint64_t first = *bad.first;
    if (bad.report == nullptr || first == ~uint64_t{0}) return;
    const int32_t item = static_cast<int32_t>(first >> 32);
    const int64_t position = static_cast<int64_t>(first & 0xffffffff);
    // What the host reads must get there: volatile, and `found` last.
    volatile BadIndexReport* out = bad.report;
    if (out->found >= bad.generation) return;
    for (int i = 0; i < table.count; ++i) {
      const IdEntry& entry = table.entries[i];
      if (entry.item != item) continue;
      out->item = item;
      out->position = position;
      out->received = entry.Index(position);
      out->rows = entry.rows;
#ifdef __CUDA_ARCH__
      __threadfence_system();
#endif
      out->found = bad.generation;
    }
  }
};

// Sorts the ids of the table's entries and adds up their long runs' pieces.
// Sets what the row bodies need in the entries.
template <class T, class Device>
void SortIdsOn(Device* device, IdTable* table, const BadIndices& bad) {
  int64_t rows = 0, count = 0, most = 0;
  for (int i = 0; i < table->count; ++i) {
    IdEntry& entry = table->entries[i];
    entry.first_row = rows;
    rows += entry.rows + 1;
    count += entry.count;
    most = std::max(most, entry.count);
  }
  if (count == 0) return;
  const int position_bits = BitsFor(most);
  const int id_bits = std::max(1, BitsFor(rows));
  uint64_t* keys = device->template Take<uint64_t>(count);
  uint64_t* other = device->template Take<uint64_t>(count);
  int64_t first = 0, elements = 0;
  for (int i = 0; i < table->count; ++i) {
    IdEntry& entry = table->entries[i];
    entry.position_bits = static_cast<int16_t>(position_bits);
    entry.keys = keys + first;
    first += entry.count;
  }
  MakeKeysBody make_keys = {*table, bad.first};
  const int64_t key_blocks = make_keys.table.SetBlocks(
      [](const IdEntry& e) { return CeilDiv(e.count, kGpuThreads); });
  device->Launch(make_keys, key_blocks);
  const uint64_t* sorted =
      device->Sort(keys, other, count, position_bits, position_bits + id_bits);

  // A run that is no longer than a piece has no sums of pieces.
  const auto tiles_of = [](const IdEntry& e) {
    return e.count > kMinPiece ? CeilDiv(e.count, kMinPiece) : 0;
  };
  for (int i = 0; i < table->count; ++i) {
    IdEntry& entry = table->entries[i];
    entry.keys = const_cast<uint64_t*>(sorted) + (entry.keys - keys);
    elements += CeilDiv(tiles_of(entry) * entry.width, kPieceAlignment) *
                kPieceAlignment;
  }
  using C = ComputeType<T>;
  C* pieces = elements > 0 ? device->template Take<C>(elements) : nullptr;
  for (int i = 0; i < table->count; ++i) {
    IdEntry& entry = table->entries[i];
    if (tiles_of(entry) == 0) continue;
    entry.pieces = pieces;
    pieces += CeilDiv(tiles_of(entry) * entry.width, kPieceAlignment) *
              kPieceAlignment;
  }
  PiecesBody<T> add_pieces = {*table, bad, 0};
  add_pieces.blocks = add_pieces.table.SetBlocks([&](const IdEntry& e) {
    return CeilDiv(tiles_of(e), kGpuThreads >> e.lane_bits);
  });
  device->Launch(add_pieces, add_pieces.blocks + 1);
}

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_DRIVERS_GPU_IDS_H_
