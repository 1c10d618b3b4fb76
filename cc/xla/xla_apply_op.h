// The ops of cc/ops as XLA computations, for any rule: the same formulas, with
// an XLA op as the value.
#ifndef TF_OPTIM_CC_XLA_XLA_APPLY_OP_H_
#define TF_OPTIM_CC_XLA_XLA_APPLY_OP_H_

#include <string>

#include "cc/ops/layout.h"
#include "cc/rules/rule.h"
#include "cc/values/xla.h"
#include "cc/xla/sparse_rows.h"
#include "tensorflow/compiler/tf2xla/type_util.h"
#include "tensorflow/compiler/tf2xla/xla_op_kernel.h"

namespace tf_optim {

// What both kinds of step need: attributes, numbers, variables.
class XlaStepOp : public tensorflow::XlaOpKernel {
 public:
  XlaStepOp(tensorflow::OpKernelConstruction* context, OptimizerTraits traits,
            bool sparse);

 protected:
  const OptimizerTraits& traits() const { return traits_; }
  const OpLayout& layout() const { return layout_; }
  tensorflow::DataType dtype() const { return dtype_; }
  tensorflow::DataType slot_dtype() const { return slot_dtype_; }

  // A scalar input in float64, in which coefficients are made.
  XlaValue Number(tensorflow::XlaOpKernelContext* context, int input) const;
  XlaValue ToComputeType(xla::XlaOp op) const;
  xla::XlaOp ToStorageType(XlaValue value) const;
  // InvalidArgument unless the shapes of a variable's inputs fit: XLA would
  // stretch a dimension of 1 to any size.
  absl::Status CheckShapes(tensorflow::XlaOpKernelContext* context, int i,
                           const tensorflow::TensorShape& variable) const;
  absl::Status CheckSlot(int slot, int i, const tensorflow::TensorShape& shape,
                         const tensorflow::TensorShape& variable) const;
  // A value per row as one per element of `like`, and back.
  static xla::XlaOp ToElements(xla::XlaOp per_row, XlaValue like);
  static xla::XlaOp ToRows(XlaValue elements);
  // The mean over the elements, or over those of the places that `used` says.
  XlaValue MeanOver(Over over, XlaValue value, const SparseRows* used) const;
  // Whether it is compiled for a CPU, where our own loops move rows faster.
  // TF_OPTIM_XLA_ROWS=portable says no, so that tests see what GPUs do.
  static bool IsOnCpu(tensorflow::XlaOpKernelContext* context);
  // False if the graph shows that the tail would change nothing.
  bool HasTail(tensorflow::XlaOpKernelContext* context) const;
  Tail<XlaValue> TailAt(tensorflow::XlaOpKernelContext* context, int i) const;
  // The gradient of a variable, whole tensor or rows, in computation type.
  XlaValue Gradient(tensorflow::XlaOpKernelContext* context, int i) const;
  absl::Status ReadVariable(tensorflow::XlaOpKernelContext* context, int input,
                            tensorflow::DataType dtype,
                            tensorflow::TensorShape* shape,
                            xla::XlaOp* value) const;

  absl::Status InputShape(tensorflow::XlaOpKernelContext* context, int input,
                          tensorflow::TensorShape* shape) const;
  bool IsEmpty(tensorflow::XlaOpKernelContext* context, int input) const;

  template <class Rule>
  typename Rule::template Coefficients<XlaValue> Prepare(
      tensorflow::XlaOpKernelContext* context) const {
    typename Rule::template Hyper<XlaValue> hyper;
    ForEachField(hyper, [&](auto i, XlaValue& value) {
      value = Number(context, layout_.hyper + i);
    });
    const Step<XlaValue> step = {
        Number(context, layout_.learning_rate),
        Number(context, layout_.iterations) + XlaValue(1)};
    typename Rule::template Coefficients<XlaValue> coefficients;
    MapFields(Rule::Prepare(hyper, step), coefficients,
              [this](const XlaValue& x) { return ToComputeType(x.op()); });
    return coefficients;
  }

 private:
  OptimizerTraits traits_;
  OpLayout layout_;
  tensorflow::DataType dtype_, slot_dtype_;
};

// A dense step, and a sparse one in either mode.
template <class AllVariants, bool sparse>
class XlaApplyOp : public XlaStepOp {
 public:
  explicit XlaApplyOp(tensorflow::OpKernelConstruction* context)
      : XlaStepOp(context, TraitsOf(AllVariants()), sparse) {
    std::string mode;
    if constexpr (sparse) {
      OP_REQUIRES_OK(context, context->GetAttr("mode", &mode));
    }
    lazy_ = mode == "lazy";
  }

  void Compile(tensorflow::XlaOpKernelContext* context) override {
    VisitVariant(AllVariants(), layout().variant, [&](auto rule) {
      using Rule = decltype(rule);
      const auto coefficients = Prepare<Rule>(context);
      for (int i = 0; i < layout().count; ++i) {
        OP_REQUIRES_OK(context, Update<Rule>(context, i, coefficients));
      }
    });
  }

 private:
  template <class Rule>
  absl::Status Update(
      tensorflow::XlaOpKernelContext* context, int i,
      const typename Rule::template Coefficients<XlaValue>& coefficients) {
    // Reads every stream, through `rows` if only some rows change.
    tensorflow::TensorShape shape;
    xla::XlaOp var;
    TF_RETURN_IF_ERROR(
        ReadVariable(context, layout().var + i, dtype(), &shape, &var));
    TF_RETURN_IF_ERROR(CheckShapes(context, i, shape));
    if (shape.num_elements() == 0) return absl::OkStatus();
    XlaValue g = Gradient(context, i);
    SparseRows rows;
    if constexpr (sparse) {
      rows = SparseRows(context->Input(layout().indices + i), shape,
                        IsOnCpu(context));
      if (lazy_ && rows.empty()) return absl::OkStatus();
      g = XlaValue(lazy_ ? rows.SumDuplicates(g.op()) : rows.Densify(g.op()));
    }
    const bool by_row = sparse && lazy_;
    const auto read = [&](xla::XlaOp stream) {
      return by_row ? rows.Gather(stream) : stream;
    };
    const auto written = [&](xla::XlaOp stream, xla::XlaOp value) {
      return by_row ? rows.Scatter(stream, value) : value;
    };

    typename Rule::template Slots<XlaValue> slots;
    xla::XlaOp slot_streams[kSlotFields<Rule>];
    absl::Status status;
    ForEachField(slots, [&](auto s, auto& slot) {
      if constexpr (kIsPresent<decltype(slot)>) {
        tensorflow::TensorShape slot_shape;
        status.Update(ReadVariable(context, layout().slots[s] + i, slot_dtype(),
                                   &slot_shape, &slot_streams[s]));
        if (status.ok()) status = CheckSlot(s, i, slot_shape, shape);
        if (!status.ok()) return;
        slot = XlaValue(read(slot_streams[s]));
        if constexpr (IsRowSlot<Rule>(s())) {
          slot = XlaValue(ToElements(slot.op(), g));
        }
      }
    });
    TF_RETURN_IF_ERROR(status);

    XlaValue p = ToComputeType(read(var));
    if (HasTail(context)) {
      const Tail<XlaValue> tail = TailAt(context, i);
      p = TailVariable(p, tail);
      g = TailGradient(g, tail);
    }
    if constexpr (CountMeans<Rule>() == 0) {
      p = Rule::Update(p, g, slots, coefficients);
    } else {
      auto means = Rule::Measure(p, g, slots, coefficients);
      ForEachField(means, [&](auto, XlaValue& mean) {
        mean = MeanOver(Rule::kMeansOver, mean, by_row ? &rows : nullptr);
      });
      p = Rule::Update(p, g, slots, coefficients, means);
    }
    TF_RETURN_IF_ERROR(context->builder()->GetCurrentStatus());

    ForEachField(slots, [&](auto s, auto& slot) {
      if constexpr (kIsPresent<decltype(slot)>) {
        const xla::XlaOp value =
            IsRowSlot<Rule>(s()) ? ToRows(slot) : slot.op();
        status.Update(context->AssignVariable(layout().slots[s] + i,
                                              slot_dtype(),
                                              written(slot_streams[s], value)));
      }
    });
    TF_RETURN_IF_ERROR(status);
    return context->AssignVariable(layout().var + i, dtype(),
                                   written(var, ToStorageType(p)));
  }

  bool lazy_;
};

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_XLA_XLA_APPLY_OP_H_
