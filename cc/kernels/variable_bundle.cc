#include "cc/kernels/variable_bundle.h"

#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace tf_optim {

using ::tensorflow::OpKernel;
using ::tensorflow::OpKernelContext;
using ::tensorflow::ResourceHandle;

std::string VariableBundle::DebugString() const {
  const absl::MutexLock lock(&mu_);
  return absl::StrCat("A bundle of ", handles_.size(), " variables.");
}

void VariableBundle::Fill(std::vector<ResourceHandle> handles) {
  const absl::MutexLock lock(&mu_);
  handles_ = std::move(handles);
  found_ = nullptr;
}

absl::Status VariableBundle::Find(
    OpKernelContext* context, size_t count,
    const FoundVariables::NameOf& name_of,
    std::shared_ptr<const FoundVariables>* found) {
  const absl::MutexLock lock(&mu_);
  if (handles_.empty()) {
    return absl::FailedPreconditionError(
        "A step of a SavedModel must be taken where the model was loaded "
        "outside of a strategy's scope and on one CPU device. Received: a "
        "model that can serve alone. Load a checkpoint or a .keras file into "
        "a model that is made in the scope.");
  }
  if (handles_.size() != count) {
    return absl::FailedPreconditionError(absl::StrCat(
        "bundle must hold the ", count, " variables, slots and averages that ",
        "the op's attributes say. Received: ", handles_.size(), "."));
  }
  if (found_ == nullptr) {
    std::vector<const ResourceHandle*> handles;
    for (const ResourceHandle& handle : handles_) handles.push_back(&handle);
    const absl::Status status =
        FoundVariables::Find(context, handles, name_of, &found_);
    if (!status.ok()) return status;
  }
  *found = found_;
  return absl::OkStatus();
}

namespace {

class VariableBundleOp : public OpKernel {
 public:
  using OpKernel::OpKernel;

  void Compute(OpKernelContext* context) override {
    tensorflow::Tensor* handle = nullptr;
    OP_REQUIRES_OK(context, context->allocate_output(0, {}, &handle));
    handle->scalar<ResourceHandle>()() = ResourceHandle::MakeRefCountingHandle(
        new VariableBundle(), context->device()->name());
  }
};

class FillVariableBundleOp : public OpKernel {
 public:
  using OpKernel::OpKernel;

  void Compute(OpKernelContext* context) override {
    tensorflow::core::RefCountPtr<VariableBundle> bundle;
    OP_REQUIRES_OK(
        context,
        tensorflow::LookupResource(
            context, tensorflow::HandleFromInput(context, 0), &bundle));
    std::vector<ResourceHandle> handles;
    for (int i = 1; i < context->num_inputs(); ++i) {
      handles.push_back(tensorflow::HandleFromInput(context, i));
    }
    bundle->Fill(std::move(handles));
  }
};

REGISTER_KERNEL_BUILDER(
    Name("TfOptim>VariableBundle").Device(tensorflow::DEVICE_CPU),
    VariableBundleOp);
REGISTER_KERNEL_BUILDER(
    Name("TfOptim>FillVariableBundle").Device(tensorflow::DEVICE_CPU),
    FillVariableBundleOp);

}  // namespace
}  // namespace tf_optim
