"""The numbers of a step, for the asking: `optimizer.step_statistics = True`."""

import tensorflow as tf

_NUMBERS = {
    "gradient_norm": tf.float64,
    "non_finite": tf.int64,
    "rows_touched": tf.int64,
    "clipped": tf.float64,
}


class StepStatistics:
    """What the last step has seen of its gradients: scalar variables.

    They come from the pass that clips by norm and looks at scaled gradients; where
    there is no such pass they cost one read of the gradients. They are in no
    checkpoint.

    Attributes:
        gradient_norm: the root of the sum of all squares, before clipping; the loss
            scale divided out, repeated ids summed first.
        non_finite: how many elements of all gradients are infinite or NaN.
        rows_touched: how many different rows all sparse gradients name.
        clipped: the share of gradients that `clipnorm` or `global_clipnorm` has
            shortened; NaN with `clipvalue`, which would take a pass of its own.
    """

    def __init__(self):
        with tf.init_scope():
            for name, dtype in _NUMBERS.items():
                variable = tf.Variable(tf.zeros([], dtype), trainable=False, name=name)
                setattr(self, name, variable)

    def numbers(self):
        """A dict of name and Python number. Waits for the step, if need be."""
        return {name: getattr(self, name).numpy().item() for name in _NUMBERS}

    def variables(self):
        """By name: a saved function needs all of its variables."""
        return {f"step_{name}": getattr(self, name) for name in _NUMBERS}

    def see(self, norms):
        """Keeps what is known of a step's gradients."""
        self.gradient_norm.assign(tf.sqrt(tf.reduce_sum(norms.squares)))
        self.non_finite.assign(tf.reduce_sum(norms.non_finite))
        self.rows_touched.assign(tf.reduce_sum(norms.rows_touched))
        self.clipped.assign(0.0)

    def see_factors(self, factors, bound):
        """Keeps how many gradients are clipped: by factors, or by a bound of values."""
        if bound is not None:
            self.clipped.assign(float("nan"))
        elif factors is not None:
            shortened = tf.cast(tf.less(factors, 1.0), tf.float64)
            self.clipped.assign(tf.reduce_mean(shortened))
