// Runs the bodies of the GPU drivers on the CPU, block by block and thread by
// thread, so that all of their logic but the hardware can be tested without a
// GPU. Slow, and for tests only.
#ifndef TF_OPTIM_CC_DRIVERS_EMULATED_DEVICE_H_
#define TF_OPTIM_CC_DRIVERS_EMULATED_DEVICE_H_

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <memory>
#include <vector>

#include "cc/drivers/gpu.h"
#include "cc/drivers/gpu_memory.h"
#include "cc/drivers/gpu_table.h"

namespace tf_optim {

class EmulatedDevice : public GpuMemory {
 public:
  using GpuMemory::GpuMemory;

  static constexpr int kParameterBytes = kLongParameterBytes;
  bool TakesLongParameters() const { return true; }

  // How many kernels this thread's steps would have launched so far, CUB's
  // sorts left out.
  static int64_t& launches() {
    static thread_local int64_t count = 0;
    return count;
  }

  // Like a device's memory, it holds no zeros that a body could rely on. Not of
  // the context's piece: so the address sanitizer sees where each ends.
  template <class X>
  X* Take(int64_t count) {
    const int64_t bytes = count * static_cast<int64_t>(sizeof(X));
    if (measuring()) return static_cast<X*>(Next(bytes));
    memory_.emplace_back(new char[bytes + kGpuAlignment]);
    char* raw = memory_.back().get();
    std::memset(raw, 0xa5, bytes + kGpuAlignment);
    raw += kGpuAlignment - reinterpret_cast<uintptr_t>(raw) % kGpuAlignment;
    return reinterpret_cast<X*>(raw);
  }

  template <class Body>
  void Launch(const Body& body, int64_t blocks) {
    if (!Launches<Body>()) return;
    for (int64_t block = 0; block < blocks; ++block) {
      for (int t = 0; t < kGpuThreads; ++t) body(block, t);
    }
  }

  // The threads of a block, each at one stage before any is at the next.
  template <class Body>
  void LaunchMeasure(const Body& body, int64_t blocks) {
    if (!Launches<Body>()) return;
    using Sums = decltype(body.Measure(0, 0));
    for (int64_t block = 0; block < blocks; ++block) {
      std::vector<Sums> sums;
      for (int t = 0; t < kGpuThreads; ++t) {
        sums.push_back(body.Measure(block, t));
      }
      AddUp(kGpuThreads, &sums);
      body.Store(block, sums[0]);
    }
  }

  template <class Body>
  void LaunchRowMeans(const Body& body, int64_t blocks) {
    if (!Launches<Body>()) return;
    using State = typename Body::State;
    for (int64_t block = 0; block < blocks; ++block) {
      std::vector<State> states;
      for (int t = 0; t < kGpuThreads; ++t) {
        states.push_back(body.Start(block, t));
      }
      for (int turn = 0; turn < body.Turns(block); ++turn) {
        std::vector<decltype(body.MeasureRow(nullptr))> sums;
        for (int t = 0; t < kGpuThreads; ++t) {
          body.Take(turn, t, &states[t]);
          sums.push_back(body.MeasureRow(&states[t]));
        }
        AddUp(body.Lanes(block), &sums);
        for (int t = 0; t < kGpuThreads; ++t) {
          body.UpdateRow(&states[t], sums[t]);
        }
      }
    }
  }

  // Stable, by the bits [begin, end).
  uint64_t* Sort(uint64_t* keys, uint64_t* other, int64_t count, int begin,
                 int end) {
    if (!working()) return keys;
    const auto digits = [begin, end](uint64_t key) {
      return (end < 64 ? key & ((uint64_t{1} << end) - 1) : key) >> begin;
    };
    std::copy(keys, keys + count, other);
    std::stable_sort(other, other + count, [&](uint64_t a, uint64_t b) {
      return digits(a) < digits(b);
    });
    return other;
  }

 private:
  bool working() const { return ok() && !measuring(); }

  template <class Body>
  bool Launches() const {
    static_assert(sizeof(Body) <= kParameterBytes);
    if (working()) ++launches();
    return working();
  }

  // In the order of AddUp in cuda_device.cu.h.
  template <class Sums>
  static void AddUp(int lanes, std::vector<Sums>* sums) {
    for (int step = std::min(lanes, kWarp) / 2; step > 0; step /= 2) {
      const std::vector<Sums> before = *sums;
      for (int t = 0; t < kGpuThreads; ++t) (*sums)[t].Add(before[t ^ step]);
    }
    if (lanes <= kWarp) return;
    for (auto begin = sums->begin(); begin != sums->end(); begin += lanes) {
      Sums total;
      for (int t = 0; t < lanes; t += kWarp) total.Add(begin[t]);
      std::fill(begin, begin + lanes, total);
    }
  }

  std::vector<std::unique_ptr<char[]>> memory_;
};

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_DRIVERS_EMULATED_DEVICE_H_
