"""TensorFlow's own training ops, called directly, one per variable.

A recipe is a function (work, step, sparse) that returns the op, its slot arguments
(name there -> our name) and its other arguments.
"""

import tensorflow as tf

from tf_optim.benchmark.subjects import Unsupported
from tf_optim.benchmark.tf_subjects import Called, TfSubject
from tf_optim.benchmark.work import LEARNING_RATE

_MOMENTS = {"m": "momentum", "v": "velocity"}


def _op(name, sparse):
    return getattr(tf.raw_ops, f"Resource{'Sparse' if sparse else ''}Apply{name}")


def _descend(var, grad, lr):
    tf.raw_ops.ResourceApplyGradientDescent(var=var, alpha=lr, delta=grad)


def _descend_rows(var, grad, indices, lr):
    """As tf_keras' legacy SGD does it: there is no such op for rows."""
    tf.raw_ops.ResourceScatterAdd(resource=var, indices=indices, updates=-lr * grad)


def _sgd(work, step, sparse):
    del step
    if "momentum" not in work.slots:
        return _descend_rows if sparse else _descend, {}, {}
    h = work.hyper
    common = {"momentum": h["momentum"], "use_nesterov": h["nesterov"]}
    return _op("KerasMomentum", sparse), {"accum": "momentum"}, common


def _rmsprop(work, step, sparse):
    del step
    if "momentum" not in work.slots:
        raise Unsupported("RMSprop's op has a momentum slot: see momentum=0.9")
    common = {key: work.hyper[key] for key in ("rho", "epsilon", "momentum")}
    slots = {"ms": "velocity", "mom": "momentum"}
    if "average_gradient" not in work.slots:
        return _op("RMSProp", sparse), slots, common
    return _op("CenteredRMSProp", sparse), {"mg": "average_gradient", **slots}, common


def _adagrad(work, step, sparse):
    del step
    common = {"epsilon": work.hyper["epsilon"]}
    return _op("AdagradV2", sparse), {"accum": "accumulator"}, common


def _adadelta(work, step, sparse):
    del step
    common = {key: work.hyper[key] for key in ("rho", "epsilon")}
    slots = {"accum": "accumulated_grad", "accum_update": "accumulated_delta_var"}
    return _op("Adadelta", sparse), slots, common


def _betas(work, step):
    h = work.hyper
    return {
        "beta1_power": tf.pow(h["beta_1"], step),
        "beta1": h["beta_1"],
        "beta2": h["beta_2"],
        "epsilon": h["epsilon"],
    }


def _adam(work, step, sparse):
    if sparse:
        raise Unsupported("Adam has no sparse form")
    common = _betas(work, step)
    common["beta2_power"] = tf.pow(work.hyper["beta_2"], step)
    if "velocity_hat" not in work.slots:
        return _op("Adam", sparse), _MOMENTS, common
    return _op("AdamWithAmsgrad", sparse), {**_MOMENTS, "vhat": "velocity_hat"}, common


def _adamax(work, step, sparse):
    if sparse:
        raise Unsupported("Adamax has no sparse form")
    return _op("AdaMax", sparse), {"m": "momentum", "v": "norm"}, _betas(work, step)


def _ftrl(work, step, sparse):
    del step
    h = work.hyper
    common = {
        "lr_power": h["learning_rate_power"],
        "l1": h["l1_regularization_strength"],
        # As Keras hands beta to the op.
        "l2": h["l2_regularization_strength"] + h["beta"] / (2 * LEARNING_RATE),
        "l2_shrinkage": h["l2_shrinkage_regularization_strength"],
    }
    return _op("FtrlV2", sparse), {"accum": "accumulator", "linear": "linear"}, common


_RECIPES = {
    "SGD": _sgd,
    "RMSprop": _rmsprop,
    "Adagrad": _adagrad,
    "Adadelta": _adadelta,
    "Adam": _adam,
    "Adamax": _adamax,
    "Ftrl": _ftrl,
}


class RawOp(TfSubject):
    lazy = True

    def choose(self, work, case):
        if work.optimizer not in _RECIPES:
            raise Unsupported(f"has no op for {work.optimizer}")
        if case.dtype != "float32":
            raise Unsupported("is measured in float32 only")
        self._work = work
        _, self._slot_names, _ = self._recipe(tf.constant(1.0))

    def prepare(self, work):
        self._iterations = tf.Variable(0, dtype=tf.int64)
        first = {name: work.slots[our] for name, our in self._slot_names.items()}
        self._slots = [
            {name: tf.Variable(tf.fill(v.shape, x)) for name, x in first.items()}
            for v in self._variables
        ]

    def _recipe(self, step):
        make = _RECIPES[self._work.optimizer]
        return make(self._work, step, self._case.kind == "sparse")

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


class RawOpFunction(Called, RawOp):
    pass
