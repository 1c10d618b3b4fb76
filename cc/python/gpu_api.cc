// _gpu.so: the GPU drivers behind a C interface, for ctypes. No TensorFlow and
// no Python headers, so that nvcc alone can build it on a machine with a GPU
// (tests/gpu_check.py does). Built without CUDA it has the emulation only,
// which runs the same drivers on the host's memory.
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <string>
#include <vector>

#include "cc/drivers/emulated_device.h"
#include "cc/drivers/gpu_kernels.h"
#include "cc/rules/all_rules.h"
#if TFO_CUDA
#include "cc/cuda/memory.h"
#endif

namespace tf_optim {
namespace {

// Mirrored by tf_optim/gpu_library.py, member by member.
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
};

const GpuKernels* FindKernels(const Call& call) {
  const GpuKernels* found = nullptr;
  ForEachOptimizer([&](auto variants) {
    if (std::strcmp(decltype(variants)::kName, call.rule) != 0) return;
    const uint32_t variant = static_cast<uint32_t>(call.variant);
    const Storage storage = static_cast<Storage>(call.storage);
    if (!call.cuda) {
      found = FindGpuKernels<EmulatedDevice>(variants, variant, storage);
    }
#if TFO_CUDA
    if (call.cuda) {
      found = GpuKernelTable<decltype(variants)>::Find(variant, storage);
    }
#endif
  });
  return found;
}

std::string Apply(const Call& call) {
  const GpuKernels* kernels = FindKernels(call);
  if (kernels == nullptr) return "There is no such kernel in this build.";
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
  std::vector<void*> allocated;
#if TFO_CUDA
  context.allocate = [&](int64_t bytes) {
    allocated.push_back(AllocateOnGpu(bytes, call.stream));
    return allocated.back();
  };
#endif
  const std::string error =
      call.sparse
          ? kernels->sparse(items, {call.wide_indices != 0, call.lazy != 0},
                            step, context)
          : kernels->dense(items, step, context);
#if TFO_CUDA
  for (void* memory : allocated) FreeOnGpu(memory, call.stream);
#endif
  return error;
}

template <class Names>
std::string Quoted(const Names& names) {
  std::string out;
  for (const char* name : names) {
    out += std::string(out.empty() ? "\"" : ", \"") + name + "\"";
  }
  return "[" + out + "]";
}

template <class First, class... Rest>
std::string Describe(Variants<First, Rest...>) {
  std::string variants = std::to_string(VariantKey<First>());
  ((variants += ", " + std::to_string(VariantKey<Rest>())), ...);
  return "{\"hyper\": " + Quoted(First::kHyperNames) +
         ", \"slots\": " + Quoted(First::kSlotNames) +
         ", \"flags\": " + Quoted(First::kFlagNames) +
         ", \"row_slots\": " + std::to_string(First::kRowSlots) +
         ", \"variants\": [" + variants + "]}";
}

}  // namespace
}  // namespace tf_optim

#define TFO_EXPORT extern "C" __attribute__((visibility("default")))

// One step; "" or what went wrong, valid until this thread's next call.
TFO_EXPORT const char* tfo_gpu_apply(const tf_optim::Call* call) {
  thread_local std::string error;
  error = tf_optim::Apply(*call);
  return error.c_str();
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

// Memory for a report that the kernels can write to.
TFO_EXPORT void* tfo_gpu_new_report() {
#if TFO_CUDA
  return tf_optim::NewBadIndexReport();
#else
  return nullptr;
#endif
}
