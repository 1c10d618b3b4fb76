#include "cc/xla/cpu_step.h"

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <optional>

#include "cc/steps/step.h"
#include "cc/xla/in_place_call.h"

namespace tf_optim {

namespace {

// XLA's time to compile grows with the product of a call's operands and
// results: with all variables in one call 600 took 16 s, and 1,500 227 s.
constexpr size_t kVariablesPerCpuCall = 16;

// The streams of variables [begin, end) after the step. `numbers` are those of
// these variables.
Streams CallCpuStep(const std::string& target, const CpuStepInputs& inputs,
                    size_t begin, size_t end, xla::XlaOp numbers) {
  std::vector<xla::XlaOp> operands;
  for (const auto* list : {&inputs.gradients, &inputs.ids}) {
    if (list->empty()) continue;
    operands.insert(operands.end(), list->begin() + begin, list->begin() + end);
  }
  operands.insert(operands.end(), inputs.averaging.begin(),
                  inputs.averaging.end());
  std::vector<int64_t> options = {inputs.is_cautious, inputs.rounds_variables};
  if (!inputs.rounding_seeds.empty()) {
    options.insert(options.end(), inputs.rounding_seeds.begin() + begin,
                   inputs.rounding_seeds.begin() + end);
  }
  xla::XlaBuilder* const builder = numbers.builder();
  operands.push_back(xla::ConcatInDim(
      builder, {inputs.iterations, xla::ConstantR1<int64_t>(builder, options)},
      /*dimension=*/0));
  operands.push_back(numbers);

  return CallInPlace(
      target, /*attributes=*/"",
      Streams(inputs.streams.begin() + begin, inputs.streams.begin() + end),
      operands);
}

SlotFormat FormatOf(const CallBuffer& slot) {
  return slot.type() == XLA_FFI_DataType_BF16 ? SlotFormat::kBFloat16
         : slot.type() == XLA_FFI_DataType_U8 ? SlotFormat::k8Bits
                                              : SlotFormat::kPlain;
}

int64_t RowsOf(const CallBuffer& table) {
  return table.rank() > 0 ? table.size(0) : 1;
}

// Streams [first, last) are a variable, the slots that it has and its average.
HostMemory MemoryOf(const CallBuffers& streams, size_t first, size_t last,
                    uint32_t slot_mask) {
  const CallBuffer table = streams[first++];
  const int64_t rows = RowsOf(table);
  HostMemory memory;
  memory.var = table.data();
  memory.width = rows > 0 ? table.element_count() / rows : 0;
  for (size_t s = 0; s < kMaxSlots; ++s) {
    if (!(slot_mask >> s & 1)) continue;
    const CallBuffer slot = streams[first++];
    memory.SetSlot(s, slot.data(), FormatOf(slot));
  }
  if (first < last) memory.average = streams[first++].data();
  if (first < last) {
    memory.average_rows = static_cast<int32_t*>(streams[first].data());
  }
  return memory;
}

// Of the computation type.
std::vector<double> NumbersIn(const CallBuffer& buffer) {
  const int64_t count = buffer.element_count();
  if (buffer.type() == XLA_FFI_DataType_F64) {
    const auto* const data = static_cast<const double*>(buffer.data());
    return {data, data + count};
  }
  const auto* const data = static_cast<const float*>(buffer.data());
  return {data, data + count};
}

}  // namespace

Streams CallCpuSteps(const std::string& target, const CpuStepInputs& inputs) {
  xla::XlaBuilder* const builder = inputs.clips_and_decays[0].builder();
  const xla::XlaOp coefficients =
      xla::ConcatInDim(builder, inputs.coefficients, /*dimension=*/0);
  Streams after;
  for (size_t begin = 0; begin < inputs.streams.size();
       begin += kVariablesPerCpuCall) {
    const size_t end =
        std::min(inputs.streams.size(), begin + kVariablesPerCpuCall);
    std::vector<xla::XlaOp> numbers = {coefficients};
    for (xla::XlaOp numbers_of_all : inputs.clips_and_decays) {
      numbers.push_back(xla::SliceInDim(numbers_of_all, begin, end,
                                        /*stride=*/1,
                                        /*dimno=*/0));
    }
    Streams some =
        CallCpuStep(target, inputs, begin, end,
                    xla::ConcatInDim(builder, numbers, /*dimension=*/0));
    std::move(some.begin(), some.end(), std::back_inserter(after));
  }
  return after;
}

void TakeCpuStep(const CpuStepOf& of, const CallBuffers& inputs,
                 const CallBuffers& streams, const ParallelFor& parallel_for) {
  // Behind the streams: gradients, ids, averaging, options, numbers.
  const auto input = [&](size_t i) { return inputs[streams.size() + i]; };
  const std::vector<double> numbers = NumbersIn(inputs[inputs.size() - 1]);
  // The iterations, two flags, then seeds if there are such.
  const CallBuffer options = inputs[inputs.size() - 2];
  const auto* const option = static_cast<const int64_t*>(options.data());
  constexpr int64_t kFirstSeed = 3;
  const double* const of_variables = numbers.data() + of.coefficients;
  const size_t count =
      (numbers.size() - of.coefficients) / kFieldCount<ClipAndDecay<double>>;
  const size_t stride = streams.size() / count;

  HostStep step;
  step.coefficients.assign(numbers.begin(), numbers.begin() + of.coefficients);
  step.is_sparse = of.kind != CpuStepKind::kDense;
  step.outside = Outside::kLeaveOut;
  step.mode = of.kind == CpuStepKind::kLazyRows ? SparseMode::kLazy
                                                : SparseMode::kDense;
  step.isa = ChosenIsa();
  step.parallel_for = parallel_for;
  const bool draws = options.element_count() > kFirstSeed;
  step.rounds_variables = draws && option[2] != 0;
  step.variables.resize(count);
  for (size_t i = 0; i < count; ++i) {
    const CallBuffer table = streams[i * stride], gradient = input(i);
    HostVariable& variable = step.variables[i];
    variable.memory =
        MemoryOf(streams, i * stride, (i + 1) * stride, of.slot_mask);
    variable.size = table.element_count();
    variable.rows = RowsOf(table);
    variable.grad = gradient.data();
    if (step.is_sparse) {
      const CallBuffer ids = input(count + i);
      variable.indices = ids.data();
      variable.count = ids.element_count();
    }
    variable.gradient_scale = of_variables[i];
    variable.clip_value = of_variables[count + i];
    variable.decay = of_variables[2 * count + i];
    if (draws)
      variable.rounding = RoundingOf(option[kFirstSeed + i], option[0]);
  }
  std::optional<Averaging> averaging;
  size_t own_streams = 1;
  for (uint32_t mask = of.slot_mask; mask != 0; mask &= mask - 1) ++own_streams;
  if (stride > own_streams) {
    const auto* const numbers_of =
        static_cast<const double*>(inputs[inputs.size() - 3].data());
    const AverageForm form = {static_cast<AverageKind>(numbers_of[2]),
                              static_cast<int64_t>(numbers_of[3])};
    averaging.emplace(form, numbers_of[0], static_cast<int64_t>(numbers_of[1]));
    step.averaging = &*averaging;
  }
  const uint32_t variant = option[1] != 0 ? of.cautious_variant : of.variant;
  const StepsOfRule* const steps = FindSteps(of.rule, variant, of.storage);
  TakeStep(*steps, step);
}

}  // namespace tf_optim
