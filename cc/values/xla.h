// An XLA op as a value. A number stays a number until it meets an op, whose
// type and shape it then takes.
#ifndef TF_OPTIM_CC_VALUES_XLA_H_
#define TF_OPTIM_CC_VALUES_XLA_H_

#include "cc/values/xla_version.h"

namespace tf_optim {

class XlaValue {
 public:
  XlaValue() = default;
  explicit XlaValue(double number) : number_(number) {}
  explicit XlaValue(xla::XlaOp op) : op_(op), is_op_(true) {}

  xla::XlaOp op() const { return op_; }

  friend XlaValue operator+(XlaValue a, XlaValue b) {
    return Combine(a, b, xla::Add);
  }
  friend XlaValue operator-(XlaValue a, XlaValue b) {
    return Combine(a, b, xla::Sub);
  }
  friend XlaValue operator*(XlaValue a, XlaValue b) {
    return Combine(a, b, xla::Mul);
  }
  friend XlaValue operator/(XlaValue a, XlaValue b) {
    return Combine(a, b, xla::Div);
  }
  friend XlaValue Pow(XlaValue a, XlaValue b) {
    return Combine(a, b, xla::Pow);
  }
  friend XlaValue Max(XlaValue a, XlaValue b) {
    return Combine(a, b, xla::Max);
  }
  friend XlaValue Min(XlaValue a, XlaValue b) {
    return Combine(a, b, xla::Min);
  }
  friend XlaValue Sqrt(XlaValue a) { return XlaValue(xla::Sqrt(a.op_)); }
  friend XlaValue Abs(XlaValue a) { return XlaValue(xla::Abs(a.op_)); }

  friend XlaValue IfPositive(XlaValue x, XlaValue a, XlaValue b) {
    const xla::XlaOp zero = xla::ZerosLike(x.op_);
    const auto wide = [&](XlaValue value) {  // as many elements as x
      return xla::Add(value.Like(x), zero);
    };
    return XlaValue(xla::Select(xla::Gt(x.op_, zero), wide(a), wide(b)));
  }

 private:
  xla::XlaOp Like(XlaValue other) const {
    return is_op_ ? op_ : xla::ScalarLike(other.op_, number_);
  }

  template <class Binary>
  static XlaValue Combine(XlaValue a, XlaValue b, Binary binary) {
    return XlaValue(binary(a.Like(b), b.Like(a), /*broadcast_dimensions=*/{}));
  }

  xla::XlaOp op_;
  double number_ = 0;
  bool is_op_ = false;
};

}  // namespace tf_optim

#endif  // TF_OPTIM_CC_VALUES_XLA_H_
