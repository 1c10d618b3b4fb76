// Everything between TensorFlow and the drivers: finding the variables of a
// step, locking them, and every check. All errors of the ops are made in
// variables.cc and step_numbers.cc, before anything is written.
#ifndef TF_OPTIM_CC_KERNELS_VARIABLES_H_
#define TF_OPTIM_CC_KERNELS_VARIABLES_H_

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "cc/kernels/found_variables.h"
#include "cc/kernels/step_numbers.h"
#include "cc/ops/layout.h"
#include "cc/ops/packed_layout.h"
#include "cc/steps/step.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/resource_var.h"

namespace tf_optim {

// Copies a tensor's memory to that of another one.
using CopyBytes =
    std::function<absl::Status(void* to, const void* from, size_t bytes)>;

absl::Status CopyOnHost(void* to, const void* from, size_t bytes);

// Leaves readers of the old value with it, and gives the variable a copy.
absl::Status CopyIfShared(tensorflow::OpKernelContext* context,
                          const CopyBytes& copy, tensorflow::Tensor* tensor);

// Where a table, kMaxSlots slots and its average lie; null where absent.
HostMemory MemoryOf(const std::vector<tensorflow::Tensor*>& tensors);

enum class Locking {
  kExclusive,  // nobody else reads or writes meanwhile
  kShared,     // other sparse steps may run at the same time
  kReadOnly,   // nobody writes meanwhile, this step included
};

// The variables and slots of one step. They are locked in order of address,
// and released with this object.
class LockedVariables {
 public:
  LockedVariables() = default;
  LockedVariables(const LockedVariables&) = delete;
  LockedVariables& operator=(const LockedVariables&) = delete;
  ~LockedVariables();

  absl::Status Find(tensorflow::OpKernelContext* context,
                    const OptimizerTraits& traits, const OpLayout& layout);

  // Locks and checks what has been found. Slots of float32 may be packed
  // (packed.h) if `may_be_packed`, all of a variable in the same way.
  // Afterwards every tensor may be written in place: it is initialized, of the
  // right dtype and shape, and nobody else holds its memory.
  absl::Status Acquire(tensorflow::OpKernelContext* context,
                       tensorflow::DataType dtype,
                       tensorflow::DataType slot_dtype, bool may_be_packed,
                       Locking locking, CopyBytes copy);

  tensorflow::Tensor* var(int i) { return found_->at(i).tensor(); }
  // Null when the slot is absent.
  tensorflow::Tensor* slot(size_t slot, int i) {
    tensorflow::Var* const found = SlotVar(slot, i);
    return found == nullptr ? nullptr : found->tensor();
  }
  // Of the i-th variable's slots but those of a number per row.
  SlotFormat format(int i) const { return formats_[i]; }
  // The same of the moving average, and of the updates its rows have seen.
  tensorflow::Tensor* average(int i) { return slot(AverageSlot(), i); }
  tensorflow::Tensor* average_rows(int i) { return slot(AverageSlot() + 1, i); }

  // Where all of the i-th variable's lie.
  HostMemory MemoryOf(int i);
  // For who goes on with them: the i-th variable, kMaxSlots slots, its average;
  // null where absent.
  std::vector<tensorflow::core::RefCountPtr<tensorflow::Var>> AllOf(int i);

 private:
  tensorflow::Var* SlotVar(size_t slot, int i);
  absl::Status Lock(tensorflow::OpKernelContext* context, Locking locking);
  void Unlock();
  // From now on a read of a whole variable copies it, so that a step can write
  // while it holds the lock with others.
  absl::Status MakeReadsCopy(tensorflow::OpKernelContext* context);
  bool ReadsCopy() const;
  absl::Status Check(tensorflow::OpKernelContext* context,
                     tensorflow::DataType dtype,
                     tensorflow::DataType slot_dtype, bool may_be_packed);
  // A slot that lies in fewer bits; `dtype` says in which.
  absl::Status CheckPacked(size_t position);
  // Behind the rule's own slots.
  size_t AverageSlot() const { return traits_->slots.size(); }
  std::string NameOf(size_t position) const;
  tensorflow::DataType TypeOf(size_t position, tensorflow::DataType dtype,
                              tensorflow::DataType slot_dtype) const;
  bool IsRowSlot(size_t position) const;

  const OptimizerTraits* traits_ = nullptr;
  size_t count_ = 0;
  // The variables, then each slot's; absent slots are left out.
  std::shared_ptr<const FoundVariables> found_;
  std::vector<size_t> slot_of_list_;  // slot number of list 1, 2, ...
  std::vector<size_t> list_of_slot_;  // 0: absent
  std::vector<SlotFormat> formats_;
  // TensorFlow deprecates the name of this type, not the type.
  using Mutex = decltype(std::declval<tensorflow::Var>().mu());
  std::vector<Mutex> locks_;  // held
  Locking locking_ = Locking::kExclusive;
  CopyBytes copy_;
};

// grad[i] has the shape of var[i].
absl::Status CheckDenseGradient(const tensorflow::Tensor& var,
                                const tensorflow::Tensor& grad, int i);

// indices[i] is [n], and grad[i] is [n] + the shape of var[i]'s rows.
absl::Status CheckSparseGradient(const tensorflow::Tensor& var,
                                 const tensorflow::Tensor& grad,
                                 const tensorflow::Tensor& indices, int i);

absl::Status BadIndexError(int64_t variable, int64_t position, int64_t rows,
                           int64_t received);

// A GPU finds a wrong index while it works: it skips the index, and a later
// step says so.
absl::Status SkippedIndexError(int64_t variable, int64_t position, int64_t rows,
                               int64_t received);

absl::Status TooManyIndicesError(int64_t variable, int64_t most, int64_t count);

absl::Status OutOfMemoryError();

absl::Status TooManyKeysError(int64_t variable, int64_t rows, int64_t count);

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_KERNELS_VARIABLES_H_
