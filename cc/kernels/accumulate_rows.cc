// Gradient accumulation of sparse gradients on a CPU: the ops of
// cc/ops/accumulate_ops.cc.
#include <algorithm>
#include <limits>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "cc/kernels/accumulator_op.h"
#include "cc/kernels/step_op.h"

namespace tf_optim {
namespace {

using ::tensorflow::OpKernelConstruction;
using ::tensorflow::OpKernelContext;
using ::tensorflow::Tensor;

using Runs = std::vector<std::vector<RowRun>>;

template <class T>
class AccumulateRowsOp : public AccumulatorOp<T> {
 public:
  using AccumulatorOp<T>::AccumulatorOp;

 protected:
  absl::Status Run(OpKernelContext* context,
                   const LockedVars& variables) override {
    TF_RETURN_IF_ERROR(this->Check(variables));
    std::vector<AccumulatorItem<T>> items, added;
    TF_RETURN_IF_ERROR(this->ReadGradients(context, variables, &items));
    const int64_t iterations = this->Iterations(context);
    std::vector<int> keep, add;
    this->Split(variables, items, iterations, &keep, &add);
    for (int i : add) added.push_back(items[i]);
    TF_RETURN_IF_ERROR(this->Append(context, variables, items, keep));
    for (int i : keep) {
      Touched touched = this->TouchedOf(variables, i);
      touched.step() = iterations + 1;
      touched.count() += items[i].count;
      touched.kept() += items[i].count;
    }
    TF_RETURN_IF_ERROR(this->AddKept(context, variables, add));
    Runs runs;
    TF_RETURN_IF_ERROR(this->Add(context, variables, added, add, &runs));
    for (size_t k = 0; k < add.size(); ++k) {
      TF_RETURN_IF_ERROR(
          Remember(context, variables, add[k], iterations, runs[k]));
    }
    return absl::OkStatus();
  }

 private:
  absl::Status Remember(OpKernelContext* context, const LockedVars& variables,
                        int i, int64_t iterations,
                        const std::vector<RowRun>& runs) const {
    const int position = this->touched_at(i);
    TF_RETURN_IF_ERROR(variables.MakeOwn(context, position));
    Touched touched = this->TouchedOf(variables, i);
    if (touched.step() != iterations) {
      touched.step() = -1;
      touched.count() = 0;
      return absl::OkStatus();
    }
    const int64_t before = touched.count();
    const int64_t after = before + static_cast<int64_t>(runs.size());
    TF_RETURN_IF_ERROR(
        Reserve(context, Touched::kFirst + before, Touched::kFirst + after,
                std::numeric_limits<int64_t>::max(), variables.at(position)));
    touched = this->TouchedOf(variables, i);
    touched.step() = iterations + 1;
    touched.count() = after;
    int64_t* next = touched.rows() + before;
    for (const RowRun& run : runs) *next++ = run.row;
    return absl::OkStatus();
  }
};

template <class T>
class AccumulatedRowsOp : public AccumulatorOp<T> {
 public:
  using AccumulatorOp<T>::AccumulatorOp;

 protected:
  absl::Status Run(OpKernelContext* context,
                   const LockedVars& variables) override {
    TF_RETURN_IF_ERROR(this->Check(variables));
    std::vector<AccumulatorItem<T>> items, added;
    TF_RETURN_IF_ERROR(this->ReadGradients(context, variables, &items));
    std::vector<int> keep, add;
    this->Split(variables, items, this->Iterations(context), &keep, &add);
    TF_RETURN_IF_ERROR(this->Append(context, variables, items, keep));
    for (int i : keep) {
      TF_RETURN_IF_ERROR(GiveAsKept(context, variables, i, items[i].count));
    }
    TF_RETURN_IF_ERROR(this->AddKept(context, variables, add));
    for (int i : add) {
      added.push_back(items[i]);
      added.back().table = this->Table(variables, i).table;
    }
    return GiveSums(context, variables, added, add);
  }

 private:
  // Allocates the outputs of a variable, of which `sum` may be null.
  absl::Status Allocate(OpKernelContext* context, const LockedVars& variables,
                        int i, int64_t size, Tensor** rows,
                        Tensor** sum) const {
    TF_RETURN_IF_ERROR(context->allocate_output(i, {size}, rows));
    if (sum == nullptr) return absl::OkStatus();
    tensorflow::TensorShape shape = variables.at(i)->shape();
    shape.set_dim(0, size);
    return context->allocate_output(this->count() + i, shape, sum);
  }

  // What is kept, in the memory in which it is.
  absl::Status GiveAsKept(OpKernelContext* context, const LockedVars& variables,
                          int i, int64_t appended) const {
    Touched touched = this->TouchedOf(variables, i);
    const int64_t size = touched.count() + appended;
    Tensor* rows;
    TF_RETURN_IF_ERROR(Allocate(context, variables, i, size, &rows, nullptr));
    std::copy_n(touched.rows(), size, static_cast<int64_t*>(rows->data()));
    context->set_output(this->count() + i,
                        variables.at(this->kept_at(i))->Slice(0, size));
    return absl::OkStatus();
  }

  // The sums of accumulators and gradients, of each row that has any.
  absl::Status GiveSums(OpKernelContext* context, const LockedVars& variables,
                        const std::vector<AccumulatorItem<T>>& items,
                        const std::vector<int>& which) const {
    if (which.empty()) return absl::OkStatus();
    const ParallelFor parallel_for = DeviceThreads(context);
    std::vector<IdSorter> sorters;
    SortItems(items, parallel_for, &sorters);
    Runs runs;
    std::vector<T*> sums;
    for (size_t k = 0; k < which.size(); ++k) {
      Touched touched = this->TouchedOf(variables, which[k]);
      runs.push_back(
          UnionOf(RunsOf(sorters[k].ids()),
                  touched.step() == this->Iterations(context)
                      ? Remembered(touched, items[k].rows, parallel_for)
                      : Named(items[k], parallel_for)));
      const int64_t size = static_cast<int64_t>(runs[k].size());
      Tensor *rows, *sum;
      TF_RETURN_IF_ERROR(
          Allocate(context, variables, which[k], size, &rows, &sum));
      int64_t* next = static_cast<int64_t*>(rows->data());
      for (const RowRun& run : runs[k]) *next++ = run.row;
      sums.push_back(static_cast<T*>(sum->data()));
    }
    ForEachRun(items, runs, parallel_for,
               [&](const auto& item, size_t k, int64_t r) {
                 const RowRun& run = runs[k][r];
                 const T* const row = item.table + run.row * item.width;
                 T* const sum = sums[k] + r * item.width;
                 AddGradients(item, sorters[k].ids(), run, row, sum);
                 if (run.begin == run.end) {
                   std::copy_n(row, item.width, sum);
                 }
               });
    return absl::OkStatus();
  }

  static std::vector<RowRun> Remembered(Touched touched, int64_t rows,
                                        const ParallelFor& parallel_for) {
    IdSorter sorter;
    sorter.Sort<Outside::kLeaveOut>(touched.rows(), touched.count(), rows,
                                    parallel_for);
    return RunsOf(sorter.ids());
  }

  static std::vector<RowRun> Named(const AccumulatorItem<T>& item,
                                   const ParallelFor& parallel_for) {
    const std::unique_ptr<bool[]> found(new bool[item.rows]);
    FindNamedRows(item, parallel_for, found.get());
    return RunsOf(found.get(), item.rows);
  }
};

// Adds what is kept to the accumulators, which then hold all there is.
template <class T>
class AddKeptRowsOp : public AccumulatorOp<T> {
 public:
  using AccumulatorOp<T>::AccumulatorOp;

 protected:
  absl::Status Run(OpKernelContext* context,
                   const LockedVars& variables) override {
    std::vector<int> have_some;
    for (int i = 0; i < this->count(); ++i) {
      TF_RETURN_IF_ERROR(Touched::Check(*variables.at(this->touched_at(i)), i));
      if (this->TouchedOf(variables, i).kept() > 0) have_some.push_back(i);
    }
    // An accumulator may be about to be initialized.
    if (have_some.empty()) return absl::OkStatus();
    TF_RETURN_IF_ERROR(this->Check(variables));
    return this->AddKept(context, variables, have_some);
  }
};

template <class T>
class ClearAccumulatedRowsOp : public AccumulatorOp<T> {
 public:
  using AccumulatorOp<T>::AccumulatorOp;

 protected:
  absl::Status Run(OpKernelContext* context,
                   const LockedVars& variables) override {
    TF_RETURN_IF_ERROR(this->Check(variables));
    const int64_t iterations = this->Iterations(context);
    std::vector<AccumulatorItem<T>> items;
    Runs runs(this->count());
    for (int i = 0; i < this->count(); ++i) {
      items.push_back(this->Table(variables, i));
      if (this->TouchedOf(variables, i).NothingAdded(iterations)) continue;
      const auto rows =
          context->input(3 * this->count() + i).template flat<int64_t>();
      const int64_t bad =
          FirstBadIndex(rows.data(), rows.size(), items[i].rows);
      if (bad >= 0) return BadIndexError(i, bad, items[i].rows, rows(bad));
      for (int64_t r = 0; r < rows.size(); ++r) {
        runs[i].push_back({rows(r), 0, 0});
      }
    }
    for (int i = 0; i < this->count(); ++i) {
      if (!runs[i].empty()) {
        TF_RETURN_IF_ERROR(variables.MakeOwn(context, i));
        items[i].table = static_cast<T*>(variables.at(i)->data());
      }
      TF_RETURN_IF_ERROR(variables.MakeOwn(context, this->touched_at(i)));
      Touched touched = this->TouchedOf(variables, i);
      touched.step() = iterations + 1;
      touched.count() = touched.kept() = 0;
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
      TF_RETURN_IF_ERROR(CheckAccumulator(*variables.at(i), this->kType, i));
    }
    Chunks chunks;
    std::vector<T*> tables;
    for (int i = 0; i < this->count(); ++i) {
      TF_RETURN_IF_ERROR(variables.MakeOwn(context, i));
      tables.push_back(static_cast<T*>(variables.at(i)->data()));
      chunks.Add(variables.at(i)->NumElements(), this->kChunk, 1);
    }
    DeviceThreads(context)(
        chunks.count(), this->kChunk * sizeof(T) / 20.0,
        [&](int64_t first, int64_t last) {
          chunks.ForEach(first, last, [&](size_t i, int64_t b, int64_t e) {
            std::fill(tables[i] + b, tables[i] + e, T{0});
          });
        });
    return absl::OkStatus();
  }
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
  (Register<AddKeptRowsOp, Ts>("TfOptim>AddKeptRows"), ...);
  (Register<ClearAccumulatedRowsOp, Ts>("TfOptim>ClearAccumulatedRows"), ...);
  (Register<ClearAccumulatorsOp, Ts>("TfOptim>ClearAccumulators"), ...);
  return true;
}

[[maybe_unused]] const bool registered = RegisterAll<float, double>();

}  // namespace
}  // namespace tf_optim
