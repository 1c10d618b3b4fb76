// The inputs of TfOptim>GradientNorms: for its kernels, those of XLA too.
#ifndef TF_OPTIM_CC_OPS_NORMS_LAYOUT_H_
#define TF_OPTIM_CC_OPS_NORMS_LAYOUT_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace tf_optim {

// Dense gradients come first, then sparse ones, then the indices of these.
struct NormsLayout {
  int dense = 0, sparse = 0;
  std::vector<int64_t> rows;  // of the variable of each sparse gradient
};

// `read(attribute, &value)` reads an attribute of the node.
template <class Read>
absl::Status ReadNormsLayout(const Read& read, NormsLayout* layout) {
  int all = 0;
  absl::Status status = read("N", &all);
  if (status.ok()) status = read("N_sparse", &layout->sparse);
  if (status.ok()) status = read("rows", &layout->rows);
  if (!status.ok()) return status;
  if (layout->sparse > all) {
    return absl::InvalidArgumentError(
        absl::StrCat("indices must have at most as many tensors as grad (", all,
                     "). Received: ", layout->sparse, "."));
  }
  if (static_cast<int>(layout->rows.size()) != layout->sparse) {
    return absl::InvalidArgumentError(absl::StrCat(
        "rows must have a number for each of ", layout->sparse,
        " sparse gradients. Received: ", layout->rows.size(), "."));
  }
  layout->dense = all - layout->sparse;
  return status;
}

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_OPS_NORMS_LAYOUT_H_
