// A few rows of a table and of what belongs to them: copied, or brought up to
// date where they are (row_history.h).
#ifndef TF_OPTIM_CC_KERNELS_SOME_ROWS_H_
#define TF_OPTIM_CC_KERNELS_SOME_ROWS_H_

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

#include "cc/drivers/denormals.h"
#include "cc/steps/step.h"
#include "tensorflow/core/framework/tensor.h"

namespace tf_optim {

// Rows that are looked up together, so that the memory of one is on its way
// while others are worked on; few enough for a first-level cache.
inline constexpr int64_t kRowsTogether = 16;

// The memory of a tensor's rows.
struct RowsOfTensor {
  explicit RowsOfTensor(const tensorflow::Tensor& tensor)
      : data(static_cast<char*>(tensor.data())),
        bytes(tensor.TotalBytes() / std::max<int64_t>(1, tensor.dim_size(0))) {}

  void CopyTo(int64_t row, char* to) const {
    std::memcpy(to, data + row * bytes, bytes);
  }

  char* data;
  size_t bytes;
};

// Copies of a few rows of a table, its slots and its average.
class SomeRows {
 public:
  explicit SomeRows(const std::vector<tensorflow::Tensor*>& tensors) {
    copies_.reserve(tensors.size());
    for (tensorflow::Tensor* tensor : tensors) {
      copies_.emplace_back();
      places_.push_back(tensor == nullptr ? nullptr : &copies_.back());
      if (tensor == nullptr) continue;
      tensorflow::TensorShape shape = tensor->shape();
      shape.set_dim(0, kRowsTogether);
      copies_.back() = tensorflow::Tensor(tensor->dtype(), shape);
      from_.emplace_back(*tensor);
      to_.emplace_back(copies_.back());
    }
  }

  const std::vector<tensorflow::Tensor*>& tensors() const { return places_; }

  // A row of the table, with those of all others if `with_slots`.
  void Load(int64_t row, int64_t place, bool with_slots) const {
    for (size_t i = 0; i < (with_slots ? from_.size() : 1); ++i) {
      from_[i].CopyTo(row, to_[i].data + place * to_[i].bytes);
    }
  }
  void StoreTable(int64_t count, char* rows, int64_t first) const {
    std::memcpy(rows + first * to_[0].bytes, to_[0].data, count * to_[0].bytes);
  }

 private:
  std::vector<tensorflow::Tensor> copies_;
  std::vector<tensorflow::Tensor*> places_;
  std::vector<RowsOfTensor> from_, to_;  // the table's first
};

// Gathers rows and has them brought up to date.
class Batch {
 public:
  // Where rows lie. The processor foresees those that lie side by side; asking
  // for them took three tenths of a whole catch-up.
  enum class Rows { kScattered, kSideBySide };

  // Of one thread, at a time.
  Batch(const IdleSteps& steps, const HostMemory& table, Rows rows)
      : steps_(steps), table_(table), asks_(rows == Rows::kScattered) {}
  ~Batch() {
    CatchUp(ready_, asks_ ? count_ - ready_ : 0);
    std::copy(rows_ + ready_, rows_ + count_, rows_);
    CatchUp(count_ - ready_, 0);
  }

  void Add(IdleRows row) {
    if (steps_.ChangesNothing(row.first)) return;
    if (count_ > ready_) {
      IdleRows& last = rows_[count_ - 1];
      if (last.row + last.count == row.row && last.first == row.first &&
          last.count < kRowsTogether) {
        ++last.count;
        return;
      }
    }
    rows_[count_++] = row;
    if (count_ < ready_ + kRowsTogether) return;
    if (asks_) {
      CatchUp(ready_, kRowsTogether);
      std::copy(rows_ + ready_, rows_ + count_, rows_);
      ready_ = count_ = kRowsTogether;
    } else {
      CatchUp(count_, 0);
      count_ = 0;
    }
  }

 private:
  // The first rows; the next ones' memory is asked for meanwhile.
  void CatchUp(int64_t count, int64_t ahead) {
    if (count + ahead > 0) steps_.CatchUp(table_, rows_, count, ahead);
  }

  const ScopedFlushDenormals flush_denormals_;
  const IdleSteps& steps_;
  const HostMemory& table_;
  const bool asks_;  // for the memory of the next rows
  IdleRows rows_[2 * kRowsTogether];
  int64_t ready_ = 0;  // so many have been asked for
  int64_t count_ = 0;
};

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_KERNELS_SOME_ROWS_H_
