#include "cc/xla/sparse_rows.h"

#include <vector>

#include "cc/drivers/sort_ids.h"
#include "xla/hlo/builder/lib/arithmetic.h"
#include "xla/hlo/builder/lib/comparators.h"
#include "xla/hlo/builder/lib/constants.h"

namespace tf_optim {

namespace {

using ::xla::XlaBuilder;
using ::xla::XlaComputation;
using ::xla::XlaOp;

xla::Shape ShapeOf(XlaOp op) { return op.builder()->GetShape(op).value(); }

// The second argument: what a scatter that replaces combines with.
XlaComputation TakeNew(XlaBuilder* parent, xla::PrimitiveType type) {
  auto builder = parent->CreateSubBuilder("take_new");
  const xla::Shape scalar = xla::ShapeUtil::MakeShape(type, {});
  xla::Parameter(builder.get(), 0, scalar, "old");
  xla::Parameter(builder.get(), 1, scalar, "new");
  return builder->BuildAndNoteError();
}

// The inclusive sums of a vector, in steps of doubling distance: XLA's own
// cumulative sum is quadratic on a CPU.
XlaOp InclusiveSum(XlaOp x, int64_t n) {
  for (int64_t distance = 1; distance < n; distance *= 2) {
    xla::PaddingConfig padding;
    auto* dimension = padding.add_dimensions();
    dimension->set_edge_padding_low(distance);
    dimension->set_edge_padding_high(-distance);
    x = xla::Add(x, xla::Pad(x, xla::ScalarLike(x, 0), padding));
  }
  return x;
}

XlaOp GatherRows(XlaOp table, XlaOp rows, bool sorted) {
  const xla::Shape shape = ShapeOf(table);
  std::vector<int64_t> slice(shape.dimensions().begin(),
                             shape.dimensions().end());
  slice[0] = 1;
  xla::GatherDimensionNumbers numbers;
  for (size_t d = 1; d < slice.size(); ++d) numbers.add_offset_dims(d);
  numbers.add_collapsed_slice_dims(0);
  numbers.add_start_index_map(0);
  numbers.set_index_vector_dim(1);
  return xla::Gather(table, rows, numbers, slice, sorted);
}

enum class Combine { kAdd, kReplace };

XlaOp ScatterRows(XlaOp table, XlaOp rows, XlaOp updates, Combine combine,
                  bool distinct) {
  XlaBuilder* builder = table.builder();
  const xla::Shape shape = ShapeOf(table);
  const xla::PrimitiveType type = shape.element_type();
  xla::ScatterDimensionNumbers numbers;
  for (size_t d = 1; d < shape.dimensions().size(); ++d) {
    numbers.add_update_window_dims(d);
  }
  numbers.add_inserted_window_dims(0);
  numbers.add_scatter_dims_to_operand_dims(0);
  numbers.set_index_vector_dim(1);
  const bool add = combine == Combine::kAdd;
  return xla::Scatter(table, rows, updates,
                      add ? xla::CreateScalarAddComputation(type, builder)
                          : TakeNew(builder, type),
                      numbers, /*indices_are_sorted=*/true, distinct);
}

// As SortOnCpu, on any device.
SortedRows Sort(XlaOp ids, int64_t end) {
  XlaBuilder* builder = ids.builder();
  const int64_t n = ShapeOf(ids).dimensions(0);
  const xla::PrimitiveType type = xla::S64;
  const XlaOp sorted =
      xla::Sort({ids, xla::Iota(builder, type, n)},
                xla::CreateScalarLtComputation({type, type}, builder),
                /*dimension=*/0, /*is_stable=*/true);
  const XlaOp sorted_ids = xla::GetTupleElement(sorted, 0);
  const XlaOp previous =
      xla::ConcatInDim(builder,
                       {xla::SliceInDim(sorted_ids, 0, 1, 1, 0),
                        xla::SliceInDim(sorted_ids, 0, n - 1, 1, 0)},
                       0);
  const XlaOp run = InclusiveSum(
      xla::ConvertElementType(xla::Ne(sorted_ids, previous), type), n);
  const XlaOp nowhere = xla::Broadcast(xla::ScalarLike(ids, end), {n});
  return {xla::GetTupleElement(sorted, 1), run,
          ScatterRows(nowhere, run, sorted_ids, Combine::kReplace,
                      /*distinct=*/false)};
}

}  // namespace

SparseRows::SparseRows(XlaOp indices, const tensorflow::TensorShape& table,
                       bool on_cpu)
    : table_(table), on_cpu_(on_cpu), count_(ShapeOf(indices).dimensions(0)) {
  if (empty()) return;
  const int64_t end = table.dim_size(0);
  const XlaOp all = xla::ConvertElementType(indices, xla::S64);
  const XlaOp nowhere = xla::ScalarLike(all, end);
  const XlaOp in_range =
      xla::And(xla::Ge(all, xla::ScalarLike(all, 0)), xla::Lt(all, nowhere));
  const XlaOp ids =
      xla::Select(in_range, all, xla::Broadcast(nowhere, {count_}));
  // What IdSorter cannot put into a key is sorted by XLA.
  const bool fits = KeyFits(end + 1, count_);
  sorted_ = on_cpu_ && fits ? SortOnCpu(ids, end) : Sort(ids, end);
}

XlaOp SparseRows::Gather(XlaOp table) const {
  return GatherRows(table, sorted_.row, /*sorted=*/true);
}

XlaOp SparseRows::IsUsed() const {
  return xla::Lt(sorted_.row, xla::ScalarLike(sorted_.row, table_.dim_size(0)));
}

XlaOp SparseRows::Scatter(XlaOp table, XlaOp rows) const {
  if (on_cpu_) return ScatterOnCpu(table, sorted_.row, rows);
  return ScatterRows(table, sorted_.row, rows, Combine::kReplace,
                     /*distinct=*/true);
}

XlaOp SparseRows::SumDuplicates(XlaOp gradients) const {
  if (on_cpu_) return SumOnCpu(gradients, sorted_);
  const XlaOp in_order = GatherRows(gradients, sorted_.order, /*sorted=*/false);
  return ScatterRows(xla::ZerosLike(gradients), sorted_.run, in_order,
                     Combine::kAdd, /*distinct=*/false);
}

XlaOp SparseRows::Densify(XlaOp gradients) const {
  const auto sizes = table_.dim_sizes();
  const XlaOp zeros = xla::Broadcast(
      xla::Zero(gradients.builder(), ShapeOf(gradients).element_type()),
      std::vector<int64_t>(sizes.begin(), sizes.end()));
  return empty() ? zeros : Scatter(zeros, SumDuplicates(gradients));
}

}  // namespace tf_optim
