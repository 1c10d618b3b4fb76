#include "cc/kernels/found_variables.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace tf_optim {

absl::Status FoundVariables::Find(
    tensorflow::OpKernelContext* context,
    const std::vector<const tensorflow::ResourceHandle*>& handles,
    const NameOf& name_of, std::shared_ptr<const FoundVariables>* found) {
  auto result = std::make_shared<FoundVariables>();
  auto& vars = result->vars_;
  vars.resize(handles.size());
  for (size_t i = 0; i < handles.size(); ++i) {
    if (tensorflow::LookupResource(context, *handles[i], &vars[i]).ok()) {
      continue;
    }
    return absl::FailedPreconditionError(absl::StrCat(
        name_of(i), " must be a variable that exists on this device. ",
        "Received: '", handles[i]->name(), "' on ", handles[i]->device(),
        ", which was never made or is deleted."));
  }
  auto& order = result->lock_order_;
  order.resize(vars.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::sort(order.begin(), order.end(), [&vars](size_t a, size_t b) {
    return std::make_pair(vars[a]->mu(), a) < std::make_pair(vars[b]->mu(), b);
  });
  for (size_t i = 1; i < order.size(); ++i) {
    if (vars[order[i]] != vars[order[i - 1]]) continue;
    return absl::InvalidArgumentError(absl::StrCat(
        "Variables and slots must be different ones. Received: ",
        name_of(order[i - 1]), " and ", name_of(order[i]), " are the same."));
  }
  *found = std::move(result);
  return absl::OkStatus();
}

}  // namespace tf_optim
