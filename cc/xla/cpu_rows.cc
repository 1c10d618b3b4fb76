#include "cc/xla/cpu_rows.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "cc/drivers/sort_ids.h"
#include "xla/ffi/api/c_api.h"
#include "xla/ffi/api/ffi.h"

namespace tf_optim {

namespace {

namespace ffi = ::xla::ffi;

using Int64s = ffi::Buffer<ffi::S64>;
using ToInt64s = ffi::Result<Int64s>;
using ToAny = ffi::Result<ffi::AnyBuffer>;

// --- What runs. Shapes are checked before, and no table is empty.

ffi::Error Sort(Int64s ids, Int64s end_buffer, ToInt64s order, ToInt64s run,
                ToInt64s row) {
  const int64_t count = ids.element_count();
  const int64_t end = *end_buffer.typed_data();
  IdSorter sorter;
  if (sorter.Sort(ids.typed_data(), count, end + 1) >= 0) {
    return ffi::Error::Internal("an id was not in [0, rows]");
  }
  const SortedIds sorted = sorter.ids();
  int64_t last = -1;  // the place in use
  for (int64_t i = 0; i < count; ++i) {
    const int64_t id = sorted.id(i);
    if (last < 0 || row->typed_data()[last] != id) {
      row->typed_data()[++last] = id;
    }
    run->typed_data()[i] = last;
    order->typed_data()[i] = sorted.position(i);
  }
  std::fill(row->typed_data() + last + 1, row->typed_data() + count, end);
  return ffi::Error::Success();
}

template <class T>
void SumAs(ffi::AnyBuffer gradients, Int64s order, Int64s run, ToAny sums) {
  const int64_t count = order.element_count();
  const int64_t width = gradients.element_count() / count;
  const T* from = gradients.typed_data<T>();
  T* to = sums->typed_data<T>();
  int64_t places = 0;  // begun so far
  for (int64_t i = 0; i < count; ++i) {
    const T* gradient = from + order.typed_data()[i] * width;
    const int64_t place = run.typed_data()[i];
    T* sum = to + place * width;
    if (place == places) {
      std::copy(gradient, gradient + width, sum);
      ++places;
    } else {
      for (int64_t d = 0; d < width; ++d) sum[d] += gradient[d];
    }
  }
  std::fill(to + places * width, to + count * width, T(0));
}

ffi::Error Sum(ffi::AnyBuffer gradients, Int64s order, Int64s run, ToAny sums) {
  if (gradients.element_type() == ffi::F64) {
    SumAs<double>(gradients, order, run, sums);
  } else {
    SumAs<float>(gradients, order, run, sums);
  }
  return ffi::Error::Success();
}

// `to` is the memory of `table`.
ffi::Error Scatter(ffi::AnyBuffer table, Int64s row, ffi::AnyBuffer updates,
                   ToAny to) {
  const int64_t rows = table.dimensions().front();
  const int64_t bytes = table.size_bytes() / rows;
  const char* from = static_cast<const char*>(updates.untyped_data());
  for (size_t i = 0; i < row.element_count(); ++i, from += bytes) {
    const int64_t at = row.typed_data()[i];
    if (at >= rows) continue;  // the place is empty
    std::memcpy(static_cast<char*>(to->untyped_data()) + at * bytes, from,
                bytes);
  }
  return ffi::Error::Success();
}

constexpr char kSort[] = "tf_optim_sort_rows";
constexpr char kSum[] = "tf_optim_sum_rows";
constexpr char kScatter[] = "tf_optim_scatter_rows";

XLA_FFI_DEFINE_HANDLER(kSortHandler, Sort);
XLA_FFI_DEFINE_HANDLER(kSumHandler, Sum);
XLA_FFI_DEFINE_HANDLER(kScatterHandler, Scatter);
XLA_FFI_REGISTER_HANDLER(XLA_FFI_GetApi(), kSort, "Host", kSortHandler);
XLA_FFI_REGISTER_HANDLER(XLA_FFI_GetApi(), kSum, "Host", kSumHandler);
XLA_FFI_REGISTER_HANDLER(XLA_FFI_GetApi(), kScatter, "Host", kScatterHandler);

// --- What calls it

// Row-major, as the functions above read and write.
xla::Shape RowMajor(const xla::Shape& shape) {
  return xla::ShapeUtil::MakeShapeWithDescendingLayout(shape.element_type(),
                                                       shape.dimensions());
}

xla::Shape ShapeOf(xla::XlaOp op) {
  return RowMajor(op.builder()->GetShape(op).value());
}

using Aliasing =
    std::pair<xla::ShapeIndex, std::pair<int64_t, xla::ShapeIndex>>;

xla::XlaOp Call(const std::string& target,
                const std::vector<xla::XlaOp>& operands,
                const xla::Shape& result,
                const std::vector<Aliasing>& aliasing = {}) {
  std::vector<xla::Shape> shapes;
  for (xla::XlaOp operand : operands) shapes.push_back(ShapeOf(operand));
  return xla::CustomCallWithLayout(
      operands[0].builder(), target, operands, result, shapes,
      /*opaque=*/"", /*has_side_effect=*/false, aliasing, /*literal=*/nullptr,
      xla::CustomCallSchedule::SCHEDULE_NONE,
      xla::CustomCallApiVersion::API_VERSION_TYPED_FFI);
}

}  // namespace

SortedRows SortOnCpu(xla::XlaOp ids, int64_t end) {
  const xla::Shape each = ShapeOf(ids);
  const xla::XlaOp sorted =
      Call(kSort, {ids, xla::ConstantR0<int64_t>(ids.builder(), end)},
           xla::ShapeUtil::MakeTupleShape({each, each, each}));
  return {xla::GetTupleElement(sorted, 0), xla::GetTupleElement(sorted, 1),
          xla::GetTupleElement(sorted, 2)};
}

xla::XlaOp SumOnCpu(xla::XlaOp gradients, const SortedRows& sorted) {
  return Call(kSum, {gradients, sorted.order, sorted.run}, ShapeOf(gradients));
}

xla::XlaOp ScatterOnCpu(xla::XlaOp table, xla::XlaOp row, xla::XlaOp updates) {
  return Call(kScatter, {table, row, updates}, ShapeOf(table), {{{}, {0, {}}}});
}

}  // namespace tf_optim
