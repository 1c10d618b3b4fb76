// One step of a list of variables with dense gradients, on a GPU.
//
// `Device` launches bodies: cc/drivers/cuda_device.cu.h on a GPU,
// emulated_device.h block by block on the CPU.
#ifndef TF_OPTIM_CC_DRIVERS_DENSE_GPU_H_
#define TF_OPTIM_CC_DRIVERS_DENSE_GPU_H_

#include <cstdint>
#include <type_traits>
#include <vector>

#include "cc/drivers/gpu_rows.h"
#include "cc/drivers/gpu_spans.h"
#include "cc/drivers/gpu_table.h"

namespace tf_optim {

// Elements of a block: each thread has four packs of each stream.
template <class T>
inline constexpr int64_t kGpuChunk = kGpuThreads * kPack<T> * 4;

template <class Rule, class T>
struct DenseEntry {
  RuleEntry<Rule, T> rule;
  const T* grad = nullptr;
  int64_t size = 0;
};

// `bytes` of kernel parameters.
template <class Rule, class T, int bytes>
struct DenseBody {
  GpuTable<DenseEntry<Rule, T>, bytes> table;
  GpuShared<Rule, T> shared;

  TFO_HD void operator()(int64_t block, int thread) const {
    GpuSums<Rule> unused;
    Visit<GpuPass::kUpdate>(block, thread, &unused);
  }

  TFO_HD GpuSums<Rule> Measure(int64_t block, int thread) const {
    GpuSums<Rule> sums;
    Visit<GpuPass::kMeasure>(block, thread, &sums);
    return sums;
  }
  TFO_HD void Store(int64_t block, const GpuSums<Rule>& total) const {
    shared.parts[block] = total;
  }

 private:
  template <GpuPass pass>
  TFO_HD void Visit(int64_t block, int thread, GpuSums<Rule>* sums) const {
    const int number = table.Find(block);
    const DenseEntry<Rule, T>& entry = table.entries[number];
    const Variable<Rule, T> variable = shared.VariableAt(entry.rule, number);
    const CoefficientsOf<Rule, T> coefficients = *shared.coefficients;
    RowSlots<Rule, T> no_row;
    const auto run = [&](auto size, int64_t i) {
      ComputeType<T> g[size()];
      LoadPack<size()>(entry.grad + i, g);
      Loaded<Rule, T> loaded;
      loaded.template Load<size()>(variable, i);
      RunPack<pass, size()>(variable, coefficients, i, g, variable.means,
                            loaded, &no_row, sums);
    };
    using Whole = std::integral_constant<int, kPack<T>>;
    using Single = std::integral_constant<int, 1>;

    const int64_t begin = (block - table.first_block[number]) * kGpuChunk<T>;
    const int64_t end =
        begin + kGpuChunk<T> < entry.size ? begin + kGpuChunk<T> : entry.size;
    if (!entry.rule.packed) {
      for (int64_t i = begin + thread; i < end; i += kGpuThreads) {
        run(Single(), i);
      }
      return;
    }
    for (int64_t i = begin + thread * kPack<T>; i < end;
         i += kGpuThreads * kPack<T>) {
      if (i + kPack<T> <= end) {
        run(Whole(), i);
      } else {
        for (int64_t k = i; k < end; ++k) run(Single(), k);
      }
    }
  }
};

// Launches bodies of short tables, or of long ones where there is that much to
// do and the device has room, until they have held all entries.
template <class Short, class Long, class Device, class Entry, class Launch>
void LaunchTables(Device* device, const std::vector<Entry>& entries,
                  const Launch& launch) {
  using ShortTable = decltype(Short::table);
  using LongTable = decltype(Long::table);
  size_t begin = 0;
  const auto fill = [&](auto* table) {
    while (table->count < std::decay_t<decltype(*table)>::kCapacity &&
           begin < entries.size()) {
      table->entries[table->count++] = entries[begin++];
    }
  };
  while (begin < entries.size()) {
    if constexpr (Device::kParameterBytes >= kLongParameterBytes &&
                  !std::is_same_v<ShortTable, LongTable>) {
      if (entries.size() - begin > ShortTable::kCapacity &&
          device->TakesLongParameters()) {
        Long body;
        fill(&body.table);
        launch(&body);
        continue;
      }
    }
    Short body;
    fill(&body.table);
    launch(&body);
  }
}

template <class Rule, class T, class Device>
void ApplyDenseOn(Device* device, const std::vector<GpuItem>& items,
                  const GpuStep& step, bool is_cautious) {
  const GpuShared<Rule, T> shared =
      PrepareOn<Rule, T>(device, items.size(), step, nullptr);
  const auto entries_of = [&](const auto& make_entry) {
    std::vector<decltype(make_entry(items[0], 0))> entries;
    for (size_t i = 0; i < items.size(); ++i) {
      if (items[i].size == 0) continue;
      entries.push_back(make_entry(items[i], static_cast<int32_t>(i)));
    }
    return entries;
  };
  if constexpr (Rule::kMeansOver == Over::kRow) {
    using Body = RowBody<Rule, T, RowSource::kDense>;
    const auto entries = entries_of([](const GpuItem& item, int32_t number) {
      GpuItem rows = item;
      rows.rows = item.size / item.width;
      return RowEntryOf<Rule, T>(rows, number);
    });
    LaunchTables<Body, Body>(device, entries, [&](Body* body) {
      body->shared = shared;
      const int64_t blocks = body->table.SetBlocks([](const auto& entry) {
        return entry.ids.BlocksFor(entry.ids.rows);
      });
      RunGpuRowPasses<Rule, T>(device, body, blocks, is_cautious);
    });
  } else {
    using Short = DenseBody<Rule, T, kShortParameterBytes>;
    using Long = DenseBody<Rule, T, kLongParameterBytes>;
    const auto entries = entries_of([](const GpuItem& item, int32_t number) {
      return DenseEntry<Rule, T>{RuleEntry<Rule, T>(item, number),
                                 static_cast<const T*>(item.grad), item.size};
    });
    LaunchTables<Short, Long>(device, entries, [&](auto* body) {
      body->shared = shared;
      const int64_t blocks = body->table.SetBlocks(
          [](const auto& entry) { return CeilDiv(entry.size, kGpuChunk<T>); });
      RunGpuPasses<Rule, T>(device, body, blocks, is_cautious);
    });
  }
}

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_DRIVERS_DENSE_GPU_H_
