#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/shape_inference.h"

namespace tf_optim {

using ::tensorflow::shape_inference::InferenceContext;
using ::tensorflow::shape_inference::ShapeHandle;

REGISTER_OP("TfOptim>AccumulateRows")
    .Input("accumulator: N * resource")
    .Input("touched: N * resource")
    .Input("grad: N * T")
    .Input("indices: N * int64")
    .Input("iterations: int64")
    .Attr("N: int >= 1")
    .Attr("T: {float, double}")
    .SetIsStateful()
    .SetShapeFn([](InferenceContext*) { return absl::OkStatus(); })
    .Doc(R"doc(
Adds sparse gradients to accumulators and remembers which rows they named.

Every check comes before the first write: an index outside its accumulator is an error.

accumulator: variables of type T, [rows, ...].
touched: for each an int64 variable of any length: the value of `iterations` at which it
  is right, how many rows it names, their numbers (a row may occur more than once), and
  room for more. Where its first number is another one it is not right, and becomes -1.
grad: [number of indices, ...].
indices: the row of each gradient.
iterations: steps done before.
N: how many accumulators.
)doc");

REGISTER_OP("TfOptim>AccumulatedRows")
    .Input("accumulator: N * resource")
    .Input("touched: N * resource")
    .Input("grad: N * T")
    .Input("indices: N * int64")
    .Input("iterations: int64")
    .Output("rows: N * int64")
    .Output("mean: N * T")
    .Attr("N: int >= 1")
    .Attr("T: {float, double}")
    .Attr("steps: int >= 1")
    .SetIsStateful()
    .SetShapeFn([](InferenceContext* c) {
      int count = 0;
      TF_RETURN_IF_ERROR(c->GetAttr("N", &count));
      for (int i = 0; i < count; ++i) {
        ShapeHandle grad = c->input(2 * count + i), mean = c->UnknownShape();
        c->set_output(i, c->Vector(InferenceContext::kUnknownDim));
        if (c->RankKnown(grad) && c->Rank(grad) > 0) {
          TF_RETURN_IF_ERROR(c->ReplaceDim(grad, 0, c->UnknownDim(), &mean));
        }
        c->set_output(count + i, mean);
      }
      return absl::OkStatus();
    })
    .Doc(R"doc(
The rows that accumulators and one more sparse gradient hold, each once, divided by
the number of steps. Changes nothing.

accumulator: as in AccumulateRows.
touched: as in AccumulateRows; where it is not right, rows that are not zero are looked
  for.
grad: [number of indices, ...].
indices: the row of each gradient.
iterations: steps done before.
rows: the rows' numbers, in order.
mean: (accumulator + grad) / steps, of these rows.
steps: what sums are divided by.
N: how many accumulators.
)doc");

REGISTER_OP("TfOptim>ClearAccumulatedRows")
    .Input("accumulator: N * resource")
    .Input("touched: N * resource")
    .Input("rows: N * int64")
    .Input("iterations: int64")
    .Attr("N: int >= 1")
    .Attr("T: {float, double}")
    .SetIsStateful()
    .SetShapeFn([](InferenceContext*) { return absl::OkStatus(); })
    .Doc(R"doc(
Sets rows of accumulators to zero, and `touched` to none from the next step on.

accumulator: as in AccumulateRows.
touched: as in AccumulateRows.
rows: the numbers of all rows that are not zero.
iterations: steps done before.
N: how many accumulators.
T: the accumulators' type.
)doc");

REGISTER_OP("TfOptim>ClearAccumulators")
    .Input("accumulator: N * resource")
    .Attr("N: int >= 1")
    .Attr("T: {float, double}")
    .SetIsStateful()
    .SetShapeFn([](InferenceContext*) { return absl::OkStatus(); })
    .Doc(R"doc(
Sets accumulators to zero, in their own memory.

accumulator: variables of type T.
N: how many.
T: their type.
)doc");

}  // namespace tf_optim
