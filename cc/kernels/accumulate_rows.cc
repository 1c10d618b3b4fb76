// Gradient accumulation of sparse gradients on a CPU: the ops of
// cc/ops/accumulate_ops.cc.
#include <algorithm>
#include <cstring>
#include <memory>
#include <new>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "cc/drivers/accumulate.h"
#include "cc/drivers/sparse_cpu.h"
#include "cc/kernels/locked_vars.h"
#include "cc/kernels/step_op.h"
#include "cc/kernels/threads.h"

namespace tf_optim {
namespace {

using ::tensorflow::OpKernelConstruction;
using ::tensorflow::OpKernelContext;
using ::tensorflow::Tensor;

// Where a `touched` variable has what; the rows' numbers follow.
constexpr int64_t kStep = 0, kCount = 1, kFirst = 2;

template <class T>
absl::Status CheckAccumulator(const Tensor& table, int i) {
  if (!table.IsInitialized() ||
      table.dtype() != tensorflow::DataTypeToEnum<T>::v()) {
    return absl::FailedPreconditionError(absl::StrCat(
        "accumulator[", i, "] must be initialized, of dtype ",
        tensorflow::DataTypeString(tensorflow::DataTypeToEnum<T>::v()),
        ". Received: ",
        table.IsInitialized() ? tensorflow::DataTypeString(table.dtype())
                              : "one that is not initialized",
        "."));
  }
  return absl::OkStatus();
}

absl::Status CheckTouched(const Tensor& touched, int i) {
  const bool holds =
      touched.IsInitialized() && touched.dtype() == tensorflow::DT_INT64 &&
      touched.dims() == 1 && touched.dim_size(0) >= kFirst &&
      touched.vec<int64_t>()(kCount) >= 0 &&
      touched.vec<int64_t>()(kCount) <= touched.dim_size(0) - kFirst;
  if (holds) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat(
      "touched[", i,
      "] must be an int64 vector of a step, a count of rows and these rows. "
      "Received: ",
      touched.IsInitialized() ? touched.DebugString(4)
                              : std::string("one that is not initialized"),
      "."));
}

// What the ops have in common.
template <class T>
class AccumulatorOp : public tensorflow::OpKernel {
 public:
  explicit AccumulatorOp(OpKernelConstruction* context) : OpKernel(context) {
    OP_REQUIRES_OK(context, context->GetAttr("N", &count_));
  }

  void Compute(OpKernelContext* context) final {
    try {
      LockedVars::Vars vars;
      OP_REQUIRES_OK(context, VarsOfInputs(context, Variables(), &vars));
      const LockedVars variables(vars);
      OP_REQUIRES_OK(context, Run(context, variables));
    } catch (const std::bad_alloc&) {
      context->CtxFailure(OutOfMemoryError());
    }
  }

 protected:
  virtual absl::Status Run(OpKernelContext* context,
                           const LockedVars& variables) = 0;
  // Inputs that are variables: accumulators and what rows each has.
  virtual int Variables() const { return 2 * count_; }

  int count() const { return count_; }

  // Checks accumulators and their rows.
  absl::Status Check(const LockedVars& variables) const {
    for (int i = 0; i < count_; ++i) {
      TF_RETURN_IF_ERROR(CheckAccumulator<T>(*variables.at(i), i));
      TF_RETURN_IF_ERROR(CheckTouched(*variables.at(count_ + i), i));
    }
    return absl::OkStatus();
  }

  int64_t* Touched(const LockedVars& variables, int i) const {
    return static_cast<int64_t*>(variables.at(count_ + i)->data());
  }

  AccumulatorItem<T> Table(const LockedVars& variables, int i) const {
    const Tensor& table = *variables.at(i);
    const int64_t rows = table.dims() > 0 ? table.dim_size(0) : 1;
    AccumulatorItem<T> item = {};
    item.table = static_cast<T*>(table.data());
    item.rows = rows;
    item.width = rows > 0 ? table.NumElements() / rows : 0;
    return item;
  }

  // The accumulators with the gradients, and these sorted.
  absl::Status ReadGradients(OpKernelContext* context,
                             const LockedVars& variables,
                             const ParallelFor& parallel_for,
                             std::vector<AccumulatorItem<T>>* items,
                             std::vector<IdSorter>* sorters) const {
    for (int i = 0; i < count_; ++i) {
      const Tensor& grad = context->input(2 * count_ + i);
      const Tensor& indices = context->input(3 * count_ + i);
      TF_RETURN_IF_ERROR(
          CheckSparseGradient(*variables.at(i), grad, indices, i));
      AccumulatorItem<T> item = Table(variables, i);
      item.grad = static_cast<const T*>(grad.data());
      item.indices = static_cast<const int64_t*>(indices.data());
      item.count = indices.NumElements();
      if (!KeyFits(item.rows, item.count)) {
        return TooManyKeysError(i, item.rows, item.count);
      }
      items->push_back(item);
    }
    const BadIndex bad = SortItems(*items, parallel_for, sorters);
    if (bad.item < 0) return absl::OkStatus();
    const auto& item = (*items)[bad.item];
    return BadIndexError(bad.item, bad.position, item.rows,
                         item.indices[bad.position]);
  }

  static int64_t Iterations(OpKernelContext* context) {
    const Tensor& last = context->input(context->num_inputs() - 1);
    return last.scalar<int64_t>()();
  }

 private:
  int count_ = 0;
};

template <class T>
class AccumulateRowsOp : public AccumulatorOp<T> {
 public:
  using AccumulatorOp<T>::AccumulatorOp;

 protected:
  absl::Status Run(OpKernelContext* context,
                   const LockedVars& variables) override {
    TF_RETURN_IF_ERROR(this->Check(variables));
    const ParallelFor parallel_for = DeviceThreads(context);
    std::vector<AccumulatorItem<T>> items;
    std::vector<IdSorter> sorters;
    TF_RETURN_IF_ERROR(this->ReadGradients(context, variables, parallel_for,
                                           &items, &sorters));
    std::vector<std::vector<RowRun>> runs;
    for (const IdSorter& sorter : sorters) runs.push_back(RunsOf(sorter.ids()));
    const int64_t iterations = this->Iterations(context);
    for (int i = 0; i < this->count(); ++i) {
      TF_RETURN_IF_ERROR(variables.MakeOwn(context, i));
      items[i].table = static_cast<T*>(variables.at(i)->data());
      TF_RETURN_IF_ERROR(Remember(context, variables, i, iterations, runs[i]));
    }
    ForEachRun(items, runs, parallel_for,
               [&](const auto& item, size_t i, int64_t r) {
                 const RowRun& run = runs[i][r];
                 T* const row = item.table + run.row * item.width;
                 AddGradients(item, sorters[i].ids(), run, row, row);
               });
    return absl::OkStatus();
  }

 private:
  absl::Status Remember(OpKernelContext* context, const LockedVars& variables,
                        int i, int64_t iterations,
                        const std::vector<RowRun>& runs) const {
    const int position = this->count() + i;
    TF_RETURN_IF_ERROR(variables.MakeOwn(context, position));
    int64_t* touched = this->Touched(variables, i);
    if (touched[kStep] != iterations) {
      touched[kStep] = -1;
      return absl::OkStatus();
    }
    const int64_t before = touched[kCount];
    const int64_t after = before + static_cast<int64_t>(runs.size());
    Tensor* const tensor = variables.at(position);
    if (kFirst + after > tensor->NumElements()) {
      Tensor larger;
      TF_RETURN_IF_ERROR(context->allocate_temp(tensorflow::DT_INT64,
                                                {kFirst + 2 * after}, &larger));
      std::memcpy(larger.data(), touched,
                  sizeof(int64_t) * static_cast<size_t>(kFirst + before));
      auto all = larger.vec<int64_t>();
      std::fill(all.data() + kFirst + before, all.data() + all.size(), 0);
      *tensor = larger;
      touched = this->Touched(variables, i);
    }
    touched[kStep] = iterations + 1;
    touched[kCount] = after;
    int64_t* next = touched + kFirst + before;
    for (const RowRun& run : runs) *next++ = run.row;
    return absl::OkStatus();
  }
};

template <class T>
class AccumulatedRowsOp : public AccumulatorOp<T> {
 public:
  explicit AccumulatedRowsOp(OpKernelConstruction* context)
      : AccumulatorOp<T>(context) {
    OP_REQUIRES_OK(context, context->GetAttr("steps", &steps_));
  }

 protected:
  absl::Status Run(OpKernelContext* context,
                   const LockedVars& variables) override {
    TF_RETURN_IF_ERROR(this->Check(variables));
    const ParallelFor parallel_for = DeviceThreads(context);
    std::vector<AccumulatorItem<T>> items;
    std::vector<IdSorter> sorters;
    TF_RETURN_IF_ERROR(this->ReadGradients(context, variables, parallel_for,
                                           &items, &sorters));
    const int64_t iterations = this->Iterations(context);
    std::vector<std::vector<RowRun>> runs;
    std::vector<T*> means;
    for (int i = 0; i < this->count(); ++i) {
      const int64_t* touched = this->Touched(variables, i);
      runs.push_back(UnionOf(RunsOf(sorters[i].ids()),
                             touched[kStep] == iterations
                                 ? Remembered(touched, items[i].rows)
                                 : NotZero(items[i], parallel_for)));
      const int64_t size = static_cast<int64_t>(runs[i].size());
      tensorflow::TensorShape shape = variables.at(i)->shape();
      shape.set_dim(0, size);
      Tensor *rows, *mean;
      TF_RETURN_IF_ERROR(context->allocate_output(i, {size}, &rows));
      TF_RETURN_IF_ERROR(
          context->allocate_output(this->count() + i, shape, &mean));
      int64_t* next = static_cast<int64_t*>(rows->data());
      for (const RowRun& run : runs[i]) *next++ = run.row;
      means.push_back(static_cast<T*>(mean->data()));
    }
    const T steps = static_cast<T>(steps_);
    ForEachRun(items, runs, parallel_for,
               [&](const auto& item, size_t i, int64_t r) {
                 const RowRun& run = runs[i][r];
                 const T* const row = item.table + run.row * item.width;
                 T* const mean = means[i] + r * item.width;
                 AddGradients(item, sorters[i].ids(), run, row, mean);
                 const T* const sum = run.begin < run.end ? mean : row;
                 for (int64_t j = 0; j < item.width; ++j) {
                   mean[j] = sum[j] / steps;
                 }
               });
    return absl::OkStatus();
  }

 private:
  static std::vector<RowRun> Remembered(const int64_t* touched, int64_t rows) {
    IdSorter sorter;
    sorter.Sort<Outside::kLeaveOut>(touched + kFirst, touched[kCount], rows);
    return RunsOf(sorter.ids());
  }

  static std::vector<RowRun> NotZero(const AccumulatorItem<T>& item,
                                     const ParallelFor& parallel_for) {
    const std::unique_ptr<bool[]> is_zero(new bool[item.rows]);
    parallel_for(item.rows, static_cast<double>(item.width * sizeof(T)) / 10,
                 [&](int64_t begin, int64_t end) {
                   for (int64_t r = begin; r < end; ++r) {
                     const T* const row = item.table + r * item.width;
                     is_zero[r] = std::all_of(row, row + item.width,
                                              [](T x) { return x == 0; });
                   }
                 });
    std::vector<RowRun> found;
    for (int64_t r = 0; r < item.rows; ++r) {
      if (!is_zero[r]) found.push_back({r, 0, 0});
    }
    return found;
  }

  int64_t steps_ = 1;
};

template <class T>
class ClearAccumulatedRowsOp : public AccumulatorOp<T> {
 public:
  using AccumulatorOp<T>::AccumulatorOp;

 protected:
  absl::Status Run(OpKernelContext* context,
                   const LockedVars& variables) override {
    TF_RETURN_IF_ERROR(this->Check(variables));
    std::vector<AccumulatorItem<T>> items;
    std::vector<std::vector<RowRun>> runs(this->count());
    for (int i = 0; i < this->count(); ++i) {
      items.push_back(this->Table(variables, i));
      const auto rows =
          context->input(2 * this->count() + i).template flat<int64_t>();
      const int64_t bad =
          FirstBadIndex(rows.data(), rows.size(), items[i].rows);
      if (bad >= 0) return BadIndexError(i, bad, items[i].rows, rows(bad));
      for (int64_t r = 0; r < rows.size(); ++r) {
        runs[i].push_back({rows(r), 0, 0});
      }
    }
    for (int i = 0; i < this->count(); ++i) {
      for (int position : {i, this->count() + i}) {
        TF_RETURN_IF_ERROR(variables.MakeOwn(context, position));
      }
      items[i].table = static_cast<T*>(variables.at(i)->data());
      this->Touched(variables, i)[kStep] = this->Iterations(context) + 1;
      this->Touched(variables, i)[kCount] = 0;
    }
    ForEachRun(items, runs, DeviceThreads(context),
               [&](const auto& item, size_t i, int64_t r) {
                 std::fill_n(item.table + runs[i][r].row * item.width,
                             item.width, T{0});
               });
    return absl::OkStatus();
  }
};

template <class T>
class ClearAccumulatorsOp : public AccumulatorOp<T> {
 public:
  using AccumulatorOp<T>::AccumulatorOp;

 protected:
  int Variables() const override { return this->count(); }

  absl::Status Run(OpKernelContext* context,
                   const LockedVars& variables) override {
    for (int i = 0; i < this->count(); ++i) {
      TF_RETURN_IF_ERROR(CheckAccumulator<T>(*variables.at(i), i));
    }
    Chunks chunks;
    std::vector<T*> tables;
    for (int i = 0; i < this->count(); ++i) {
      TF_RETURN_IF_ERROR(variables.MakeOwn(context, i));
      tables.push_back(static_cast<T*>(variables.at(i)->data()));
      chunks.Add(variables.at(i)->NumElements(), kChunk, 1);
    }
    DeviceThreads(context)(
        chunks.count(), kChunk * sizeof(T) / 20.0,
        [&](int64_t first, int64_t last) {
          chunks.ForEach(first, last, [&](size_t i, int64_t b, int64_t e) {
            std::fill(tables[i] + b, tables[i] + e, T{0});
          });
        });
    return absl::OkStatus();
  }

 private:
  static constexpr int64_t kChunk = 4096;  // elements
};

template <template <class> class Op, class T>
void Register(const char* name) {
  RegisterKernel<Op<T>>(tensorflow::register_kernel::Name(name)
                            .Device(tensorflow::DEVICE_CPU)
                            .template TypeConstraint<T>("T")
                            .Build());
}

template <class... Ts>
bool RegisterAll() {
  (Register<AccumulateRowsOp, Ts>("TfOptim>AccumulateRows"), ...);
  (Register<AccumulatedRowsOp, Ts>("TfOptim>AccumulatedRows"), ...);
  (Register<ClearAccumulatedRowsOp, Ts>("TfOptim>ClearAccumulatedRows"), ...);
  (Register<ClearAccumulatorsOp, Ts>("TfOptim>ClearAccumulators"), ...);
  return true;
}

[[maybe_unused]] const bool registered = RegisterAll<float, double>();

}  // namespace
}  // namespace tf_optim
