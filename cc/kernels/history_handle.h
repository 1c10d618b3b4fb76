// What a resource that is a table's history looks like to TensorFlow: a
// variable. A loop passes resources on, and its gradient asks each of them for
// the shape and dtype that only variables have.
#ifndef TF_OPTIM_CC_KERNELS_HISTORY_HANDLE_H_
#define TF_OPTIM_CC_KERNELS_HISTORY_HANDLE_H_

#include "cc/kernels/row_history.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/resource_handle.h"
#include "tensorflow/core/framework/resource_mgr.h"

namespace tf_optim {

// A handle of a new history, which lives as long as it or a copy of it.
tensorflow::ResourceHandle MakeHistory(tensorflow::OpKernelContext* context);

// The history behind a handle; null where it is of anything else. In a
// SavedModel the table's own handle is in the place of its history's.
tensorflow::core::RefCountPtr<RowHistory> HistoryBehind(
    tensorflow::OpKernelContext* context,
    const tensorflow::ResourceHandle& handle);

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_KERNELS_HISTORY_HANDLE_H_
