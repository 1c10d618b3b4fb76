// Registers TfOptim>AdafactorMeans and TfOptim>AdafactorSteps.
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/shape_inference.h"

namespace tf_optim {
namespace {

using ::tensorflow::shape_inference::InferenceContext;

// Outputs [first, first + count) have the shapes of inputs [like, like +
// count).
void SetShapes(InferenceContext* c, int first, int like, int count) {
  for (int i = 0; i < count; ++i) c->set_output(first + i, c->input(like + i));
}

REGISTER_OP("TfOptim>AdafactorMeans")
    .Input("grad: N * T")
    .Input("rows: N * T")
    .Input("columns: N * T")
    .Input("share: double")
    .Input("epsilon: double")
    .Output("rows_after: N * T")
    .Output("columns_after: N * T")
    .Attr("N: int >= 1")
    .Attr("T: {float, double}")
    .SetShapeFn([](InferenceContext* c) {
      int count;
      TF_RETURN_IF_ERROR(c->GetAttr("N", &count));
      SetShapes(c, 0, count, 2 * count);
      return absl::OkStatus();
    })
    .Doc(R"doc(
Moves the means over rows and columns that Adafactor keeps of squared gradients.

    rows += share * (mean of grad^2 over the last dimension + epsilon - rows)
    columns += share * (the same over the last but one - columns)

Squares are added up in an order that depends on shapes alone, at most 256 of them
before a double takes their sum. A gradient of fewer than two dimensions has in `rows`
what moves towards grad^2 + epsilon itself, and its `columns` stay as they are.

grad: gradients.
rows: of each its shape without the last dimension; of vectors and scalars its shape.
columns: of each its shape without the last dimension but one; anything for vectors
    and scalars.
share: a scalar.
epsilon: a scalar.
rows_after: the rows after the step.
columns_after: the columns after the step.
N: how many gradients.
)doc");

REGISTER_OP("TfOptim>AdafactorSteps")
    .Input("grad: N * T")
    .Input("rows: N * T")
    .Input("columns: N * T")
    .Output("steps: N * T")
    .Output("squares: double")
    .Attr("N: int >= 1")
    .Attr("T: {float, double}")
    .SetShapeFn([](InferenceContext* c) {
      int count;
      TF_RETURN_IF_ERROR(c->GetAttr("N", &count));
      SetShapes(c, 0, 0, count);
      c->set_output(count, c->Vector(count));
      return absl::OkStatus();
    })
    .Doc(R"doc(
Gradients over the root of a second moment by rows and columns.

    step = grad / sqrt(rows / mean of rows * columns)

The mean is that of a matrix's rows. Of vectors and scalars: grad / sqrt(rows).

grad: gradients.
rows: as TfOptim>AdafactorMeans gives them.
columns: as TfOptim>AdafactorMeans gives them.
steps: of the gradients' shapes.
squares: of each step the sum of its squares.
N: how many gradients.
)doc");

}  // namespace
}  // namespace tf_optim
