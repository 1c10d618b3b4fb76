// One step of a list of tables with sparse gradients, on a GPU.
//
// The ids of all tables are sorted at once; a run of equal ids is then updated
// by the threads that find its beginning. An id outside its table is skipped
// and told of in the context's report.
#ifndef TF_OPTIM_CC_DRIVERS_SPARSE_GPU_H_
#define TF_OPTIM_CC_DRIVERS_SPARSE_GPU_H_

#include <vector>

#include "cc/drivers/gpu_ids.h"
#include "cc/drivers/gpu_rows.h"

namespace tf_optim {

// The tables of one launch: as many as there is room for.
template <class Rule, class T, RowSource source, class Device>
void ApplyTablesOn(Device* device, RowBody<Rule, T, source>* body,
                   const BadIndices& bad, bool is_cautious) {
  auto& table = body->table;
  IdTable ids;
  ids.count = table.count;
  for (int i = 0; i < table.count; ++i) ids.entries[i] = table.entries[i].ids;
  SortIdsOn<T>(device, &ids, bad);
  for (int i = 0; i < table.count; ++i) table.entries[i].ids = ids.entries[i];
  const int64_t blocks = table.SetBlocks([](const auto& entry) {
    return entry.ids.BlocksFor(source == RowSource::kNamed ? entry.ids.count
                                                           : entry.ids.rows);
  });
  if (blocks > 0) RunGpuRowPasses<Rule, T>(device, body, blocks, is_cautious);
}

template <class Rule, class T, RowSource source, class Device>
void ApplySparseFrom(Device* device, const std::vector<GpuItem>& items,
                     bool wide_indices, const GpuStep& step, BadIndices bad,
                     bool is_cautious) {
  using Body = RowBody<Rule, T, source>;
  constexpr int kCapacity = decltype(Body::table)::kCapacity;
  static_assert(kCapacity <= IdTable::kCapacity);
  bad.first = device->template Take<uint64_t>(1);
  Body body = {{}, PrepareOn<Rule, T>(device, items.size(), step, bad.first)};
  const GpuShared<Rule, T> shared = body.shared;
  int64_t rows = 0, count = 0, most = 0;
  const auto flush = [&] {
    if (body.table.count > 0) {
      ApplyTablesOn<Rule, T, source>(device, &body, bad, is_cautious);
    }
    body.table.count = 0;
    body.shared = shared;
    rows = count = most = 0;
  };
  for (size_t i = 0; i < items.size(); ++i) {
    const GpuItem& item = items[i];
    // Ids are checked even where there is nothing to write.
    const bool idle_rows = source == RowSource::kAll && item.size > 0;
    if (item.count == 0 && !idle_rows) continue;
    if (body.table.count == kCapacity || count + item.count > kMaxGpuIndices ||
        !KeyFits(rows + item.rows + 1, std::max(most, item.count))) {
      flush();
    }
    RowEntry<Rule, T> entry =
        RowEntryOf<Rule, T>(item, static_cast<int32_t>(i));
    entry.ids.indices = item.indices;
    entry.ids.wide_indices = wide_indices;
    entry.ids.count = item.count;
    entry.ids.SetTurns(source == RowSource::kNamed ? item.count : item.rows);
    body.table.entries[body.table.count++] = entry;
    rows += item.rows + 1;
    count += item.count;
    most = std::max(most, item.count);
  }
  flush();
}

template <class Rule, class T, class Device>
void ApplySparseOn(Device* device, const std::vector<GpuItem>& items,
                   const GpuSparse& sparse, const GpuStep& step,
                   const BadIndices& bad, bool is_cautious) {
  if (sparse.lazy) {
    ApplySparseFrom<Rule, T, RowSource::kNamed>(
        device, items, sparse.wide_indices, step, bad, is_cautious);
  } else {
    ApplySparseFrom<Rule, T, RowSource::kAll>(
        device, items, sparse.wide_indices, step, bad, is_cautious);
  }
}

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_DRIVERS_SPARSE_GPU_H_
