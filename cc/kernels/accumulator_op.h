// What the ops of gradient accumulation have in common. A table's sum of
// gradients lies in two places: in its accumulator, which has the table's
// shape, and behind it in gradients that are kept as they came. Which rows the
// two hold, a third variable says: `Touched`.
#ifndef TF_OPTIM_CC_KERNELS_ACCUMULATOR_OP_H_
#define TF_OPTIM_CC_KERNELS_ACCUMULATOR_OP_H_

#include <algorithm>
#include <cstring>
#include <new>
#include <vector>

#include "absl/status/status.h"
#include "cc/drivers/accumulate.h"
#include "cc/drivers/sort_ids.h"
#include "cc/kernels/locked_vars.h"
#include "cc/kernels/threads.h"
#include "tensorflow/core/framework/op_kernel.h"

namespace tf_optim {

// A view of a `touched` variable: four numbers, then those of rows, then room.
class Touched {
 public:
  static constexpr int64_t kFirst = 4;

  explicit Touched(int64_t* numbers) : numbers_(numbers) {}

  // The step before which it is right.
  int64_t& step() { return numbers_[0]; }
  // Rows that it names; the last `kept` of them have a kept gradient each.
  int64_t& count() { return numbers_[1]; }
  int64_t& kept() { return numbers_[2]; }
  // Whether gradients may be kept at all.
  bool may_keep() const { return numbers_[3] != 0; }
  int64_t* rows() { return numbers_ + kFirst; }
  int64_t* kept_rows() { return rows() + count() - kept(); }
  // Whether the accumulator is all zeros before step `iterations`.
  bool NothingAdded(int64_t iterations) {
    return step() == iterations && count() == kept();
  }

  static absl::Status Check(const tensorflow::Tensor& touched, int i);

 private:
  int64_t* numbers_;
};

absl::Status CheckAccumulator(const tensorflow::Tensor& table,
                              tensorflow::DataType dtype, int i);

// `kept` is [capacity] + the shape of the table's rows, and holds what
// `touched`, which has been checked, says.
absl::Status CheckKept(const tensorflow::Tensor& table,
                       const tensorflow::Tensor& touched,
                       const tensorflow::Tensor& kept,
                       tensorflow::DataType dtype, int i);

// Gives a variable's tensor room for so many in its first dimension: twice as
// many where it has too few, but at most `most`. What comes behind the first
// `used` is undefined.
absl::Status Reserve(tensorflow::OpKernelContext* context, int64_t used,
                     int64_t needed, int64_t most, tensorflow::Tensor* tensor);

// Inputs: N accumulators, N `touched`, N `kept`; gradients and indices, N each;
// the number of steps done. The ops leave out what they do not need.
template <class T>
class AccumulatorOp : public tensorflow::OpKernel {
 public:
  explicit AccumulatorOp(tensorflow::OpKernelConstruction* context)
      : OpKernel(context) {
    OP_REQUIRES_OK(context, context->GetAttr("N", &count_));
  }

  void Compute(tensorflow::OpKernelContext* context) final {
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
  using Context = tensorflow::OpKernelContext;
  using Tensor = tensorflow::Tensor;

  virtual absl::Status Run(Context* context, const LockedVars& variables) = 0;
  // Inputs that are variables.
  virtual int Variables() const { return 3 * count_; }

  static constexpr tensorflow::DataType kType =
      tensorflow::DataTypeToEnum<T>::value;

  int count() const { return count_; }
  int touched_at(int i) const { return count_ + i; }
  int kept_at(int i) const { return 2 * count_ + i; }

  absl::Status Check(const LockedVars& variables) const {
    for (int i = 0; i < count_; ++i) {
      const Tensor& table = *variables.at(i);
      const Tensor& touched = *variables.at(touched_at(i));
      TF_RETURN_IF_ERROR(CheckAccumulator(table, kType, i));
      TF_RETURN_IF_ERROR(Touched::Check(touched, i));
      TF_RETURN_IF_ERROR(
          CheckKept(table, touched, *variables.at(kept_at(i)), kType, i));
    }
    return absl::OkStatus();
  }

  Touched TouchedOf(const LockedVars& variables, int i) const {
    return Touched(static_cast<int64_t*>(variables.at(touched_at(i))->data()));
  }

  T* Kept(const LockedVars& variables, int i) const {
    return static_cast<T*>(variables.at(kept_at(i))->data());
  }

  AccumulatorItem<T> Table(const LockedVars& variables, int i) const {
    const Tensor& table = *variables.at(i);
    AccumulatorItem<T> item = {};
    item.table = static_cast<T*>(table.data());
    item.rows = table.dims() > 0 ? table.dim_size(0) : 1;
    item.width = item.rows > 0 ? table.NumElements() / item.rows : 0;
    return item;
  }

  // The accumulators with this step's gradients, whose ids are checked.
  absl::Status ReadGradients(Context* context, const LockedVars& variables,
                             std::vector<AccumulatorItem<T>>* items) const {
    for (int i = 0; i < count_; ++i) {
      const Tensor& grad = context->input(3 * count_ + i);
      const Tensor& indices = context->input(4 * count_ + i);
      TF_RETURN_IF_ERROR(
          CheckSparseGradient(*variables.at(i), grad, indices, i));
      AccumulatorItem<T> item = Table(variables, i);
      item.grad = static_cast<const T*>(grad.data());
      item.indices = static_cast<const int64_t*>(indices.data());
      item.count = indices.NumElements();
      if (!KeyFits(item.rows, item.count)) {
        return TooManyKeysError(i, item.rows, item.count);
      }
      const int64_t bad = FirstBadIndex(item.indices, item.count, item.rows);
      if (bad >= 0) {
        return BadIndexError(i, bad, item.rows, item.indices[bad]);
      }
      items->push_back(item);
    }
    return absl::OkStatus();
  }

  // Whether this step's gradient is to be kept. Kept gradients take no more
  // than half of what the accumulator takes, and none are kept once something
  // is in it.
  bool Keeps(Touched touched, const AccumulatorItem<T>& item,
             int64_t iterations) const {
    return touched.may_keep() && touched.NothingAdded(iterations) &&
           touched.kept() + item.count <= MostKept(item);
  }
  static int64_t MostKept(const AccumulatorItem<T>& item) {
    return item.rows / 2;
  }

  // Which of this step's gradients are kept, and which are added.
  void Split(const LockedVars& variables,
             const std::vector<AccumulatorItem<T>>& items, int64_t iterations,
             std::vector<int>* keep, std::vector<int>* add) const {
    for (int i = 0; i < count_; ++i) {
      const Touched touched = TouchedOf(variables, i);
      (Keeps(touched, items[i], iterations) ? keep : add)->push_back(i);
    }
  }

  // Appends gradients of these variables to the kept ones, without counting
  // them.
  absl::Status Append(Context* context, const LockedVars& variables,
                      const std::vector<AccumulatorItem<T>>& items,
                      const std::vector<int>& which) const {
    Chunks chunks;
    std::vector<T*> ends;
    for (int i : which) {
      const int64_t used = TouchedOf(variables, i).count();
      const int64_t needed = used + items[i].count;
      for (int position : {touched_at(i), kept_at(i)}) {
        TF_RETURN_IF_ERROR(variables.MakeOwn(context, position));
        const int64_t first = position == kept_at(i) ? 0 : Touched::kFirst;
        TF_RETURN_IF_ERROR(Reserve(context, first + used, first + needed,
                                   first + MostKept(items[i]),
                                   variables.at(position)));
      }
      std::copy_n(items[i].indices, items[i].count,
                  TouchedOf(variables, i).rows() + used);
      ends.push_back(Kept(variables, i) + used * items[i].width);
      chunks.Add(items[i].count * items[i].width, kChunk, 1);
    }
    DeviceThreads(context)(
        chunks.count(), kChunk * sizeof(T) / 10.0,
        [&](int64_t first, int64_t last) {
          chunks.ForEach(first, last, [&](size_t k, int64_t b, int64_t e) {
            std::copy(items[which[k]].grad + b, items[which[k]].grad + e,
                      ends[k] + b);
          });
        });
    return absl::OkStatus();
  }

  // Adds gradients to the accumulators of these variables. Returns the rows.
  absl::Status Add(Context* context, const LockedVars& variables,
                   std::vector<AccumulatorItem<T>> items,
                   const std::vector<int>& which,
                   std::vector<std::vector<RowRun>>* runs) const {
    for (size_t k = 0; k < items.size(); ++k) {
      TF_RETURN_IF_ERROR(variables.MakeOwn(context, which[k]));
      items[k].table = static_cast<T*>(variables.at(which[k])->data());
    }
    if (items.empty()) return absl::OkStatus();
    const ParallelFor parallel_for = DeviceThreads(context);
    std::vector<IdSorter> sorters;
    SortItems(items, parallel_for, &sorters);
    for (const IdSorter& sorter : sorters) {
      runs->push_back(RunsOf(sorter.ids()));
    }
    ForEachRun(items, *runs, parallel_for,
               [&](const auto& item, size_t k, int64_t r) {
                 AddToTable(item, sorters[k].ids(), (*runs)[k][r]);
               });
    return absl::OkStatus();
  }

  // Adds what is kept for these variables to their accumulators: afterwards
  // nothing is.
  absl::Status AddKept(Context* context, const LockedVars& variables,
                       const std::vector<int>& which) const {
    std::vector<AccumulatorItem<T>> items;
    std::vector<int> have_some;
    for (int i : which) {
      Touched touched = TouchedOf(variables, i);
      if (touched.kept() == 0) continue;
      AccumulatorItem<T> item = Table(variables, i);
      item.grad = Kept(variables, i);
      item.indices = touched.kept_rows();
      item.count = touched.kept();
      items.push_back(item);
      have_some.push_back(i);
    }
    std::vector<std::vector<RowRun>> runs;
    TF_RETURN_IF_ERROR(Add(context, variables, items, have_some, &runs));
    for (int i : have_some) {
      TF_RETURN_IF_ERROR(variables.MakeOwn(context, touched_at(i)));
      TouchedOf(variables, i).kept() = 0;
    }
    return absl::OkStatus();
  }

  static int64_t Iterations(Context* context) {
    const Tensor& last = context->input(context->num_inputs() - 1);
    return last.scalar<int64_t>()();
  }

  static constexpr int64_t kChunk = 4096;  // elements

 private:
  int count_ = 0;
};

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_KERNELS_ACCUMULATOR_OP_H_
