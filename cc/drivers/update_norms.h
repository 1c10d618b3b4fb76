// How far a step moves each variable: the sum of squares of what it changes,
// weight decay included, measured while what it writes is in a cache.
#ifndef TF_OPTIM_CC_DRIVERS_UPDATE_NORMS_H_
#define TF_OPTIM_CC_DRIVERS_UPDATE_NORMS_H_

#include <cstdint>
#include <vector>

#include "cc/drivers/chunks.h"
#include "cc/drivers/norms.h"
#include "cc/values/storage.h"

namespace tf_optim {

template <class T>
class UpdateNorms {
  using C = ComputeType<T>;

 public:
  explicit UpdateNorms(const NormKernels<C>& kernels) : kernels_(kernels) {}

  // What a thread needs for chunks, one after the other.
  struct Room {
    std::vector<T> before;
    std::vector<C> change;
  };

  // Before the chunks of a step.
  void Begin(const Chunks& chunks) { parts_.assign(chunks.count(), 0); }

  // Calls update(), which is the update of a chunk. for_each(visit) calls
  // visit(data, size) for the parts of memory that it changes.
  template <class ForEach, class Update>
  void Measure(int64_t chunk, Room* room, const ForEach& for_each,
               const Update& update) {
    for_each([](const T* data, int64_t size) {
      const char* p = reinterpret_cast<const char*>(data);
      const char* const end = p + size * sizeof(T);
      for (; p < end; p += kLine) __builtin_prefetch(p, 1);
    });
    room->before.clear();
    for_each([&](const T* data, int64_t size) {
      room->before.insert(room->before.end(), data, data + size);
    });
    update();
    room->change.resize(room->before.size());
    const T* before = room->before.data();
    C* change = room->change.data();
    for_each([&](const T* data, int64_t size) {
      for (int64_t j = 0; j < size; ++j) {
        change[j] = ToCompute(data[j]) - ToCompute(before[j]);
      }
      before += size;
      change += size;
    });
    const int64_t size = static_cast<int64_t>(room->change.size());
    parts_[chunk] = kernels_.span(room->change.data(), size).squares;
  }

  // After them: adds up those of each variable, in their order.
  void End(const Chunks& chunks, size_t variables) {
    squares_.assign(variables, 0);
    for (size_t i = 0; i < variables; ++i) {
      for (int64_t c = chunks.first(i); c < chunks.first(i + 1); ++c) {
        squares_[i] += parts_[c];
      }
    }
  }
  // Of each variable, in the last step.
  const std::vector<double>& squares() const { return squares_; }

 private:
  static constexpr int64_t kLine = 64;  // bytes

  const NormKernels<C>& kernels_;
  std::vector<double> parts_;  // of each chunk
  std::vector<double> squares_;
};

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_DRIVERS_UPDATE_NORMS_H_
