// Registers TfOptim>UseHugePages and TfOptim>FillInHugePages.
#include "tensorflow/core/framework/common_shape_fns.h"
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/shape_inference.h"

namespace tf_optim {
namespace {

REGISTER_OP("TfOptim>UseHugePages")
    .Input("variable: resource")
    .Output("bytes: int64")
    .SetIsStateful()
    .SetShapeFn(tensorflow::shape_inference::ScalarShape)
    .Doc(R"doc(
Asks the system to move the memory of a variable into huge pages, where it is.

Values stay what they are, and memory that nobody else reads stays where it is.

variable: on a CPU, of any dtype and shape.
bytes: how many bytes lie in huge pages now; -1 where the system has no such call.
)doc");

REGISTER_OP("TfOptim>FillInHugePages")
    .Input("dims: int64")
    .Input("value: T")
    .Output("filled: T")
    .Attr("T: {float, double, half, bfloat16, uint8}")
    .SetIsStateful()  // nobody makes a constant of it
    .SetShapeFn([](tensorflow::shape_inference::InferenceContext* c) {
      tensorflow::shape_inference::ShapeHandle shape;
      TF_RETURN_IF_ERROR(c->MakeShapeFromShapeTensor(0, &shape));
      c->set_output(0, shape);
      return absl::OkStatus();
    })
    .Doc(R"doc(
As Fill, in memory for which huge pages are asked before it is touched.

dims: the shape of the result.
value: a scalar.
filled: of that shape; in other pages where the system has no huge ones free.
)doc");

}  // namespace
}  // namespace tf_optim
