// Registers TfOptim>UseHugePages.
#include "tensorflow/core/framework/common_shape_fns.h"
#include "tensorflow/core/framework/op.h"

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

}  // namespace
}  // namespace tf_optim
