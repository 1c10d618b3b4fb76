// Registers TfOptim>ResourceApply<Name>, TfOptim>ResourceSparseApply<Name> and
// their bundled forms for every rule, from what the rule says of itself.
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "cc/ops/layout.h"
#include "cc/rules/all_rules.h"
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/shape_inference.h"

namespace tf_optim {
namespace {

using ::absl::StrAppend;
using ::absl::StrCat;
using ::tensorflow::OpDefBuilder;
using ::tensorflow::OpRegistrationData;
using ::tensorflow::OpRegistry;
using ::tensorflow::shape_inference::InferenceContext;
using ::tensorflow::shape_inference::ShapeHandle;

// The shape a resource handle says it has, as far as the graph knows it.
ShapeHandle VariableShape(InferenceContext* c, int input) {
  const auto* data = c->input_handle_shapes_and_types(input);
  return data == nullptr || data->empty() ? c->UnknownShape()
                                          : (*data)[0].shape;
}

// The shape of one number per row: [rows], or [] for a scalar.
absl::Status RowsOf(InferenceContext* c, ShapeHandle var, ShapeHandle* rows) {
  if (c->RankKnown(var) && c->Rank(var) == 0) {
    *rows = var;
    return absl::OkStatus();
  }
  if (!c->RankKnown(var)) {
    *rows = c->UnknownShape();
    return absl::OkStatus();
  }
  return c->Subshape(var, 0, 1, rows);
}

absl::Status CheckGradient(InferenceContext* c, const OpLayout& layout, int i) {
  const ShapeHandle var = VariableShape(c, layout.var + i);
  const ShapeHandle grad = c->input(layout.grad + i);
  ShapeHandle merged;
  if (layout.indices == OpLayout::kAbsent) return c->Merge(var, grad, &merged);
  ShapeHandle row, grad_row, ids, unused;
  TF_RETURN_IF_ERROR(c->WithRank(c->input(layout.indices + i), 1, &ids));
  TF_RETURN_IF_ERROR(c->WithRankAtLeast(var, 1, &unused));
  TF_RETURN_IF_ERROR(c->WithRankAtLeast(grad, 1, &unused));
  TF_RETURN_IF_ERROR(c->Subshape(var, 1, &row));
  TF_RETURN_IF_ERROR(c->Subshape(grad, 1, &grad_row));
  return c->Merge(row, grad_row, &merged);
}

absl::Status CheckShapes(InferenceContext* c, const OptimizerTraits& traits,
                         bool sparse, Handles handles) {
  OpLayout layout;
  TF_RETURN_IF_ERROR(ReadLayout(
      traits, sparse, handles,
      [c](const std::string& attr, auto* value) {
        return c->GetAttr(attr, value);
      },
      &layout));
  int update_norms = 0;
  TF_RETURN_IF_ERROR(c->GetAttr("update_norms", &update_norms));
  for (int i = 0; i < update_norms; ++i) {
    c->set_output(i, c->Vector(layout.count));
  }
  ShapeHandle unused;
  for (int i = layout.learning_rate; i < c->num_inputs(); ++i) {
    if (i == layout.learning_rate) {
      TF_RETURN_IF_ERROR(c->WithRankAtMost(c->input(i), 1, &unused));
      continue;
    }
    const bool per_variable =
        i == layout.gradient_scale || i == layout.weight_decay ||
        (layout.sorted_ids != OpLayout::kAbsent && i >= layout.sorted_ids);
    TF_RETURN_IF_ERROR(c->WithRank(c->input(i), per_variable ? 1 : 0, &unused));
  }
  if (handles == Handles::kBundled) return absl::OkStatus();
  for (int i = 0; i < layout.count; ++i) {
    const ShapeHandle var = VariableShape(c, layout.var + i);
    for (size_t s = 0; s < layout.slots.size(); ++s) {
      const int slot = layout.slots[s];
      if (slot == OpLayout::kAbsent) continue;
      const auto* slot_data = c->input_handle_shapes_and_types(slot + i);
      if (slot_data != nullptr && !slot_data->empty() &&
          (*slot_data)[0].dtype == tensorflow::DT_UINT8) {
        continue;  // packed: the kernel checks
      }
      ShapeHandle expected = var;
      if (traits.IsRowSlot(s)) {
        TF_RETURN_IF_ERROR(RowsOf(c, var, &expected));
      }
      TF_RETURN_IF_ERROR(
          c->Merge(expected, VariableShape(c, slot + i), &unused));
    }
    if (layout.average != OpLayout::kAbsent) {
      TF_RETURN_IF_ERROR(
          c->Merge(var, VariableShape(c, layout.average + i), &unused));
    }
    if (layout.average_rows != OpLayout::kAbsent) {
      ShapeHandle rows;
      TF_RETURN_IF_ERROR(RowsOf(c, var, &rows));
      TF_RETURN_IF_ERROR(
          c->Merge(rows, VariableShape(c, layout.average_rows + i), &unused));
    }
    TF_RETURN_IF_ERROR(CheckGradient(c, layout, i));
  }
  return absl::OkStatus();
}

std::string Doc(const OptimizerTraits& traits, bool sparse, Handles handles) {
  if (handles == Handles::kBundled) {
    return StrCat("As ", OpName(traits, sparse),
                  ", of the variables in a bundle.\n\n"
                  "bundle: holds a list of variables, then for each slot that "
                  "there is a list of as many, then the lists average and "
                  "average_rows if there are such.\n",
                  kBundledLists,
                  ": bit i says that the bundle has slot i, the two bits "
                  "behind those of the slots that it has average and "
                  "average_rows.\n");
  }
  std::string doc =
      StrCat("One ", traits.name, " step of a list of variables",
             sparse ? " with sparse gradients" : "",
             ".\n\nFor every variable, with t = iterations + 1:\n",
             "\n    grad = clip(grad * gradient_scale, -clip_value, clip_value)"
             " where clip_value > 0",
             "\n    var -= learning_rate * weight_decay * var", traits.formula,
             "\n\n");
  if (sparse) {
    StrAppend(&doc,
              "Gradients of repeated indices are summed first, in their order "
              "and in the computation type. mode \"lazy\" changes only the "
              "rows named in indices, slots included; \"dense\" gives what "
              "the equivalent dense gradient would; \"exact\" gives it too, "
              "to rows that are not named when they are read next: history has "
              "what they miss. Named rows must be up to date in \"exact\" "
              "mode, and are brought up to date in \"eventual\" mode. An index "
              "outside its variable is an error; on a GPU it is skipped, and a "
              "later step of the same op fails.\n\n");
  }
  StrAppend(&doc,
            "float16 and bfloat16 variables are computed in float32 and have "
            "float32 slots. On a CPU, slots with a number per element that are "
            "computed in float32 may be bfloat16, or uint8 [rows, bytes]: "
            "what TfOptim>PackSlot gives. Nothing is written unless every "
            "input is right; "
            "on a GPU, and under XLA where the graph does not show a number's "
            "value, the ranges of numbers are not checked. "
            "The result has the same bits for any number of threads and any "
            "instruction set; denormals are flushed to zero.\n\n");
  StrAppend(&doc, "var: the variables, of any shapes",
            sparse ? " [rows, ...]" : "", ", each at most once.\n");
  for (size_t i = 0; i < traits.slots.size(); ++i) {
    StrAppend(
        &doc, traits.slots[i], ": a slot of each variable, ",
        traits.IsRowSlot(i) ? "one number per row ([rows], or [] for a scalar)"
                            : "of its shape",
        traits.IsOptional(i) ? "; an empty list turns the option off" : "",
        ".\n");
  }
  StrAppend(&doc, "grad: the gradients, ",
            sparse ? "[number of indices, ...]" : "of the variables' shapes",
            ".\n");
  if (sparse) StrAppend(&doc, "indices: the row of each gradient.\n");
  StrAppend(&doc,
            "learning_rate: a scalar; on a CPU, but not under XLA, a vector of "
            "one number per variable too.\niterations: steps done before.\n");
  for (size_t i = 0; i < traits.hyper.size(); ++i) {
    StrAppend(&doc, traits.hyper[i], ": a scalar, ",
              RangeText(traits.ranges[i]), ".\n");
  }
  StrAppend(&doc,
            "gradient_scale: one factor per variable, or empty for 1.\n"
            "clip_value: a scalar >= 0; 0 for no clipping.\n"
            "weight_decay: one rate >= 0 per variable, or empty for 0.\n"
            "average: a moving average of each variable, of its shape and "
            "dtype, or empty. After the update: average = average_momentum * "
            "average + (1 - average_momentum) * var.\n");
  if (sparse) {
    StrAppend(
        &doc,
        "average_rows: with averages and in mode \"lazy\" int32, for each "
        "row how many updates its average has seen; else empty. An idle "
        "row's average is brought up to date when the row is named next: "
        "k updates at once, with average_momentum^k.\n");
  }
  StrAppend(
      &doc,
      "average_momentum: a scalar in [0, 1].\n"
      "average_updates: how many updates of averages were done before.\n"
      "average_kind: \"moving\", or \"mean\": the average is that of the "
      "variable at its updates, and average_momentum is n / (n + 1) after n of "
      "them and 1 at a step that is none. \"slow\": it is given to the "
      "variable where average_momentum is below 1; in mode \"lazy\" only rows "
      "that have been named since the last time are moved.\n"
      "average_begins: so many updates of a moving average, the first, set it "
      "to the variable.\n"
      "rounding_seeds: one per variable: packed slots are rounded at random, "
      "up "
      "or down, right in the mean; what is drawn depends on seed, iterations "
      "and element alone. Empty: to nearest.\n"
      "rounds_variables: whether 16-bit variables are rounded so too.\n"
      "history: what TfOptim>RowHistory has made for each variable, or empty. "
      "The step has it alone meanwhile. A step in another mode brings all rows "
      "up to date first. Not on a GPU, and not under XLA.\n"
      "update_squares: for each variable the sum of the squares of what the "
      "step changes, weight decay included; NaN with check_only.\n"
      "update_norms: 1 for that output, and 0 for none, as on a GPU and under "
      "XLA.\n"
      "N: how many variables.\n");
  if (sparse) {
    StrAppend(&doc,
              "sorted_ids: what TfOptim>GradientNorms has made of each "
              "variable's indices, so that they need not be sorted again. "
              "None, or an empty tensor for one variable: they are sorted. "
              "Only a CPU looks at them, and not under XLA.\n");
  }
  for (const std::string& flag : traits.flags) {
    StrAppend(&doc, flag,
              flag == kCautious
                  ? ": where step * grad > 0, step becomes step / "
                    "max(share, 0.001), and 0 elsewhere. share is how much "
                    "of the variable this is or, in mode \"lazy\", of the "
                    "rows that are named.\n"
                  : ": see the formula.\n");
  }
  StrAppend(&doc, "use_locking: hold each variable's lock alone. Without it ",
            sparse ? "steps may run at once and mix.\n"
                   : "too: a dense step always holds it.\n");
  StrAppend(&doc,
            "check_only: make every check and no step. A step that takes "
            "several ops has them all checked before the first writes. On a "
            "GPU indices are not checked so, and under XLA nothing is.\n");
  return doc;
}

void Define(const OptimizerTraits& traits, bool sparse, Handles handles,
            OpDefBuilder* op) {
  const bool bundled = handles == Handles::kBundled;
  if (bundled) {
    op->Input("bundle: resource");
  } else {
    op->Input("var: N * resource");
    for (size_t i = 0; i < traits.slots.size(); ++i) {
      const std::string& slot = traits.slots[i];
      op->Input(StrCat(slot, ": ",
                       traits.IsOptional(i) ? SlotCountAttr(slot) : "N",
                       " * resource"));
    }
  }
  op->Input("grad: N * T");
  if (sparse) op->Input("indices: N * Tindices");
  op->Input("learning_rate: Tlearning_rate").Input("iterations: int64");
  for (const std::string& hyper : traits.hyper) {
    op->Input(StrCat(hyper, ": double"));
  }
  op->Input("gradient_scale: double")
      .Input("clip_value: double")
      .Input("weight_decay: double");
  if (!bundled) {
    op->Input("average: N_average * resource");
    if (sparse) op->Input("average_rows: N_average_rows * resource");
  }
  op->Input("average_momentum: double")
      .Input("average_updates: int64")
      .Input("history: N_history * resource")
      .Output("update_squares: update_norms * double")
      .Attr("update_norms: int >= 0 = 0")
      .Attr("N: int >= 1")
      .Attr("N_history: int >= 0");
  if (sparse) {
    op->Input("sorted_ids: N_sorted_ids * uint64");
    op->Attr("N_sorted_ids: int >= 0");
  }
  if (bundled) {
    op->Attr(StrCat(kBundledLists, ": int >= 0"));
  } else {
    op->Attr("N_average: int >= 0");
    if (sparse) op->Attr("N_average_rows: int >= 0");
  }
  op->Attr("average_kind: {'moving', 'mean', 'slow'} = 'moving'");
  op->Attr("average_begins: int >= 0 = 0");
  op->Attr("rounding_seeds: list(int) = []");
  op->Attr("rounds_variables: bool = false");
  for (size_t i = 0; i < traits.slots.size(); ++i) {
    if (!bundled && traits.IsOptional(i)) {
      op->Attr(StrCat(SlotCountAttr(traits.slots[i]), ": int >= 0"));
    }
  }
  for (const std::string& flag : traits.flags) {
    op->Attr(StrCat(flag, ": bool = false"));
  }
  op->Attr("T: {float, double, half, bfloat16}");
  if (sparse) {
    op->Attr("Tindices: {int32, int64}");
    op->Attr("mode: {'lazy', 'dense', 'exact', 'eventual'} = 'lazy'");
  }
  op->Attr("Tlearning_rate: {float, double} = DT_FLOAT");
  op->Attr("use_locking: bool = true");
  op->Attr("check_only: bool = false");
  op->SetIsStateful();
  op->SetShapeFn([traits, sparse, handles](InferenceContext* c) {
    return CheckShapes(c, traits, sparse, handles);
  });
  op->Doc(Doc(traits, sparse, handles));
}

bool RegisterAll() {
  ForEachOptimizer([](auto variants) {
    const OptimizerTraits traits = TraitsOf(variants);
    for (bool sparse : {false, true}) {
      for (Handles handles : {Handles::kSeparate, Handles::kBundled}) {
        OpRegistry::Global()->Register(
            [traits, sparse, handles](OpRegistrationData* data) {
              OpDefBuilder op(OpName(traits, sparse, handles));
              Define(traits, sparse, handles, &op);
              return op.Finalize(data);
            });
      }
    }
  });
  return true;
}

[[maybe_unused]] const bool registered = RegisterAll();

}  // namespace
}  // namespace tf_optim
