#include "cc/kernels/row_history.h"

#include <algorithm>
#include <cstring>
#include <functional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "cc/kernels/some_rows.h"
#include "cc/kernels/threads.h"

namespace tf_optim {

using ::absl::OkStatus;
using ::absl::Status;
using ::absl::StrCat;
using ::tensorflow::OpKernelContext;
using ::tensorflow::Tensor;

namespace {

// Null if there is no such optimizer or variant.
std::unique_ptr<IdleSteps> NewIdleSteps(const IdleKind& kind,
                                        const std::vector<double>& hyper) {
  const StepsOfRule* const steps =
      FindSteps(kind.optimizer, kind.variant, kind.storage);
  return steps == nullptr
             ? nullptr
             : steps->new_idle_steps(hyper, kind.averaged, ChosenIsa());
}

// A guess, in nanoseconds: three streams of a row that is in no cache.
double CostOfRow(int64_t width) {
  return 10 + 0.5 * static_cast<double>(width);
}

// Calls function(ids, count), the ids being of their type.
template <class Function>
void WithIds(const Tensor& ids, const Function& function) {
  if (ids.dtype() == tensorflow::DT_INT32) {
    function(static_cast<const int32_t*>(ids.data()), ids.NumElements());
  } else {
    function(static_cast<const int64_t*>(ids.data()), ids.NumElements());
  }
}

// Whether a row of a gradient is 0, or -0: no bit but that of the sign.
template <class Bits>
bool IsZero(const void* data, int64_t row, int64_t width) {
  const Bits* const bits = static_cast<const Bits*>(data) + row * width;
  return std::all_of(bits, bits + width, [](Bits each) {
    return static_cast<Bits>(each << 1) == 0;
  });
}

// Of a gradient that nobody has checked yet: no, if it is not of so many rows.
bool IsZero(const Tensor& gradient, int64_t row, int64_t rows) {
  if (gradient.dims() == 0 || gradient.dim_size(0) != rows) return false;
  const int64_t width = gradient.NumElements() / gradient.dim_size(0);
  switch (tensorflow::DataTypeSize(gradient.dtype())) {
    case 2:
      return IsZero<uint16_t>(gradient.data(), row, width);
    case 4:
      return IsZero<uint32_t>(gradient.data(), row, width);
    default:
      return IsZero<uint64_t>(gradient.data(), row, width);
  }
}

}  // namespace

std::string RowHistory::DebugString() const {
  return StrCat("A history of ", now_, " steps of ", rows_, " rows.");
}

Status RowHistory::InLocks(
    OpKernelContext* context,
    const std::function<void(const std::vector<Tensor*>&)>& work) {
  const LockedVars locked(vars_);
  std::vector<Tensor*> tensors;
  for (size_t i = 0; i < locked.size(); ++i) {
    TF_RETURN_IF_ERROR(locked.MakeOwn(context, i));
    tensors.push_back(locked.at(i));
  }
  const Tensor& table = *tensors[0];
  if (table.dims() < 1 || table.dim_size(0) != rows_) {
    return absl::FailedPreconditionError(
        StrCat("A table in \"exact\" mode must keep its ", rows_,
               " rows. Received: a variable of shape ",
               table.shape().DebugString(), "."));
  }
  work(tensors);
  return OkStatus();
}

Status RowHistory::CatchUp(OpKernelContext* context, const Tensor& ids) {
  if (IsCaughtUp()) return OkStatus();
  return InLocks(context, [&](const std::vector<Tensor*>& tensors) {
    WithIds(ids, [&](const auto* data, int64_t count) {
      CatchUpRows(context, MemoryOf(tensors), data, count);
    });
  });
}

template <class Index>
void RowHistory::CatchUpRows(OpKernelContext* context, const HostMemory& table,
                             const Index* ids, int64_t count) {
  const auto now = static_cast<int32_t>(now_);
  DeviceThreads(context)(
      (count + kRowsTogether - 1) / kRowsTogether,
      CostOfRow(table.width) * kRowsTogether, [&](int64_t begin, int64_t end) {
        Batch batch(*steps_, table, Batch::Rows::kScattered);
        const int64_t last = std::min(count, end * kRowsTogether);
        for (int64_t i = begin * kRowsTogether; i < last; ++i) {
          if (i + kRowsTogether < last && HasRow(ids[i + kRowsTogether])) {
            __builtin_prefetch(&marks_[ids[i + kRowsTogether]], 1);
          }
          const int64_t row = ids[i];
          if (!HasRow(row) ||
              marks_[row].seen.load(std::memory_order_relaxed) == now) {
            continue;
          }
          // Whoever marks a row first brings it up to date.
          const int64_t seen = marks_[row].seen.exchange(now);
          const int64_t first = std::max(seen, all_seen_);
          if (first < now_) batch.Add({row, first - all_seen_, 1});
        }
      });
}

Status RowHistory::CatchUpAll(OpKernelContext* context) {
  if (IsCaughtUp()) return OkStatus();
  TF_RETURN_IF_ERROR(InLocks(context, [&](const std::vector<Tensor*>& tensors) {
    const HostMemory table = MemoryOf(tensors);
    DeviceThreads(context)(
        rows_, CostOfRow(table.width), [&](int64_t begin, int64_t end) {
          Batch batch(*steps_, table, Batch::Rows::kSideBySide);
          for (int64_t row = begin; row < end; ++row) {
            const int64_t first = SeenBy(row);
            if (first < now_) batch.Add({row, first - all_seen_, 1});
          }
        });
  }));
  all_seen_ = now_;
  steps_ = NewIdleSteps(kind_, hyper_);
  return OkStatus();
}

Status RowHistory::Read(OpKernelContext* context, tensorflow::Var* table,
                        const Tensor& ids, Tensor* rows) {
  if (IsCaughtUp()) {
    const tensorflow::tf_shared_lock lock(*table->mu());
    const RowsOfTensor from(*table->tensor());
    auto* const to = static_cast<char*>(rows->data());
    WithIds(ids, [&](const auto* data, int64_t count) {
      const auto copy = [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
          from.CopyTo(data[i], to + i * from.bytes);
        }
      };
      DeviceThreads(context)(
          count, CostOfRow(WidthOf(table->tensor()->shape())), copy);
    });
    return OkStatus();
  }
  return InLocks(context, [&](const std::vector<Tensor*>& tensors) {
    WithIds(ids, [&](const auto* data, int64_t count) {
      ReadRows(context, tensors, data, count, static_cast<char*>(rows->data()));
    });
  });
}

template <class Index>
void RowHistory::ReadRows(OpKernelContext* context,
                          const std::vector<Tensor*>& tensors, const Index* ids,
                          int64_t count, char* rows) {
  const auto work = [&](int64_t begin, int64_t end) {
    const ScopedFlushDenormals flush_denormals;
    const SomeRows some(tensors);
    const HostMemory copies = MemoryOf(some.tensors());
    for (int64_t i = begin; i < end; i += kRowsTogether) {
      const int64_t here = std::min(end - i, kRowsTogether);
      IdleRows behind[kRowsTogether];
      int64_t count_behind = 0;
      for (int64_t j = 0; j < here; ++j) {
        const int64_t first = SeenBy(ids[i + j]) - all_seen_;
        const bool is_behind = !steps_->ChangesNothing(first);
        some.Load(ids[i + j], j, is_behind);
        if (is_behind) behind[count_behind++] = {j, first, 1};
      }
      if (count_behind > 0) {
        steps_->CatchUp(copies, behind, count_behind, 0);
      }
      some.StoreTable(here, rows, i);
    }
  };
  DeviceThreads(context)(count, CostOfRow(WidthOf(tensors[0]->shape())), work);
}

std::string RowHistory::StaleRow(int64_t row, int64_t number) const {
  return StrCat(
      "Row ", row, " of table ", number, " must be up to date before it is ",
      "read in \"exact\" mode. Received: a gradient for it while it has seen ",
      SeenBy(row), " of ", now_, " steps. Read the table with ",
      "tf_optim.lookup(table, ids) or tf_optim.Embedding, call ",
      "optimizer.catch_up(table, ids) before the step, or take ",
      "sparse_update=\"eventual\".");
}

Status RowHistory::Check(const Tensor& ids, const Tensor& gradient,
                         int64_t number, bool* behind) const {
  *behind = false;
  if (IsCaughtUp()) return OkStatus();
  Status status;
  WithIds(ids, [&](const auto* data, int64_t count) {
    status = CheckRows(data, count, gradient, number, behind);
  });
  return status;
}

template <class Index>
Status RowHistory::CheckRows(const Index* ids, int64_t count,
                             const Tensor& gradient, int64_t number,
                             bool* behind) const {
  for (int64_t i = 0; i < count; ++i) {
    const int64_t row = ids[i];
    if (!HasRow(row) || SeenBy(row) == now_) continue;
    if (!MayHaveBeenRead(row) && !IsZero(gradient, i, count)) {
      return absl::FailedPreconditionError(StaleRow(row, number));
    }
    *behind = true;
  }
  return OkStatus();
}

void RowHistory::MakeRows(int64_t rows) {
  rows_ = rows;
  marks_.reset(new Mark[rows]());
}

Status RowHistory::Bind(OpKernelContext* context, const IdleKind& kind,
                        const std::vector<double>& hyper, Vars vars) {
  if (is_closed_) {
    return absl::FailedPreconditionError(
        "A step of a table's rows must be of a table that is prepared. "
        "Received: one that `tf_optim.unprepare` was called on since the step "
        "was traced; trace it anew (a model: compile it anew).");
  }
  int64_t rows;
  {
    const tensorflow::tf_shared_lock table_lock(*vars[0]->mu());
    const Tensor& table = *vars[0]->tensor();
    if (!vars[0]->is_initialized || table.dims() < 1) {
      return absl::FailedPreconditionError(
          "A table in \"exact\" or \"eventual\" mode must be initialized and "
          "have rows. Received: a variable without.");
    }
    rows = table.dim_size(0);
  }
  if (marks_ == nullptr || rows != rows_) MakeRows(rows);
  const bool same_vars = std::equal(
      vars.begin(), vars.end(), vars_.begin(), vars_.end(),
      [](const auto& a, const auto& b) { return a.get() == b.get(); });
  if (steps_ != nullptr && same_vars && kind == kind_ && steps_->Takes(hyper) &&
      steps_->length() < steps_->most()) {
    return OkStatus();
  }
  TF_RETURN_IF_ERROR(CatchUpAll(context));
  std::unique_ptr<IdleSteps> steps = NewIdleSteps(kind, hyper);
  if (steps == nullptr) {
    return absl::InvalidArgumentError(
        StrCat("optimizer must be one of ours, with slots that it has. ",
               "Received: ", kind.optimizer, ", variant ", kind.variant, "."));
  }
  steps_ = std::move(steps);
  kind_ = kind;
  hyper_ = hyper;
  vars_ = std::move(vars);
  return OkStatus();
}

void RowHistory::Advance(OpKernelContext* context, const IdleStep& step,
                         const Tensor& ids, const HostMemory& table) {
  // Numbers fall where a state is restored, another optimizer counts its own
  // steps, or workers do not wait for each other: rows marked with larger ones
  // count as touched since.
  if (touched_since_ < 0 || step.iterations < touched_since_) {
    touched_since_ = step.iterations;
  }
  steps_->Extend(step);
  Count();
  WithIds(ids, [&](const auto* data, int64_t count) {
    if (kind_.averaged) {
      MoveAverages(context, table, data, count, step.decays.average_kept);
    }
    MarkRows(data, count, static_cast<int32_t>(step.iterations + 1));
  });
}

template <class Index>
void RowHistory::MarkRows(const Index* ids, int64_t count, int32_t step) {
  const auto now = static_cast<int32_t>(now_);
  for (int64_t i = 0; i < count; ++i) {
    if (i + kRowsTogether < count && HasRow(ids[i + kRowsTogether])) {
      __builtin_prefetch(&marks_[ids[i + kRowsTogether]], 1);
    }
    if (!HasRow(ids[i])) continue;
    Mark& mark = marks_[ids[i]];
    mark.seen.store(now, std::memory_order_relaxed);
    mark.touched = step;
  }
}

template <class Index>
void RowHistory::MoveAverages(OpKernelContext* context, const HostMemory& table,
                              const Index* ids, int64_t count, double kept) {
  const Averaging averaging({}, kept, 1);
  const auto now = static_cast<int32_t>(now_);
  DeviceThreads(context)(
      count, CostOfRow(table.width), [&](int64_t begin, int64_t end) {
        const ScopedFlushDenormals flush_denormals;
        for (int64_t i = begin; i < end; ++i) {
          const int64_t row = ids[i];
          // An id that is repeated is one row.
          if (!HasRow(row) || marks_[row].seen.exchange(now) == now) continue;
          steps_->MoveAverage(table, row, averaging);
        }
      });
}

void RowHistory::AdvanceAll(int64_t iterations) {
  all_touched_ = iterations + 1;
  if (steps_ == nullptr) return;
  Count();
  all_seen_ = now_;
}

Status RowHistory::TouchedRows(int64_t since,
                               std::vector<int64_t>* rows) const {
  if (touched_since_ < 0 || since < touched_since_) {
    return absl::InvalidArgumentError(StrCat(
        "since_step must be a step that the table's history reaches back to, ",
        touched_since_ < 0 ? "and there is none yet"
                           : StrCat(">= ", touched_since_),
        ". Received: ", since, "."));
  }
  for (int64_t row = 0; row < rows_; ++row) {
    if (marks_[row].touched > since || all_touched_ > since)
      rows->push_back(row);
  }
  return OkStatus();
}

}  // namespace tf_optim
