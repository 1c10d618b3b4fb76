// The ops of cc/ops as XLA computations, for any rule: the same formulas, with
// an XLA op as the value.
#ifndef TF_OPTIM_CC_XLA_XLA_APPLY_OP_H_
#define TF_OPTIM_CC_XLA_XLA_APPLY_OP_H_

#include <string>
#include <vector>

#include "cc/drivers/gpu.h"
#include "cc/ops/layout.h"
#include "cc/ops/packed_layout.h"
#include "cc/rules/rule.h"
#include "cc/values/xla.h"
#include "cc/xla/cpu_step.h"
#include "cc/xla/gpu_step.h"
#include "cc/xla/register.h"
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
  bool check_only() const { return check_only_; }
  const std::vector<int64_t>& rounding_seeds() const { return rounding_seeds_; }
  bool rounds_variables() const { return rounds_variables_; }

  // A scalar input in float64, in which coefficients are made.
  XlaValue Number(tensorflow::XlaOpKernelContext* context, int input) const;
  XlaValue ToComputeType(xla::XlaOp op) const;
  xla::XlaOp ToStorageType(XlaValue value) const;
  // InvalidArgument unless the shapes of a variable's inputs fit: XLA would
  // stretch a dimension of 1 to any size.
  absl::Status CheckShapes(tensorflow::XlaOpKernelContext* context, int i,
                           const tensorflow::TensorShape& variable) const;
  absl::Status CheckSlot(tensorflow::XlaOpKernelContext* context, int slot,
                         int i, const tensorflow::TensorShape& shape,
                         const tensorflow::TensorShape& variable) const;
  // Of a variable's slot: that of all slots here, or what it is packed in.
  tensorflow::DataType SlotType(tensorflow::XlaOpKernelContext* context,
                                int input) const;
  // InvalidArgument for packed slots and random rounding: only the CPU drivers
  // know them.
  absl::Status CheckNothingIsPacked(
      tensorflow::XlaOpKernelContext* context) const;
  // A value per row as one per element of `like`, and back.
  static xla::XlaOp ToElements(xla::XlaOp per_row, XlaValue like);
  static xla::XlaOp ToRows(XlaValue elements);
  // The mean over the elements, or over those of the places that `used` says.
  XlaValue MeanOver(Over over, XlaValue value, const SparseRows* used) const;
  // InvalidArgument for numbers that the graph shows to be out of range.
  absl::Status CheckNumbers(tensorflow::XlaOpKernelContext* context) const;
  // InvalidArgument unless all variables and slots are different ones.
  absl::Status CheckDistinct(tensorflow::XlaOpKernelContext* context) const;
  // False if the graph shows that clipping and decay would change nothing.
  bool ClipsOrDecays(tensorflow::XlaOpKernelContext* context) const;
  // Vectors of a number per variable, as the op is given them; and what the
  // i-th is for its rule.
  ClipAndDecay<XlaValue> ClipsAndDecays(
      tensorflow::XlaOpKernelContext* context) const;
  static ClipAndDecay<XlaValue> ClipAndDecayAt(
      const ClipAndDecay<XlaValue>& numbers, int i);
  // The gradient of a variable, whole tensor or rows, and the rows' ids in
  // int64. Where their number depends on data there are as many as there can
  // be: the ids behind the last are -1, which is no row.
  xla::XlaOp Gradient(tensorflow::XlaOpKernelContext* context, int i) const;
  xla::XlaOp Ids(tensorflow::XlaOpKernelContext* context, int i) const;
  // All that a call of the CUDA drivers is given but the streams.
  GpuStepInputs GpuInputs(tensorflow::XlaOpKernelContext* context) const;

  bool averages() const { return layout_.average != OpLayout::kAbsent; }
  // Appends the i-th variable's average to its streams, and what the average's
  // rows have seen, if there are such; and takes them off again.
  absl::Status ReadAverage(tensorflow::XlaOpKernelContext* context, int i,
                           const tensorflow::TensorShape& variable,
                           std::vector<xla::XlaOp>* streams) const;
  absl::Status WriteAverage(tensorflow::XlaOpKernelContext* context, int i,
                            std::vector<xla::XlaOp>* streams) const;
  xla::XlaOp AveragingOf(tensorflow::XlaOpKernelContext* context) const;
  // Where no driver does it: brings the average along, if there is one, all of
  // its rows. `before` and `var` are the variable around its update; slow
  // weights are given to `var`.
  absl::Status UpdateAverage(tensorflow::XlaOpKernelContext* context, int i,
                             xla::XlaOp before, xla::XlaOp* var) const;

  absl::Status InputShape(tensorflow::XlaOpKernelContext* context, int input,
                          tensorflow::TensorShape* shape) const;
  bool IsEmpty(tensorflow::XlaOpKernelContext* context, int input) const;
  int64_t CountIds(tensorflow::XlaOpKernelContext* context, int i) const;

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
  AverageForm average_form_;
  bool check_only_;
  std::vector<int64_t> rounding_seeds_;
  bool rounds_variables_;
};

// A dense step, and a sparse one in either mode.
template <class AllVariants, bool sparse>
class XlaApplyOp : public XlaStepOp {
 public:
  explicit XlaApplyOp(tensorflow::OpKernelConstruction* context)
      : XlaStepOp(context, TraitsOf(AllVariants()), sparse) {
    OP_REQUIRES_OK(context, CheckNoHistory(layout(), "under XLA"));
    lazy_ = layout().IsLazy();
    VisitVariant(
        AllVariants(), layout().variant,
        [this](auto, bool is_cautious) { is_cautious_ = is_cautious; });
  }

  void Compile(tensorflow::XlaOpKernelContext* context) override {
    if (check_only()) return;  // nothing here can fail once it runs
    OP_REQUIRES_OK(context, CheckNumbers(context));
    OP_REQUIRES_OK(context, CheckDistinct(context));
    const bool found =
        VisitVariant(AllVariants(), layout().variant, [&](auto rule, bool) {
          OP_REQUIRES_OK(context, Update<decltype(rule)>(context));
        });
    OP_REQUIRES(context, found, NoSuchVariantError(traits(), layout()));
  }

 private:
  using Context = tensorflow::XlaOpKernelContext;
  using Streams = std::vector<xla::XlaOp>;  // a variable, then its slots

  // What the variables of a step share.
  template <class Rule>
  struct Numbers {
    typename Rule::template Coefficients<XlaValue> coefficients;
    bool clips_or_decays;
    // Vectors of a number per variable.
    ClipAndDecay<XlaValue> clips_and_decays;
  };

  template <class Rule>
  absl::Status Update(Context* context) {
    std::vector<Streams> streams(layout().count);
    std::vector<tensorflow::TensorShape> shapes(layout().count);
    bool on_gpu = CallsGpuKernels(context);
    bool on_cpu = IsOnCpu(context) && !on_gpu;
    for (int i = 0; i < layout().count; ++i) {
      TF_RETURN_IF_ERROR(
          ReadStreams<Rule>(context, i, &shapes[i], &streams[i]));
      if constexpr (sparse) {
        const int64_t ids = CountIds(context, i);
        on_cpu &= KeyFits(shapes[i].dim_size(0), ids);
        // A row more than there is: that of ids outside of it.
        on_gpu &=
            KeyFits(shapes[i].dim_size(0) + 1, ids) && ids <= kMaxGpuIndices;
      }
    }
    if (!on_cpu) TF_RETURN_IF_ERROR(CheckNothingIsPacked(context));
    const std::vector<Streams> before = streams;
    const Numbers<Rule> numbers = {Prepare<Rule>(context),
                                   ClipsOrDecays(context),
                                   ClipsAndDecays(context)};
    if (on_cpu) {
      for (int i = 0; averages() && i < layout().count; ++i) {
        TF_RETURN_IF_ERROR(ReadAverage(context, i, shapes[i], &streams[i]));
      }
      streams = OnCpu<Rule>(context, numbers, streams);
    } else if (on_gpu) {
      streams = OnGpu<Rule>(context, streams);
    } else {
      for (int i = 0; i < layout().count; ++i) {
        if (shapes[i].num_elements() == 0) continue;
        streams[i] = Updated<Rule>(context, i, numbers, streams[i], shapes[i]);
      }
    }
    TF_RETURN_IF_ERROR(context->builder()->GetCurrentStatus());
    for (int i = 0; i < layout().count; ++i) {
      if (on_cpu) {
        TF_RETURN_IF_ERROR(WriteAverage(context, i, &streams[i]));
      } else {
        TF_RETURN_IF_ERROR(
            UpdateAverage(context, i, before[i].front(), &streams[i].front()));
      }
      TF_RETURN_IF_ERROR(WriteStreams<Rule>(context, i, streams[i]));
    }
    return absl::OkStatus();
  }

  // The streams after the step, as XLA computes them.
  template <class Rule>
  Streams Updated(Context* context, int i, const Numbers<Rule>& numbers,
                  Streams streams, const tensorflow::TensorShape& shape) {
    XlaValue g = ToComputeType(Gradient(context, i));
    if constexpr (!sparse) {
      return Apply<Rule>(i, numbers, g, streams, nullptr);
    } else {
      const SparseRows rows(Ids(context, i), shape);
      if (!lazy_) {
        g = XlaValue(rows.Densify(g.op()));
        return Apply<Rule>(i, numbers, g, streams, nullptr);
      }
      if (rows.empty()) return streams;
      Streams read = rows.Read(g.op(), streams);
      g = XlaValue(read.front());
      read.erase(read.begin());
      const Streams after = Apply<Rule>(i, numbers, g, read, &rows);
      for (size_t s = 0; s < streams.size(); ++s) {
        streams[s] = rows.Scatter(streams[s], after[s]);
      }
      return streams;
    }
  }

  // Checks the shapes too.
  template <class Rule>
  absl::Status ReadStreams(Context* context, int i,
                           tensorflow::TensorShape* shape, Streams* streams) {
    TF_RETURN_IF_ERROR(context->ReadVariableInput(
        layout().var + i, dtype(), shape, &streams->emplace_back()));
    TF_RETURN_IF_ERROR(CheckShapes(context, i, *shape));
    absl::Status status;
    typename Rule::template Slots<XlaValue> slots;
    ForEachField(slots, [&](auto s, auto& slot) {
      if constexpr (kIsPresent<decltype(slot)>) {
        tensorflow::TensorShape slot_shape;
        const int input = layout().slots[s] + i;
        status.Update(
            context->ReadVariableInput(input, SlotType(context, input),
                                       &slot_shape, &streams->emplace_back()));
        if (status.ok()) status = CheckSlot(context, s, i, slot_shape, *shape);
      }
    });
    return status;
  }

  template <class Rule>
  absl::Status WriteStreams(Context* context, int i, const Streams& streams) {
    absl::Status status =
        context->AssignVariable(layout().var + i, dtype(), streams.front());
    auto stream = streams.begin() + 1;
    typename Rule::template Slots<XlaValue> slots;
    ForEachField(slots, [&](auto s, auto& slot) {
      if constexpr (kIsPresent<decltype(slot)>) {
        const int input = layout().slots[s] + i;
        status.Update(context->AssignVariable(input, SlotType(context, input),
                                              *stream++));
      }
    });
    return status;
  }

  // The rule's computation, over a whole variable or the places of `rows`.
  template <class Rule>
  Streams Apply(int i, const Numbers<Rule>& numbers, XlaValue g,
                const Streams& streams, const SparseRows* rows) {
    const auto& coefficients = numbers.coefficients;
    XlaValue p = ToComputeType(streams.front());
    auto stream = streams.begin() + 1;
    typename Rule::template Slots<XlaValue> slots;
    ForEachField(slots, [&](auto s, auto& slot) {
      if constexpr (kIsPresent<decltype(slot)>) {
        slot =
            XlaValue(IsRowSlot<Rule>(s()) ? ToElements(*stream, g) : *stream);
        ++stream;
      }
    });
    if (numbers.clips_or_decays) {
      const ClipAndDecay<XlaValue> own =
          ClipAndDecayAt(numbers.clips_and_decays, i);
      p = DecayedVariable(p, own);
      g = ClippedGradient(g, own);
    }
    if (Rule::kMayBeCautious && is_cautious_) {
      p = Cautiously<Rule>(p, g, &slots, coefficients, rows);
    } else if constexpr (CountMeans<Rule>() == 0) {
      p = Rule::Update(p, g, slots, coefficients);
    } else {
      auto means = Rule::Measure(p, g, slots, coefficients);
      ForEachField(means, [&](auto, XlaValue& mean) {
        mean = MeanOver(Rule::kMeansOver, mean, rows);
      });
      p = UpdateWithMeans<Rule>(p, g, slots, coefficients, means);
    }
    Streams after = {ToStorageType(p)};
    ForEachField(slots, [&](auto s, auto& slot) {
      if constexpr (kIsPresent<decltype(slot)>) {
        after.push_back(IsRowSlot<Rule>(s()) ? ToRows(slot) : slot.op());
      }
    });
    return after;
  }

  template <class Rule, class Slots, class Coefficients>
  XlaValue Cautiously(XlaValue p, XlaValue g, Slots* slots,
                      const Coefficients& coefficients,
                      const SparseRows* rows) const {
    if constexpr (Rule::kMayBeCautious) {
      const XlaValue step =
          XlaValue(0) - Rule::Update(XlaValue(0), g, *slots, coefficients);
      const XlaValue agreeing =
          MeanOver(Over::kVariable, Agrees(step, g), rows);
      p = CautiousUpdate(p, step, g, LengthenedBy(agreeing));
    }
    return p;
  }

  // The same, by the CPU drivers.
  template <class Rule>
  std::vector<Streams> OnCpu(Context* context, const Numbers<Rule>& numbers,
                             const std::vector<Streams>& streams) {
    CpuStepInputs inputs;
    inputs.streams = streams;
    for (int i = 0; i < layout().count; ++i) {
      inputs.gradients.push_back(Gradient(context, i));
      if constexpr (sparse) inputs.ids.push_back(Ids(context, i));
    }
    ForEachField(numbers.coefficients, [&](auto, const XlaValue& value) {
      inputs.coefficients.push_back(xla::Reshape(value.op(), {1}));
    });
    ForEachField(numbers.clips_and_decays, [&](auto, const XlaValue& values) {
      inputs.clips_and_decays.push_back(values.op());
    });
    if (averages()) inputs.averaging = {AveragingOf(context)};
    inputs.iterations = xla::Reshape(context->Input(layout().iterations), {1});
    inputs.rounding_seeds = rounding_seeds();
    inputs.rounds_variables = rounds_variables();
    inputs.is_cautious = is_cautious_;
    using Kind = CpuStepKind;
    const auto& target = !sparse ? Target<Rule, Kind::kDense>()
                         : lazy_ ? Target<Rule, Kind::kLazyRows>()
                                 : Target<Rule, Kind::kAllRows>();
    return CallCpuSteps(target, inputs);
  }

  // The same, by the CUDA drivers, which make the coefficients too.
  template <class Rule>
  std::vector<Streams> OnGpu(Context* context,
                             const std::vector<Streams>& streams) {
    GpuStepInputs inputs = GpuInputs(context);
    inputs.streams = streams;
    return CallGpuSteps({AllVariants::kName, VariantKey<Rule>(is_cautious_),
                         StorageOf(dtype()), SlotMask<Rule>(), lazy_},
                        inputs);
  }

  template <class Rule, CpuStepKind kind>
  const std::string& Target() const {
    switch (dtype()) {
      case tensorflow::DT_DOUBLE:
        return CpuStep<AllVariants, Rule, double, kind>::Target();
      case tensorflow::DT_HALF:
        return CpuStep<AllVariants, Rule, Float16, kind>::Target();
      case tensorflow::DT_BFLOAT16:
        return CpuStep<AllVariants, Rule, BFloat16, kind>::Target();
      default:
        return CpuStep<AllVariants, Rule, float, kind>::Target();
    }
  }

  bool lazy_;
  bool is_cautious_ = false;
};

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_XLA_XLA_APPLY_OP_H_
