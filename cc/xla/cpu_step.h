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
  std::vector<xla::XlaOp> averaging;  // momentum, updates, AverageForm; float64
  xla::XlaOp iterations;              // int64 [1]
  std::vector<int64_t> rounding_seeds;  // one per variable, or none
  bool rounds_variables = false;
  bool is_cautious = false;
};

// The streams after the step that `target` names, in their own memory.
std::vector<std::vector<xla::XlaOp>> CallCpuSteps(const std::string& target,
                                                  const CpuStepInputs& inputs);

enum class CpuStepKind { kDense, kLazyRows, kAllRows };

// Which step a call takes.
struct CpuStepOf {
  const char* rule;
  uint32_t variant, cautious_variant;
  uint32_t slot_mask;
  size_t coefficients;
  Storage storage;
  CpuStepKind kind;
};

// Takes it, with what XLA has passed.
void TakeCpuStep(const CpuStepOf& of, const CallBuffers& inputs,
                 const CallBuffers& streams, const ParallelFor& parallel_for);

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
    constexpr CpuStepOf kOf = {AllVariants::kName,
                               VariantKey<Rule>(),
                               VariantKey<Rule>(/*is_cautious=*/true),
                               SlotMask<Rule>(),
                               kCoefficients,
                               kStorageOf<T>,
                               kind};
    TakeCpuStep(kOf, inputs, streams, parallel_for);
  }

 private:
  static constexpr size_t kCoefficients =
      kFieldCount<typename Rule::template Coefficients<double>>;
};

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_XLA_CPU_STEP_H_
