"""TensorFlow's own training ops, called directly, one per variable."""

import tensorflow as tf

from tf_optim.benchmark.subjects import Unsupported
from tf_optim.benchmark.tf_subjects import TfSubject
from tf_optim.benchmark.work import LEARNING_RATE


def _adam(h, step, options, sparse):
    if sparse:
        raise Unsupported("Adam has no sparse form")
    common = {
        "beta1_power": tf.pow(h["beta_1"], step),
        "beta2_power": tf.pow(h["beta_2"], step),
        "beta1": h["beta_1"],
        "beta2": h["beta_2"],
        "epsilon": h["epsilon"],
    }
    if options.get("amsgrad"):
        return tf.raw_ops.ResourceApplyAdamWithAmsgrad, ("m", "v", "vhat"), common
    return tf.raw_ops.ResourceApplyAdam, ("m", "v"), common


def _rmsprop(h, step, options, sparse):
    del step
    common = {key: h[key] for key in ("rho", "epsilon")}
    common["momentum"] = h.get("momentum", 0.0)
    kind = "Centered" if options.get("centered") else ""
    slots = ("mg", "ms", "mom") if kind else ("ms", "mom")
    op = f"Resource{'Sparse' if sparse else ''}Apply{kind}RMSProp"
    return getattr(tf.raw_ops, op), slots, common


# Each returns (op, its slot arguments, its other arguments).
_RECIPES = {"Adam": _adam, "RMSprop": _rmsprop}


class RawOp(TfSubject):
    lazy = True

    def choose(self, work, case):
        if work.optimizer not in _RECIPES:
            raise Unsupported(f"has no recipe for {work.optimizer}")
        if case.dtype != "float32":
            raise Unsupported("is measured in float32 only")
        self._work = work
        _, self._slot_names, _ = self._recipe(tf.constant(1.0))

    def prepare(self, work):
        self._iterations = tf.Variable(0, dtype=tf.int64)
        self._slots = [
            {name: tf.Variable(tf.zeros_like(v)) for name in self._slot_names}
            for v in self._variables
        ]

    def _recipe(self, step):
        make = _RECIPES[self._work.optimizer]
        sparse = self._case.kind == "sparse"
        return make(self._work.hyper, step, self._work.options, sparse)

    def apply(self, grads):
        step = tf.cast(self._iterations.assign_add(1), tf.float32)
        op, _, common = self._recipe(step)
        trio = zip(self._variables, self._slots, grads, strict=True)
        for variable, slots, grad in trio:
            gradient = {"grad": grad}
            if isinstance(grad, tf.IndexedSlices):
                gradient = {"grad": grad.values, "indices": grad.indices}
            handles = {name: slot.handle for name, slot in slots.items()}
            op(var=variable.handle, **handles, lr=LEARNING_RATE, **common, **gradient)
