// A step under XLA on a CPU: calls out of the computation to the CPU drivers.
// docs/decisions/0011 says why.
#ifndef TF_OPTIM_CC_XLA_CPU_STEP_H_
#define TF_OPTIM_CC_XLA_CPU_STEP_H_

#include <optional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "cc/cpu/average.h"
#include "cc/cpu/kernels.h"
#include "cc/drivers/dense_cpu.h"
#include "cc/drivers/sparse_cpu.h"
#include "cc/values/xla_version.h"
#include "cc/xla/cpu_call.h"

namespace tf_optim {

// What XLA passes.
struct CpuStepInputs {
  // For each variable: itself, then its slots; where steps bring averages along
  // its average and, in mode "lazy", how many updates the rows of that have
  // seen.
  std::vector<std::vector<xla::XlaOp>> streams;
  std::vector<xla::XlaOp> gradients;  // of the variable's type
  std::vector<xla::XlaOp> ids;        // int64; empty if gradients are dense
  // Vectors of the computation type: each coefficient alone, and the members of
  // ClipAndDecay, each with a number per variable.
  std::vector<xla::XlaOp> coefficients;
  std::vector<xla::XlaOp> clips_and_decays;
  std::vector<xla::XlaOp> averaging;    // as Averaging is made, float64 [3]
  xla::XlaOp iterations;                // int64 [1]
  std::vector<int64_t> rounding_seeds;  // one per variable, or none
  bool rounds_variables = false;
};

// The streams after the step that `target` names, in their own memory.
std::vector<std::vector<xla::XlaOp>> CallCpuSteps(const std::string& target,
                                                  const CpuStepInputs& inputs);

enum class CpuStepKind { kDense, kLazyRows, kAllRows };

// The function that is called, for a rule and a storage type.
template <class AllVariants, class Rule, class T, CpuStepKind kind>
class CpuStep {
 public:
  // The name under which XLA knows it.
  static const std::string& Target() { return CpuCallTarget<CpuStep>(); }

  static std::string Name() {
    return absl::StrCat(
        "tf_optim_step_", AllVariants::kName, "_", VariantKey<Rule>(), "_",
        static_cast<int>(kStorageOf<T>), "_", static_cast<int>(kind));
  }

  static void Call(const CallBuffers& inputs, const CallBuffers& streams,
                   const ParallelFor& parallel_for) {
    Apply(inputs, streams, FindKernels<AllVariants, Rule, T>(ChosenIsa()),
          parallel_for);
  }

 private:
  using C = ComputeType<T>;

  static void Apply(const CallBuffers& inputs, const CallBuffers& streams,
                    const CpuKernels<Rule, T>& kernels,
                    const ParallelFor& parallel_for) {
    // Behind the streams: gradients, ids, averaging, rounding, numbers.
    const auto input = [&](size_t i) { return inputs[streams.size() + i]; };
    const CallBuffer numbers = inputs[inputs.size() - 1];
    const C* number = static_cast<const C*>(numbers.data());
    size_t of_variables = numbers.element_count();
    CoefficientsOf<Rule, T> coefficients;
    ForEachField(coefficients, [&](auto, C& value) {
      value = *number++;
      --of_variables;
    });
    const size_t count = of_variables / kFieldCount<ClipAndDecay<C>>;
    const size_t stride = streams.size() / count;
    std::optional<Averaging> averaging;
    if (stride > CountStreams()) {
      const auto* const of =
          static_cast<const double*>(inputs[inputs.size() - 3].data());
      averaging.emplace(of[0], static_cast<int64_t>(of[1]),
                        static_cast<int64_t>(of[2]));
    }
    const Averages<T> averages = AveragesOf(averaging, streams, stride, count);
    const CallBuffer rounding = inputs[inputs.size() - 2];
    const auto* const of_rounding =
        static_cast<const int64_t*>(rounding.data());
    const auto variable_at = [&](size_t i) {
      Variable<Rule, T> variable = VariableAt(streams, i * stride);
      if (rounding.element_count() > 2) {  // iterations, a flag, seeds
        variable.rounding = RoundingOf(of_rounding[2 + i], of_rounding[0]);
        variable.rounds_var = of_rounding[1] != 0;
      }
      SetClipAndDecay(number[i], number[count + i], number[2 * count + i],
                      &variable);
      return variable;
    };
    if constexpr (kind == CpuStepKind::kDense) {
      std::vector<DenseItem<Rule, T>> items;
      for (size_t i = 0; i < count; ++i) {
        const CallBuffer gradient = input(i);
        items.push_back({variable_at(i), static_cast<const T*>(gradient.data()),
                         gradient.element_count()});
      }
      ApplyDense(&items, coefficients, kernels, parallel_for, averages);
    } else {
      std::vector<SparseItem<Rule, T, int64_t>> items;
      for (size_t i = 0; i < count; ++i) {
        const CallBuffer ids = input(count + i);
        items.push_back({variable_at(i), static_cast<const T*>(input(i).data()),
                         static_cast<const int64_t*>(ids.data()),
                         ids.element_count(), Rows(streams[i * stride])});
      }
      std::vector<IdSorter> sorters;
      SortItems<Outside::kLeaveOut>(items, parallel_for, &sorters);
      for (size_t i = 0; i < count; ++i)
        items[i].count = sorters[i].ids().count;
      ApplySparse(&items, sorters,
                  kind == CpuStepKind::kLazyRows ? SparseMode::kLazy
                                                 : SparseMode::kDense,
                  coefficients, kernels, parallel_for, averages);
    }
  }

  static constexpr size_t CountStreams() {
    size_t count = 1;
    for (uint32_t mask = SlotMask<Rule>(); mask != 0; mask &= mask - 1) ++count;
    return count;
  }

  static Averages<T> AveragesOf(const std::optional<Averaging>& averaging,
                                const CallBuffers& streams, size_t stride,
                                size_t count) {
    Averages<T> averages;
    if (!averaging.has_value()) return averages;
    averages.averaging = &*averaging;
    averages.kernels = &FindAverageKernels<T>(ChosenIsa());
    for (size_t i = 0; i < count; ++i) {
      const size_t average = i * stride + CountStreams();
      const bool has_rows = average + 1 < (i + 1) * stride;
      averages.of.push_back(
          {static_cast<T*>(streams[average].data()),
           has_rows ? static_cast<int32_t*>(streams[average + 1].data())
                    : nullptr});
    }
    return averages;
  }

  static SlotFormat FormatOf(const CallBuffer& slot) {
    return slot.type() == XLA_FFI_DataType_BF16 ? SlotFormat::kBFloat16
           : slot.type() == XLA_FFI_DataType_U8 ? SlotFormat::k8Bits
                                                : SlotFormat::kPlain;
  }

  static int64_t Rows(const CallBuffer& table) {
    return table.rank() > 0 ? table.size(0) : 1;
  }

  static Variable<Rule, T> VariableAt(const CallBuffers& streams,
                                      size_t stream) {
    const CallBuffer table = streams[stream++];
    const int64_t rows = Rows(table);
    Variable<Rule, T> variable;
    variable.var = static_cast<T*>(table.data());
    variable.width = rows > 0 ? table.element_count() / rows : 0;
    typename Rule::template Slots<C> slots;
    ForEachField(slots, [&](auto s, auto& slot) {
      if constexpr (kIsPresent<decltype(slot)>) {
        const CallBuffer buffer = streams[stream++];
        const SlotFormat format = FormatOf(buffer);
        if (IsRowSlot<Rule>(s()) || format == SlotFormat::kPlain) {
          variable.slots[s] = static_cast<C*>(buffer.data());
        } else {
          variable.format = format;
          variable.packed[s] = static_cast<uint8_t*>(buffer.data());
        }
      }
    });
    return variable;
  }
};

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_XLA_CPU_STEP_H_
