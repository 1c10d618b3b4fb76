"""What people write in TensorFlow for lazy steps: gather, update, scatter.

As TensorFlow Addons' LazyAdam does it: the rows of repeated ids are summed, the
rows named are gathered from the variable and its slots, and scattered back. For
those optimizers of which TensorFlow has no op for rows.
"""

import tensorflow as tf

from tf_optim.benchmark.subjects import Unsupported
from tf_optim.benchmark.tf_subjects import Called, TfSubject
from tf_optim.benchmark.work import LEARNING_RATE

# A recipe takes (hyperparameters, step, gradient, slots' rows) and returns the
# rows to subtract from the variable's, and the slots' new rows.


def _bias(h, step):
    return 1 - tf.pow(h["beta_1"], step), 1 - tf.pow(h["beta_2"], step)


def _adam(h, step, g, rows):
    m = h["beta_1"] * rows["momentum"] + (1 - h["beta_1"]) * g
    v = h["beta_2"] * rows["velocity"] + (1 - h["beta_2"]) * g * g
    first, second = _bias(h, step)
    alpha = LEARNING_RATE * tf.sqrt(second) / first
    return alpha * m / (tf.sqrt(v) + h["epsilon"]), {"momentum": m, "velocity": v}


def _adamax(h, step, g, rows):
    m = h["beta_1"] * rows["momentum"] + (1 - h["beta_1"]) * g
    u = tf.maximum(h["beta_2"] * rows["norm"], tf.abs(g))
    first, _ = _bias(h, step)
    alpha = LEARNING_RATE / first
    return alpha * m / (u + h["epsilon"]), {"momentum": m, "norm": u}


def _rmsprop(h, step, g, rows):
    del step
    v = h["rho"] * rows["velocity"] + (1 - h["rho"]) * g * g
    return LEARNING_RATE * g / tf.sqrt(v + h["epsilon"]), {"velocity": v}


_RECIPES = {"Adam": _adam, "Adamax": _adamax, "RMSprop": _rmsprop}


class LazyRecipe(TfSubject):
    lazy = True

    def choose(self, work, case):
        if work.optimizer not in _RECIPES or work.options:
            raise Unsupported(f"has no recipe for {work.label}")
        self._recipe = _RECIPES[work.optimizer]

    def prepare(self, work):
        self._hyper = work.hyper
        self._iterations = tf.Variable(0, dtype=tf.int64)
        self._slots = [
            {k: tf.Variable(tf.fill(v.shape, x)) for k, x in work.slots.items()}
            for v in self._variables
        ]

    def apply(self, grads):
        step = tf.cast(self._iterations.assign_add(1), tf.float32)
        for var, slots, grad in zip(self._variables, self._slots, grads, strict=True):
            ids, positions = tf.unique(grad.indices)
            summed = tf.math.unsorted_segment_sum(grad.values, positions, tf.size(ids))
            rows = {name: tf.gather(slot, ids) for name, slot in slots.items()}
            move, rows = self._recipe(self._hyper, step, summed, rows)
            for name, slot in slots.items():
                slot.scatter_update(tf.IndexedSlices(rows[name], ids))
            var.scatter_sub(tf.IndexedSlices(move, ids))


class LazyRecipeFunction(Called, LazyRecipe):
    pass
