#include "cc/xla/sparse_rows.h"

#include <vector>

#include "cc/xla/shape_of.h"

namespace tf_optim {

namespace {

using ::xla::XlaBuilder;
using ::xla::XlaComputation;
using ::xla::XlaOp;

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

}  // namespace

XlaOp WithAllPlaces(XlaOp rows) {
  const xla::Shape shape = ShapeOf(rows);
  return shape.dimensions().size() > 0 && shape.is_dynamic_dimension(0)
             ? xla::RemoveDynamicDimension(rows, /*dimension=*/0)
             : rows;
}

XlaOp IdsOfAllPlaces(XlaOp indices) {
  const XlaOp ids = xla::ConvertElementType(indices, xla::S64);
  const xla::Shape shape = ShapeOf(ids);
  if (!shape.is_dynamic_dimension(0)) return ids;
  const int64_t places = shape.dimensions(0);
  const XlaOp count = xla::ConvertElementType(
      xla::GetDimensionSize(ids, /*dimension=*/0), xla::S64);
  return xla::Select(xla::Lt(xla::Iota(ids.builder(), xla::S64, places),
                             xla::Broadcast(count, {places})),
                     WithAllPlaces(ids),
                     xla::Broadcast(xla::ScalarLike(ids, -1), {places}));
}

SparseRows::SparseRows(XlaOp indices, const tensorflow::TensorShape& table)
    : table_(table), count_(ShapeOf(indices).dimensions(0)) {
  if (empty()) return;
  XlaBuilder* builder = indices.builder();
  const XlaOp all = xla::ConvertElementType(indices, xla::S64);
  const XlaOp nowhere =
      xla::Broadcast(xla::ScalarLike(all, table.dim_size(0)), {count_});
  const XlaOp in_range =
      xla::And(xla::Ge(all, xla::ScalarLike(all, 0)), xla::Lt(all, nowhere));
  const XlaOp sorted =
      xla::Sort({xla::Select(in_range, all, nowhere),
                 xla::Iota(builder, xla::S64, count_)},
                xla::CreateScalarLtComputation({xla::S64, xla::S64}, builder),
                /*dimension=*/0, /*is_stable=*/true);
  const XlaOp ids = xla::GetTupleElement(sorted, 0);
  order_ = xla::GetTupleElement(sorted, 1);
  const XlaOp previous =
      xla::ConcatInDim(builder,
                       {xla::SliceInDim(ids, 0, 1, 1, 0),
                        xla::SliceInDim(ids, 0, count_ - 1, 1, 0)},
                       0);
  run_ = InclusiveSum(xla::ConvertElementType(xla::Ne(ids, previous), xla::S64),
                      count_);
  row_ = ScatterRows(nowhere, run_, ids, Combine::kReplace,
                     /*distinct=*/false);
}

std::vector<XlaOp> SparseRows::Read(XlaOp gradients,
                                    const std::vector<XlaOp>& tables) const {
  const XlaOp in_order = GatherRows(gradients, order_, /*sorted=*/false);
  std::vector<XlaOp> read = {ScatterRows(xla::ZerosLike(gradients), run_,
                                         in_order, Combine::kAdd,
                                         /*distinct=*/false)};
  for (XlaOp table : tables) {
    read.push_back(GatherRows(table, row_, /*sorted=*/true));
  }
  return read;
}

XlaOp SparseRows::IsUsed() const {
  return xla::Lt(row_, xla::ScalarLike(row_, table_.dim_size(0)));
}

XlaOp SparseRows::Scatter(XlaOp table, XlaOp rows) const {
  return ScatterRows(table, row_, rows, Combine::kReplace,
                     /*distinct=*/true);
}

XlaOp SparseRows::Densify(XlaOp gradients) const {
  const auto sizes = table_.dim_sizes();
  const XlaOp zeros = xla::Broadcast(
      xla::Zero(gradients.builder(), ShapeOf(gradients).element_type()),
      std::vector<int64_t>(sizes.begin(), sizes.end()));
  return empty() ? zeros : Scatter(zeros, Read(gradients, {})[0]);
}

}  // namespace tf_optim
