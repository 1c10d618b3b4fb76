// How the variables of an op come behind one handle.
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/shape_inference.h"

namespace tf_optim {

using ::tensorflow::shape_inference::InferenceContext;

REGISTER_OP("TfOptim>VariableBundle")
    .Output("bundle: resource")
    .SetIsStateful()
    .SetShapeFn([](InferenceContext* c) {
      c->set_output(0, c->Scalar());
      return absl::OkStatus();
    })
    .Doc(R"doc(
Makes an empty bundle of variables, for the ops TfOptim>BundleApply<Name>.

bundle: lives as long as this handle or a copy of it.
)doc");

REGISTER_OP("TfOptim>FillVariableBundle")
    .Input("bundle: resource")
    .Input("variables: N * resource")
    .Attr("N: int >= 1")
    .SetIsStateful()
    .SetShapeFn([](InferenceContext*) { return absl::OkStatus(); })
    .Doc(R"doc(
Says which variables a bundle holds, in place of those it held.

bundle: to be filled.
variables: of this device, each once. They need not exist before the first step;
  from then on they live as long as the bundle.
)doc");

}  // namespace tf_optim
