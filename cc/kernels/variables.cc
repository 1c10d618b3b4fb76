#include "cc/kernels/variables.h"

#include <cstring>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "cc/kernels/messages.h"
#include "cc/kernels/variable_bundle.h"
#include "tensorflow/core/framework/resource_mgr.h"

namespace tf_optim {

using ::absl::InvalidArgumentError;
using ::absl::OkStatus;
using ::absl::Status;
using ::absl::StrCat;
using ::tensorflow::DataType;
using ::tensorflow::DataTypeString;
using ::tensorflow::OpKernelContext;
using ::tensorflow::Tensor;
using ::tensorflow::TensorShape;
using ::tensorflow::Var;

namespace {

// The shape of one number per row; a scalar is a row of its own.
TensorShape RowsOf(const TensorShape& variable) {
  TensorShape rows;
  if (variable.dims() > 0) rows.AddDim(variable.dim_size(0));
  return rows;
}

// slot_at(number) is null where a slot is absent.
template <class SlotAt>
HostMemory MemoryOfSlots(const Tensor& var, size_t slots,
                         const SlotAt& slot_at) {
  HostMemory memory;
  memory.var = var.data();
  memory.width = WidthOf(var.shape());
  for (size_t s = 0; s < slots; ++s) {
    const Tensor* const slot = slot_at(s);
    if (slot == nullptr) continue;
    memory.SetSlot(s, slot->data(), FormatOf(slot->dtype()));
  }
  return memory;
}

}  // namespace

HostMemory MemoryOf(const std::vector<Tensor*>& tensors) {
  HostMemory memory = MemoryOfSlots(
      *tensors[0], kMaxSlots, [&](size_t slot) { return tensors[slot + 1]; });
  const Tensor* const average = tensors.back();
  if (average != nullptr) memory.average = average->data();
  return memory;
}

Status CopyOnHost(void* to, const void* from, size_t bytes) {
  std::memcpy(to, from, bytes);
  return OkStatus();
}

Status CopyIfShared(OpKernelContext* context, const CopyBytes& copy,
                    Tensor* tensor) {
  if (!tensor->IsInitialized() || tensor->RefCountIsOne()) return OkStatus();
  Tensor other;
  TF_RETURN_IF_ERROR(
      context->allocate_temp(tensor->dtype(), tensor->shape(), &other));
  TF_RETURN_IF_ERROR(copy(other.data(), tensor->data(), tensor->TotalBytes()));
  *tensor = other;
  return OkStatus();
}

LockedVariables::~LockedVariables() { Unlock(); }

void LockedVariables::Unlock() {
  for (auto lock = locks_.rbegin(); lock != locks_.rend(); ++lock) {
    if (locking_ == Locking::kExclusive) {
      (*lock)->unlock();
    } else {
      (*lock)->unlock_shared();
    }
  }
  locks_.clear();
}

Var* LockedVariables::SlotVar(size_t slot, int i) {
  const size_t list = list_of_slot_[slot];
  return list == 0 ? nullptr : &found_->at(list * count_ + i);
}

std::vector<tensorflow::core::RefCountPtr<Var>> LockedVariables::AllOf(int i) {
  std::vector<tensorflow::core::RefCountPtr<Var>> all;
  const auto add = [&all](Var* var) {
    if (var != nullptr) var->Ref();
    all.emplace_back(var);
  };
  add(&found_->at(i));
  for (size_t slot = 0; slot < kMaxSlots; ++slot) {
    add(slot < AverageSlot() ? SlotVar(slot, i) : nullptr);
  }
  add(SlotVar(AverageSlot(), i));
  return all;
}

HostMemory LockedVariables::MemoryOf(int i) {
  HostMemory memory =
      MemoryOfSlots(*var(i), AverageSlot(),
                    [&](size_t slot_number) { return slot(slot_number, i); });
  if (const Tensor* const tensor = average(i)) memory.average = tensor->data();
  if (const Tensor* const rows = average_rows(i)) {
    memory.average_rows = static_cast<int32_t*>(rows->data());
  }
  return memory;
}

std::string LockedVariables::NameOf(size_t position) const {
  const size_t list = position / count_;
  if (list == 0) return At("var", position % count_);
  const size_t slot = slot_of_list_[list - 1];
  return At(slot < AverageSlot()    ? traits_->slots[slot]
            : slot == AverageSlot() ? "average"
                                    : "average_rows",
            position % count_);
}

bool LockedVariables::IsRowSlot(size_t position) const {
  const size_t list = position / count_;
  if (list == 0) return false;
  const size_t slot = slot_of_list_[list - 1];
  return slot < AverageSlot() ? traits_->IsRowSlot(slot) : slot > AverageSlot();
}

DataType LockedVariables::TypeOf(size_t position, DataType dtype,
                                 DataType slot_dtype) const {
  const size_t list = position / count_;
  if (list == 0) return dtype;
  const size_t slot = slot_of_list_[list - 1];
  if (slot < AverageSlot()) return slot_dtype;
  return slot == AverageSlot() ? dtype : tensorflow::DT_INT32;
}

Status LockedVariables::Acquire(OpKernelContext* context, DataType dtype,
                                DataType slot_dtype, bool may_be_packed,
                                Locking locking, CopyBytes copy) {
  copy_ = std::move(copy);
  TF_RETURN_IF_ERROR(Lock(context, locking));
  return Check(context, dtype, slot_dtype, may_be_packed);
}

Status LockedVariables::Find(OpKernelContext* context,
                             const OptimizerTraits& traits,
                             const OpLayout& layout) {
  traits_ = &traits;
  count_ = layout.count;
  std::vector<int> lists = layout.slots;
  lists.push_back(layout.average);
  lists.push_back(layout.average_rows);
  for (size_t slot = 0; slot < lists.size(); ++slot) {
    const bool present = lists[slot] != OpLayout::kAbsent;
    list_of_slot_.push_back(present ? slot_of_list_.size() + 1 : 0);
    if (present) slot_of_list_.push_back(slot);
  }
  const auto name_of = [this](size_t position) { return NameOf(position); };
  if (layout.bundle != OpLayout::kAbsent) {
    tensorflow::core::RefCountPtr<VariableBundle> bundle;
    TF_RETURN_IF_ERROR(tensorflow::LookupResource(
        context, tensorflow::HandleFromInput(context, layout.bundle), &bundle));
    return bundle->Find(context, layout.bundled, name_of, &found_);
  }
  std::vector<const tensorflow::ResourceHandle*> handles;
  handles.reserve(count_ * (lists.size() + 1));
  const auto add = [&](int first) {
    for (int input = first; input < first + layout.count; ++input) {
      handles.push_back(&tensorflow::HandleFromInput(context, input));
    }
  };
  add(layout.var);
  for (size_t slot : slot_of_list_) add(lists[slot]);
  return FoundVariables::Find(context, handles, name_of, &found_);
}

Status LockedVariables::Lock(OpKernelContext* context, Locking locking) {
  locking_ = locking;
  locks_.reserve(found_->size());
  for (;;) {
    const bool shared = locking == Locking::kShared;
    if (shared) TF_RETURN_IF_ERROR(MakeReadsCopy(context));
    for (size_t i : found_->lock_order()) {
      const Mutex mutex = found_->at(i).mu();
      if (locking == Locking::kExclusive) {
        mutex->lock();
      } else {
        mutex->lock_shared();
      }
      locks_.push_back(mutex);
    }
    // Before all locks were held a reader that wants no copy (savers do) may
    // have come: it changes the mode back, and holds the memory.
    if (!shared || ReadsCopy()) return OkStatus();
    Unlock();
  }
}

Status LockedVariables::MakeReadsCopy(OpKernelContext* context) {
  for (size_t i = 0; i < found_->size(); ++i) {
    Var& var = found_->at(i);
    if (var.copy_on_read_mode.load()) continue;
    const tensorflow::mutex_lock lock(*var.mu());
    TF_RETURN_IF_ERROR(CopyIfShared(context, copy_, var.tensor()));
    var.copy_on_read_mode.store(true);
  }
  return OkStatus();
}

bool LockedVariables::ReadsCopy() const {
  for (size_t i = 0; i < found_->size(); ++i) {
    if (!found_->at(i).copy_on_read_mode.load()) return false;
  }
  return true;
}

Status LockedVariables::CheckPacked(size_t position) {
  const size_t i = position % count_;
  const Tensor& tensor = *found_->at(position).tensor();
  const SlotFormat format = FormatOf(tensor.dtype());
  size_t first = count_ + i;
  while (IsRowSlot(first)) first += count_;
  if (position == first) formats_[i] = format;
  if (format != formats_[i]) {
    return InvalidArgumentError(
        StrCat("All slots of ", NameOf(i), " must have the same dtype. ",
               "Received: ", NameOf(position), " of dtype ",
               DataTypeString(tensor.dtype()), " beside another."));
  }
  const TensorShape& shape = found_->at(i).tensor()->shape();
  if (format != SlotFormat::k8Bits || tensor.shape() == PackedShape(shape)) {
    return OkStatus();
  }
  return WrongShape(NameOf(position),
                    StrCat(PackedShape(shape).DebugString(), ", the bytes of ",
                           NameOf(i), "'s rows in 8 bits"),
                    tensor);
}

Status LockedVariables::Check(OpKernelContext* context, DataType dtype,
                              DataType slot_dtype, bool may_be_packed) {
  formats_.assign(count_, SlotFormat::kPlain);
  for (size_t i = 0; i < found_->size(); ++i) {
    const Tensor& tensor = *found_->at(i).tensor();
    if (!found_->at(i).is_initialized || !tensor.IsInitialized()) {
      return absl::FailedPreconditionError(
          StrCat(NameOf(i), " must be initialized. Received: a variable ",
                 "without a value."));
    }
    const DataType expected = TypeOf(i, dtype, slot_dtype);
    const bool is_slot = i >= count_ && !IsRowSlot(i) &&
                         slot_of_list_[i / count_ - 1] < AverageSlot();
    const bool may_pack = is_slot && may_be_packed && expected == slot_dtype &&
                          slot_dtype == tensorflow::DT_FLOAT;
    if (tensor.dtype() != expected &&
        !(may_pack && FormatOf(tensor.dtype()) != SlotFormat::kPlain)) {
      return InvalidArgumentError(
          StrCat(NameOf(i), " must have dtype ", DataTypeString(expected),
                 may_pack ? ", or bfloat16 or uint8 where it is packed" : "",
                 ". Received: ", DataTypeString(tensor.dtype()), "."));
    }
    if (may_pack) {
      TF_RETURN_IF_ERROR(CheckPacked(i));
      if (tensor.dtype() == tensorflow::DT_UINT8) continue;
    }
    const Tensor& var = *found_->at(i % count_).tensor();
    if (IsRowSlot(i)) {
      const TensorShape rows = RowsOf(var.shape());
      if (tensor.shape() == rows) continue;
      return WrongShape(NameOf(i),
                        StrCat(rows.DebugString(), ", one number per row of ",
                               NameOf(i % count_)),
                        tensor);
    }
    if (tensor.shape() != var.shape()) {
      return WrongShape(
          NameOf(i),
          StrCat(var.shape().DebugString(), " of ", NameOf(i % count_)),
          tensor);
    }
  }
  if (locking_ != Locking::kExclusive) return OkStatus();
  for (size_t i = 0; i < found_->size(); ++i) {
    TF_RETURN_IF_ERROR(CopyIfShared(context, copy_, found_->at(i).tensor()));
  }
  return OkStatus();
}

Status CheckDenseGradient(const Tensor& var, const Tensor& grad, int i) {
  if (grad.shape() == var.shape()) return OkStatus();
  return WrongShape(At("grad", i),
                    StrCat(var.shape().DebugString(), " of ", At("var", i)),
                    grad);
}

Status CheckSparseGradient(const Tensor& var, const Tensor& grad,
                           const Tensor& indices, int i) {
  if (var.dims() < 1) {
    return InvalidArgumentError(StrCat(
        At("var", i),
        " must have rows to have a sparse gradient. Received: ", "a scalar."));
  }
  if (indices.dims() != 1) {
    return WrongShape(At("indices", i), "[number of indices]", indices);
  }
  TensorShape expected = var.shape();
  expected.set_dim(0, indices.dim_size(0));
  if (grad.shape() == expected) return OkStatus();
  return WrongShape(At("grad", i),
                    StrCat(expected.DebugString(), " (", At("indices", i),
                           " has ", indices.dim_size(0), " and ", At("var", i),
                           " has shape ", var.shape().DebugString(), ")"),
                    grad);
}

Status BadIndexError(int64_t variable, int64_t position, int64_t rows,
                     int64_t received) {
  return InvalidArgumentError(StrCat(At("indices", position), " of ",
                                     At("var", variable), " must be in [0, ",
                                     rows, "). Received: ", received, "."));
}

Status SkippedIndexError(int64_t variable, int64_t position, int64_t rows,
                         int64_t received) {
  return InvalidArgumentError(
      StrCat("An earlier step skipped an index, which a GPU tells of late. ",
             BadIndexError(variable, position, rows, received).message()));
}

Status TooManyIndicesError(int64_t variable, int64_t most, int64_t count) {
  return InvalidArgumentError(
      StrCat(At("indices", variable), " must have at most ", most,
             " indices on a GPU. Received: ", count, "."));
}

Status OutOfMemoryError() {
  return absl::ResourceExhaustedError(
      "There is no memory left for an optimizer's step.");
}

Status TooManyKeysError(int64_t variable, int64_t rows, int64_t count) {
  return InvalidArgumentError(StrCat("rows times indices of ",
                                     At("var", variable),
                                     " must be below 2^64. Received: ", rows,
                                     " rows and ", count, " indices."));
}

}  // namespace tf_optim
