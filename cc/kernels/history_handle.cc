#include "cc/kernels/history_handle.h"

#include <string>

#include "tensorflow/core/framework/resource_var.h"
#include "tensorflow/core/framework/variant.h"
#include "tensorflow/core/framework/variant_tensor_data.h"

namespace tf_optim {
namespace {

using ::tensorflow::ResourceHandle;
using ::tensorflow::Tensor;
using ::tensorflow::Var;
using ::tensorflow::Variant;
using ::tensorflow::VariantTensorData;
using ::tensorflow::core::RefCountPtr;

// The variable's value.
struct HistoryRef {
  tensorflow::core::IntrusivePtr<RowHistory> history;

  std::string TypeName() const { return "TfOptim>RowHistory"; }
  // It leaves no process.
  void Encode(VariantTensorData*) const {}
  bool Decode(const VariantTensorData&) { return false; }
};

}  // namespace

ResourceHandle MakeHistory(tensorflow::OpKernelContext* context) {
  Tensor value(tensorflow::DT_VARIANT, tensorflow::TensorShape({}));
  value.scalar<Variant>()() = HistoryRef{{new RowHistory(), /*add_ref=*/false}};
  auto* variable = new Var(tensorflow::DT_VARIANT);
  *variable->tensor() = std::move(value);
  variable->is_initialized = true;
  return ResourceHandle::MakeRefCountingHandle(variable,
                                               context->device()->name());
}

RefCountPtr<RowHistory> HistoryBehind(tensorflow::OpKernelContext* context,
                                      const ResourceHandle& handle) {
  RefCountPtr<Var> variable;
  if (!tensorflow::LookupResource(context, handle, &variable).ok()) {
    return nullptr;
  }
  const tensorflow::tf_shared_lock lock(*variable->mu());
  const Tensor& value = *variable->tensor();
  if (value.dtype() != tensorflow::DT_VARIANT || value.NumElements() != 1) {
    return nullptr;
  }
  const auto* ref = value.scalar<Variant>()().get<HistoryRef>();
  if (ref == nullptr) return nullptr;
  ref->history->Ref();
  return RefCountPtr<RowHistory>(ref->history.get());
}

}  // namespace tf_optim
