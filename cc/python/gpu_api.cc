// _gpu.so: the GPU drivers behind a C interface, for ctypes. No TensorFlow and
// no Python headers, so that nvcc alone can build it on a machine with a GPU
// (tests/gpu_check.py does). Built without CUDA it has the emulation only,
// which runs the same drivers on the host's memory.
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <string>
#include <utility>
#include <vector>

#include "cc/drivers/emulated_device.h"
#include "cc/drivers/gpu_kernels.h"
#include "cc/drivers/gpu_support.h"
#include "cc/rules/all_rules.h"
#include "cc/rules/traits.h"
#if TFO_CUDA
#include "cc/cuda/memory.h"
#endif

namespace tf_optim {
namespace {

// Mirrored by tests/gpu_library.py, member by member.
struct Call {
  const char* rule;
  int64_t variant;  // VariantKey
  int64_t storage;
  int64_t cuda;  // or the emulation
  const GpuItem* items;
  int64_t item_count;
  int64_t sparse, lazy, wide_indices;
  const void* learning_rate;
  int64_t learning_rate_is_double;
  const int64_t* iterations;
  const double* hyper[kMaxGpuHyper];
  const double* clip_value;
  const double* gradient_scale;
  const double* weight_decay;
  void* stream;
  BadIndexReport* report;
  int64_t generation;    // of the report's owner
  int64_t memory_limit;  // bytes of a step's workspace, or -1 for none
  int64_t code;          // GpuStatus::Code, set by the call
};

const GpuKernels* FindKernels(const char* rule, uint32_t variant,
                              Storage storage, bool cuda) {
  const GpuKernels* found = nullptr;
  ForEachOptimizer([&](auto variants) {
    if (std::strcmp(decltype(variants)::kName, rule) != 0) return;
    if (!cuda) {
      found = FindGpuKernels<EmulatedDevice>(variants, variant, storage);
    }
#if TFO_CUDA
    if (cuda) {
      found = GpuKernelTable<decltype(variants)>::Find(variant, storage);
    }
#endif
  });
  return found;
}

GpuStatus Apply(const Call& call) {
  const GpuKernels* kernels =
      FindKernels(call.rule, static_cast<uint32_t>(call.variant),
                  static_cast<Storage>(call.storage), call.cuda != 0);
  if (kernels == nullptr) {
    return {GpuStatus::kFailed, "There is no such kernel in this build."};
  }
  const std::vector<GpuItem> items(call.items, call.items + call.item_count);
  GpuStep step;
  step.learning_rate = call.learning_rate;
  step.learning_rate_is_double = call.learning_rate_is_double != 0;
  step.iterations = call.iterations;
  std::copy(std::begin(call.hyper), std::end(call.hyper), step.hyper);
  step.clip_value = call.clip_value;
  step.gradient_scale = call.gradient_scale;
  step.weight_decay = call.weight_decay;
  GpuContext context;
  context.stream = call.stream;
  context.report = call.report;
  context.generation = call.generation;
  [[maybe_unused]] void* workspace = nullptr;
  context.allocate = [&](int64_t bytes, void** memory) -> GpuStatus {
    if (call.memory_limit >= 0 && bytes > call.memory_limit) {
      return {GpuStatus::kNoMemory,
              "A step's workspace must have at most " +
                  std::to_string(call.memory_limit) +
                  " bytes. Received: " + std::to_string(bytes) + "."};
    }
#if TFO_CUDA
    if (call.cuda) {
      const GpuStatus status = AllocateOnGpu(bytes, call.stream, &workspace);
      *memory = workspace;
      return status;
    }
#endif
    *memory = nullptr;  // the emulation has its own
    return {};
  };
#if TFO_CUDA
  if (call.cuda) {
    GpuStatus status = CheckThisGpu();
    if (!status.ok()) return status;
  }
#endif
  GpuStatus status =
      call.sparse
          ? kernels->sparse(items, {call.wide_indices != 0, call.lazy != 0},
                            step, context)
          : kernels->dense(items, step, context);
#if TFO_CUDA
  const GpuStatus freed = FreeOnGpu(workspace, call.stream);
  if (status.ok()) status = freed;
#endif
  return status;
}

std::string Quoted(const std::vector<std::string>& names) {
  std::string out;
  for (const std::string& name : names) {
    out += (out.empty() ? "\"" : ", \"") + name + "\"";
  }
  return "[" + out + "]";
}

template <class... Rules>
std::string Describe(Variants<Rules...> variants) {
  const OptimizerTraits traits = TraitsOf(variants);
  std::string keys;
  const auto add = [&](uint32_t key) {
    keys += (keys.empty() ? "" : ", ") + std::to_string(key);
  };
  (add(VariantKey<Rules>()), ...);
  ((Rules::kMayBeCautious ? add(VariantKey<Rules>(true)) : void()), ...);
  return "{\"hyper\": " + Quoted(traits.hyper) +
         ", \"slots\": " + Quoted(traits.slots) +
         ", \"flags\": " + Quoted(traits.flags) +
         ", \"row_slots\": " + std::to_string(traits.row_slots) +
         ", \"variants\": [" + keys + "]}";
}

}  // namespace
}  // namespace tf_optim

#define TFO_EXPORT extern "C" __attribute__((visibility("default")))

namespace {

// Valid until this thread's next call.
const char* Lend(std::string text) {
  thread_local std::string kept;
  kept = std::move(text);
  return kept.c_str();
}

}  // namespace

// One step; "" or what went wrong.
TFO_EXPORT const char* tfo_gpu_apply(tf_optim::Call* call) {
  tf_optim::GpuStatus status = tf_optim::Apply(*call);
  call->code = status.code;
  return Lend(std::move(status.message));
}

// The emulation's kernels, for what calls them in another way
// (cc/xla/gpu_step.h).
TFO_EXPORT const tf_optim::GpuKernels* tfo_gpu_emulated_kernels(
    const char* rule, uint32_t variant, int storage) {
  return tf_optim::FindKernels(rule, variant,
                               static_cast<tf_optim::Storage>(storage),
                               /*cuda=*/false);
}

TFO_EXPORT int64_t tfo_gpu_emulated_launches() {
  return tf_optim::EmulatedDevice::launches();
}

#if TFO_CUDA
// The same of a GPU (tests/gpu_jax_test.py).
TFO_EXPORT const tf_optim::GpuKernels* tfo_gpu_cuda_kernels(const char* rule,
                                                            uint32_t variant,
                                                            int storage) {
  return tf_optim::FindKernels(rule, variant,
                               static_cast<tf_optim::Storage>(storage),
                               /*cuda=*/true);
}
#endif

// "" or why the kernels cannot run here.
TFO_EXPORT const char* tfo_gpu_state() {
#if TFO_CUDA
  return Lend(tf_optim::CheckAllGpus().message);
#else
  return "This build has no GPU kernels.";
#endif
}

// cc/drivers/gpu_support.h, of any machine.
TFO_EXPORT const char* tfo_gpu_check_driver(int driver, int toolkit) {
  return Lend(tf_optim::CheckDriver(driver, toolkit).message);
}
TFO_EXPORT const char* tfo_gpu_check_capability(int capability,
                                                const int* built, int count) {
  return Lend(
      tf_optim::CheckCapability(capability, {built, built + count}).message);
}

// Every rule's hyperparameters, slots, flags and variants, in JSON.
TFO_EXPORT const char* tfo_gpu_rules() {
  static const auto* json = [] {
    auto* out = new std::string;
    tf_optim::ForEachOptimizer([&](auto variants) {
      *out += std::string(out->empty() ? "{\"" : ", \"") +
              decltype(variants)::kName + "\": " + tf_optim::Describe(variants);
    });
    *out += "}";
    return out;
  }();
  return json->c_str();
}

TFO_EXPORT int tfo_gpu_has_cuda() { return TFO_CUDA; }

// Memory for a report that the kernels can write to; null if there is none.
TFO_EXPORT void* tfo_gpu_new_report() {
#if TFO_CUDA
  tf_optim::OwnedReport owned;
  tf_optim::NewBadIndexReport(&owned);
  return owned.report;
#else
  return nullptr;
#endif
}
