// What a GPU step is given and how it is called, in plain C++: neither CUDA
// nor TensorFlow is needed to include this. The drivers themselves are
// dense_gpu.h and sparse_gpu.h.
#ifndef TF_OPTIM_CC_DRIVERS_GPU_H_
#define TF_OPTIM_CC_DRIVERS_GPU_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "cc/rules/rule.h"
#include "cc/values/storage.h"

namespace tf_optim {

inline constexpr int kMaxGpuHyper = 8;
inline constexpr int64_t kGpuAlignment = 64;  // bytes, of a step's memory

// A variable with its slots and its gradient. All pointers are to memory of the
// device; slots that the rule leaves out are null.
struct GpuItem {
  void* var = nullptr;
  const void* grad = nullptr;
  void* slots[kMaxSlots] = {};
  int64_t size = 0;   // elements of var
  int64_t width = 1;  // elements of a row
  // Sparse gradients only: grad is [count, width].
  const void* indices = nullptr;
  int64_t count = 0;
  int64_t rows = 0;
};

// A step's numbers, all of them on the device: no step waits for a copy to the
// host.
struct GpuStep {
  const void* learning_rate = nullptr;
  bool learning_rate_is_double = false;
  const int64_t* iterations = nullptr;  // steps done before
  const double* hyper[kMaxGpuHyper] = {};
  const double* clip_value = nullptr;      // 0 for none
  const double* gradient_scale = nullptr;  // one per item, or null for 1
  const double* weight_decay = nullptr;    // one per item, or null for 0
};

struct GpuSparse {
  bool wide_indices = false;  // int64, not int32
  bool lazy = true;           // or every row, as if the gradient were dense
};

// Where the device tells of an index outside its table: memory of the host that
// the device can write (or of the host, for the emulation).
//
// Reports are used again, and a kernel of a former owner may still be in the
// device's queue. So every owner has a generation, above those before it, and
// `found` is the generation that an index was found for: a kernel fills in
// what its own owner has not found yet and no later one has. The host reads
// only what was found for its generation, then sets `found` to 0.
struct BadIndexReport {
  int64_t item = 0, position = 0, received = 0, rows = 0;
  int64_t found = 0;
};

// How a step went. Anything but kFailed comes before it has changed anything.
struct GpuStatus {
  enum Code {
    kOk,
    kNoMemory,     // of the device
    kUnsupported,  // this driver or card cannot run the kernels
    kFailed,
  };

  Code code = kOk;
  std::string message = "";

  bool ok() const { return code == kOk; }
};

// What the caller lends to a step.
struct GpuContext {
  void* stream = nullptr;  // a cudaStream_t
  // Device memory that lives until what the step puts on the stream is done;
  // aligned to kGpuAlignment or more. Called once in a step, before anything
  // else is.
  std::function<GpuStatus(int64_t bytes, void** memory)> allocate;
  BadIndexReport* report = nullptr;  // sparse steps only, null for none
  int64_t generation = 1;            // of the report's owner
};

// The steps of one rule and storage type. They return before the device is
// done.
struct GpuKernels {
  GpuStatus (*dense)(const std::vector<GpuItem>& items, const GpuStep& step,
                     const GpuContext& context);
  GpuStatus (*sparse)(const std::vector<GpuItem>& items,
                      const GpuSparse& sparse, const GpuStep& step,
                      const GpuContext& context);
};

// The GpuKernels of all variants and types; null if there are none. A file per
// rule in cc/cuda instantiates it.
template <class AllVariants>
struct GpuKernelTable {
  static const GpuKernels* Find(uint32_t variant, Storage storage);
};

// Positions are ints on the device, and a step sorts all of a table's at once.
inline constexpr int64_t kMaxGpuIndices = 0x7fffffff;

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_DRIVERS_GPU_H_
