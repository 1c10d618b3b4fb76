"""All of Keras' features at once, beside a whole training in float64 NumPy.

Each pair of their values occurs (tests/covering.py): averages, accumulation, clipping,
decay, loss scale, schedule, kind of gradient, and way of calling.
"""

import numpy as np
import pytest
import tensorflow as tf

import tf_optim
from tests import cases, flavours, models
from tests.marks import both_flavours, keras_3_only
from tf_optim import reference

pytestmark = both_flavours

ROWS, STEPS, SCALE = 9, 8, 6.0  # a scale that is no power of two
RATE, MOMENTUM, DECAY = 0.05, 0.5, 0.1


def one_of(name, *values, in_keras_3=()):
    marks = [keras_3_only if value in in_keras_3 else () for value in values]
    return pytest.mark.parametrize(
        name,
        [
            pytest.param(value, marks=mark, id=f"{name}={value}")
            for value, mark in zip(values, marks, strict=True)
        ],
    )


def rate_at(iterations, schedule):
    return RATE * 0.5 ** (iterations / 2) if schedule else RATE


class Reference:
    """A table and a bias, trained as the features say."""

    def __init__(self, case, var_list, options):
        self.case, self.options = case, options
        self.values = [np.float64(v.numpy()) for v in var_list]
        self.averages = [value.copy() for value in self.values]
        self.slots = [
            {slot.name: slot.start(value) for slot in case.slots}
            for value in self.values
        ]
        self.window = []
        self.calls = self.steps = 0

    def call(self, ids, rows, bias):
        every = self.options["accumulation"] or 1
        self.window.append((ids, np.float64(rows), np.float64(bias)))
        before = self.steps
        if len(self.window) == every:
            self.update(every)
            self.window = []
        if self.options["average"]:
            self.move_averages(before)
        self.steps = (self.calls + 1) // every
        self.calls += 1

    def update(self, every):
        ids, rows, biases = zip(*self.window, strict=True)
        ids, rows = np.concatenate(ids), np.concatenate(rows) / every
        bias = sum(biases) / every
        squares = [np.sum(reference.sum_duplicates(rows, ids)[1] ** 2), np.sum(bias**2)]
        kind, bound = self.options["clip"] or (None, None)
        factors = [1.0, 1.0]
        if kind == "clipnorm":
            factors = [bound / max(bound, np.sqrt(square)) for square in squares]
        elif kind == "global_clipnorm":
            factors = [bound / max(bound, np.sqrt(sum(squares)))] * 2
        mode = "lazy" if self.options["kind"] == "lazy" else "dense"
        gradients = (rows, ids, mode), (bias, np.arange(3), "dense")
        for i, (gradient, indices, way) in enumerate(gradients):
            self.values[i], self.slots[i] = reference.sparse_step(
                self.case.name,
                self.values[i],
                self.slots[i],
                gradient,
                # As in Keras, which looks at the schedule in each micro-step.
                learning_rate=rate_at(self.calls, self.options["schedule"]),
                iterations=self.steps,
                indices=indices,
                mode=way,
                gradient_scale=factors[i],
                clip_value=bound if kind == "clipvalue" else np.inf,
                **self.case.with_decay(self.options["decay"]),
            )

    def move_averages(self, steps):
        kept = MOMENTUM if steps > 0 or flavours.LEGACY else 0.0
        for i, value in enumerate(self.values):
            self.averages[i] = kept * self.averages[i] + (1 - kept) * value
            if self.options["average"] == "overwrite" and (steps + 1) % 3 == 0:
                self.values[i] = self.averages[i].copy()


def made(case, options):
    """The optimizer, what wraps it, and what its gradients are multiplied by."""
    arguments = {"weight_decay": options["decay"] or None}
    if options["clip"]:
        arguments.update([options["clip"]])
    if options["average"]:
        frequency = 3 if options["average"] == "overwrite" else None
        arguments.update(
            use_ema=True, ema_momentum=MOMENTUM, ema_overwrite_frequency=frequency
        )
    if options["accumulation"]:
        arguments["gradient_accumulation_steps"] = options["accumulation"]
    if options["scale"] == "factor":
        arguments["loss_scale_factor"] = SCALE
    rate = RATE
    if options["schedule"]:
        rate = tf.keras.optimizers.schedules.ExponentialDecay(RATE, 2, 0.5)
    arguments["sparse_update"] = "lazy" if options["kind"] == "lazy" else "dense"
    inner = models.ours(case, rate, **arguments)
    if options["scale"] in (None, "factor"):
        return inner, inner, SCALE if options["scale"] else 1.0
    wrapper = {
        "ours": tf_optim.LossScaleOptimizer,
        "stock": tf.keras.mixed_precision.LossScaleOptimizer,
    }[options["scale"]]
    outer = wrapper(inner, initial_scale=SCALE)
    return inner, outer, 1.0 if flavours.LEGACY else SCALE


def draw():
    rng = np.random.default_rng(4)
    for _ in range(STEPS):
        ids = rng.integers(0, ROWS, size=6)
        ids[1] = ids[4]  # one at least occurs twice
        yield ids, rng.normal(size=(6, 3)), rng.normal(size=3)


@one_of("average", None, "ema", "overwrite")
@one_of("accumulation", None, 2, in_keras_3=[2])
@one_of("clip", None, ("clipnorm", 0.7), ("global_clipnorm", 0.7), ("clipvalue", 0.3))
@one_of("decay", 0.0, DECAY)
@one_of("scale", None, "factor", "ours", "stock", in_keras_3=["factor"])
@one_of("schedule", False, True)
@one_of("kind", "dense", "lazy", "dense mode")
@one_of("how", "eager", "function", "jit")
@one_of("optimizer", "SGD-momentum", "Adam-plain")
def test_a_training_is_that_of_float64(
    optimizer, how, kind, schedule, scale, decay, clip, accumulation, average
):
    case = next(case for case in cases.CASES if str(case) == optimizer)
    options = {
        "kind": kind,
        "schedule": schedule,
        "scale": scale,
        "decay": decay,
        "clip": clip,
        "accumulation": accumulation,
        "average": average,
    }
    var_list = models.variables(((ROWS, 3), (3,)))
    expected = Reference(case, var_list, options)
    inner, outer, factor = made(case, options)
    outer.build(var_list)

    def step(ids, rows, bias):
        table = models.slices(ids, rows, ROWS)
        table = models.dense(table) if kind == "dense" else table
        outer.apply_gradients(zip((table, bias), var_list, strict=True))

    if how != "eager":
        step = tf.function(step, jit_compile=how == "jit")
    for ids, rows, bias in draw():
        scaled = (tf.constant(g * factor, tf.float32) for g in (rows, bias))
        step(tf.constant(ids), *scaled)
        expected.call(ids, rows, bias)
        for variable, value in zip(var_list, expected.values, strict=True):
            np.testing.assert_allclose(variable.numpy(), value, rtol=2e-5, atol=2e-6)
    assert int(inner.iterations) == expected.steps
    if average:
        averages = inner._model_variables_moving_average
        for variable, value in zip(averages, expected.averages, strict=True):
            np.testing.assert_allclose(variable.numpy(), value, rtol=2e-5, atol=2e-6)
