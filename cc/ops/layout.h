// Where each input of an apply op is: said once, for the op's registration, its
// shape function and its kernels.
#ifndef TF_OPTIM_CC_OPS_LAYOUT_H_
#define TF_OPTIM_CC_OPS_LAYOUT_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "cc/rules/traits.h"

namespace tf_optim {

// How an op is given its variables, their slots and averages.
enum class Handles {
  kSeparate,  // a list of handles for each of these
  kBundled,   // one handle, of a VariableBundle that holds the lists
};

// What a step does to the rows of a table that its gradient does not name.
enum class IdleRowsGet {
  kTheirStep,  // all that a dense gradient that is 0 there would do
  kNothing,
  // The table's history has their step, and it is done to them later. A row
  // that the gradient names must be up to date before, or is brought up to
  // date.
  kItLaterExactly,
  kItLaterEventually,
};

inline std::string OpName(const OptimizerTraits& traits, bool sparse,
                          Handles handles = Handles::kSeparate) {
  return absl::StrCat("TfOptim>",
                      handles == Handles::kSeparate ? "Resource" : "Bundle",
                      sparse ? "Sparse" : "", "Apply", traits.name);
}

// The attribute that says how many variables an optional slot comes with: as
// many as there are variables, or none.
inline std::string SlotCountAttr(const std::string& slot) {
  return "N_" + slot;
}

// The attribute of a bundled op that says which lists its bundle holds behind
// the variables. Bit i: slot i; then "average" and "average_rows".
inline constexpr char kBundledLists[] = "lists";

// The index of the first tensor of every input. With a bundle the lists of
// handles are no inputs: their indices are places in the bundle.
struct OpLayout {
  static constexpr int kAbsent = -1;

  int count = 0;  // variables
  int bundle = kAbsent;
  int bundled = 0;  // handles in the bundle
  int var = 0;
  std::vector<int> slots;
  uint32_t variant = 0;  // VariantKey
  int grad = 0;
  int indices = kAbsent;
  int learning_rate = 0;
  int iterations = 0;
  int hyper = 0;
  int gradient_scale = 0;
  int clip_value = 0;
  int weight_decay = 0;
  int average = kAbsent;
  int average_rows = kAbsent;
  int average_momentum = 0;
  int average_updates = 0;
  int history = kAbsent;
  int sorted_ids = kAbsent;
  IdleRowsGet idle_rows = IdleRowsGet::kTheirStep;

  // Whether the step itself is one of the rows that are named.
  bool IsByRows() const { return idle_rows != IdleRowsGet::kTheirStep; }
  bool IsLazy() const { return idle_rows == IdleRowsGet::kNothing; }
  // Whether the others are left to histories.
  bool LeavesIdleRows() const { return IsByRows() && !IsLazy(); }
};

// A lazy step's averages need to know what each row's has seen.
inline absl::Status CheckAverageRows(const OpLayout& layout) {
  const bool has_rows = layout.average_rows != OpLayout::kAbsent;
  if (layout.average == OpLayout::kAbsent || has_rows == layout.IsLazy()) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "average_rows must have a variable per average in mode \"lazy\" and none "
      "in another. Received: ",
      has_rows ? "variables in another mode." : "none in mode \"lazy\"."));
}

inline absl::Status SetMode(const std::string& mode, OpLayout* layout) {
  using Get = IdleRowsGet;
  layout->idle_rows = mode == "lazy"       ? Get::kNothing
                      : mode == "exact"    ? Get::kItLaterExactly
                      : mode == "eventual" ? Get::kItLaterEventually
                                           : Get::kTheirStep;
  if (layout->LeavesIdleRows() && layout->history == OpLayout::kAbsent) {
    return absl::InvalidArgumentError(
        absl::StrCat("history must have a handle for each variable in mode \"",
                     mode, "\". Received: none."));
  }
  return CheckAverageRows(*layout);
}

// `read(attribute, &value)` reads an attribute of the node; its first error
// ends the reading.
template <class Read>
absl::Status ReadLayout(const OptimizerTraits& traits, bool sparse,
                        Handles handles, const Read& read, OpLayout* layout) {
  const bool bundled = handles == Handles::kBundled;
  int next = 0, lists = 0;
  absl::Status status = read("N", &layout->count);
  if (status.ok() && bundled) {
    layout->bundle = next++;
    status = read(kBundledLists, &lists);
  }
  if (!status.ok()) return status;
  uint32_t slot_mask = 0, flags = 0;
  for (size_t i = 0; i < traits.flags.size(); ++i) {
    bool flag = false;
    status = read(traits.flags[i], &flag);
    if (!status.ok()) return status;
    if (flag) flags |= 1u << i;
  }
  int* const place = bundled ? &layout->bundled : &next;
  layout->var = *place;
  *place += layout->count;
  const auto read_list = [&](size_t number, const std::string& list,
                             bool is_optional, int* first) {
    int count = layout->count;
    if (bundled) {
      if (!(lists >> number & 1)) count = 0;
    } else if (is_optional) {
      const absl::Status status = read(SlotCountAttr(list), &count);
      if (!status.ok()) return status;
      if (count != 0 && count != layout->count) {
        return absl::InvalidArgumentError(
            absl::StrCat(list, " must have as many variables as var (",
                         layout->count, ") or none. Received: ", count, "."));
      }
    }
    *first = count > 0 ? *place : OpLayout::kAbsent;
    *place += count;
    return absl::OkStatus();
  };
  for (size_t i = 0; i < traits.slots.size(); ++i) {
    layout->slots.emplace_back();
    status = read_list(i, traits.slots[i], traits.IsOptional(i),
                       &layout->slots.back());
    if (!status.ok()) return status;
    if (layout->slots.back() != OpLayout::kAbsent) slot_mask |= 1u << i;
  }
  layout->variant = VariantKey(slot_mask, flags);
  layout->grad = next;
  next += layout->count;
  if (sparse) {
    layout->indices = next;
    next += layout->count;
  }
  layout->learning_rate = next++;
  layout->iterations = next++;
  layout->hyper = next;
  next += static_cast<int>(traits.hyper.size());
  layout->gradient_scale = next++;
  layout->clip_value = next++;
  layout->weight_decay = next++;
  const size_t averages = traits.slots.size();
  status = read_list(averages, "average", true, &layout->average);
  if (!status.ok()) return status;
  if (sparse) {
    status =
        read_list(averages + 1, "average_rows", true, &layout->average_rows);
    if (!status.ok()) return status;
    if (layout->average_rows != OpLayout::kAbsent &&
        layout->average == OpLayout::kAbsent) {
      return absl::InvalidArgumentError(
          "average_rows must be empty without average. Received: variables.");
    }
  }
  layout->average_momentum = next++;
  layout->average_updates = next++;
  const auto read_optional = [&](const char* list, const char* of, int* first) {
    int count = 0;
    const absl::Status status = read(absl::StrCat("N_", list), &count);
    if (!status.ok()) return status;
    if (count != 0 && count != layout->count) {
      return absl::InvalidArgumentError(absl::StrCat(
          list, " must have as many ", of, " as there are variables (",
          layout->count, ") or none. Received: ", count, "."));
    }
    if (count > 0) *first = next;
    next += count;
    return absl::OkStatus();
  };
  status = read_optional("history", "handles", &layout->history);
  if (!status.ok() || !sparse) return status;
  status = read_optional("sorted_ids", "tensors", &layout->sorted_ids);
  if (!status.ok()) return status;
  std::string mode;
  status = read("mode", &mode);
  return status.ok() ? SetMode(mode, layout) : status;
}

// `count` is the attribute update_norms.
inline absl::Status CheckUpdateNorms(int count, int most,
                                     const std::string& where) {
  if (count <= most) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("update_norms must be ", most == 0 ? "0" : "0 or 1", where,
                   ". Received: ", count, "."));
}

// Where a step cannot have histories.
inline absl::Status CheckNoHistory(const OpLayout& layout,
                                   const std::string& where) {
  if (layout.history == OpLayout::kAbsent) return absl::OkStatus();
  return absl::UnimplementedError(absl::StrCat(
      "history must be empty ", where, ". Received: histories of tables."));
}

inline absl::Status CheckRoundingSeeds(const OpLayout& layout,
                                       const std::vector<int64_t>& seeds) {
  if (seeds.empty() || static_cast<int>(seeds.size()) == layout.count) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "rounding_seeds must have as many numbers as there are variables (",
      layout.count, ") or none. Received: ", seeds.size(), "."));
}

inline absl::Status NoSuchVariantError(const OptimizerTraits& traits,
                                       const OpLayout& layout) {
  std::string received;
  for (size_t i = 0; i < traits.slots.size(); ++i) {
    if (layout.slots[i] == OpLayout::kAbsent) continue;
    absl::StrAppend(&received, received.empty() ? "" : ", ", traits.slots[i]);
  }
  return absl::InvalidArgumentError(absl::StrCat(
      traits.name, " must be given a set of slots that one of its options ",
      "has. Received: ", received.empty() ? "none" : received, "."));
}

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_OPS_LAYOUT_H_
