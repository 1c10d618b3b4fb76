"""One optimizer step over many variables: the only caller of the raw ops."""

import collections
import contextlib
import dataclasses
import functools

import numpy as np
import tensorflow as tf

from tf_optim import checks, library, norms, packed, servers

_ALL_ONE = np.zeros([0], np.float64)
_NO_DECAY = np.zeros([0], np.float64)


@dataclasses.dataclass
class Update:
    """A variable's share of a step.

    Attributes:
        variable: a resource `tf.Variable`.
        slots: for each slot of the spec a `tf.Variable`, or None when it is absent.
        gradient: a `tf.Tensor` or `tf.IndexedSlices`.
        weight_decay: its rate of decoupled weight decay, a number or a tensor.
        average: the `tf.Variable` that is its moving average, or None.
        average_rows: with it and for a lazy step, that of what each row has seen.
        mode: "lazy" or "dense", for a sparse gradient.
        number: the variable's among the optimizer's, from which it draws.
        hyper: pairs of the name and value of those hyperparameters in which the
            variable differs from the others of the step.
        rate_factor: what the step's learning rate is multiplied by for it.
    """

    variable: tf.Variable
    slots: tuple
    gradient: object
    weight_decay: object = 0.0
    average: tf.Variable | None = None
    average_rows: tf.Variable | None = None
    mode: str = "lazy"
    number: int = 0
    hyper: tuple = ()
    rate_factor: float = 1.0

    @property
    def is_sparse(self):
        """Whether the gradient names rows."""
        return isinstance(self.gradient, tf.IndexedSlices)

    def group(self):
        """Updates of equal groups can share an op call."""
        kind = (self.gradient.indices.dtype, self.mode) if self.is_sparse else None
        averaged = self.average is not None, self.average_rows is not None
        own = self.hyper, self.rate_factor
        return self.variable.handle.device, self.variable.dtype, kind, *averaged, *own


@dataclasses.dataclass
class Step:
    """What all variables of a step share.

    Attributes:
        learning_rate: a scalar tensor or number.
        iterations: an int64 scalar tensor, the steps done before.
        hyper: the spec's hyperparameters, in its order, `per_step` last.
        flags: the spec's flags, in its order.
        clip_value: the bound of each element of a gradient; 0 for none.
        use_locking: whether sparse steps wait for each other.
        average_momentum: of the moving averages.
        average_updates: how many updates of averages were done before.
        average_begins: so many of these set the average to the variable.
        stochastic_rounding: the optimizer's argument.
    """

    learning_rate: object
    iterations: object
    hyper: tuple
    flags: tuple = ()
    clip_value: float = 0.0
    use_locking: bool = True
    average_momentum: object = 0.0
    average_updates: object = 0
    average_begins: int = 0
    stochastic_rounding: bool | None = None

    def rounding_of(self, variables, slots, numbers):
        """The op's attributes that say how it rounds."""
        rounds = self.stochastic_rounding
        some = [slot for slot in slots if slot is not None and packed.is_packed(slot)]
        if (rounds is None and not some) or rounds is False:
            return {}
        if rounds and not some and variables[0].dtype.size > 2:
            return {}
        return {"rounding_seeds": list(numbers), "rounds_variables": bool(rounds)}

    def rate(self, factor=1.0):
        """As a float32 or float64 tensor: 16 bits would round the step."""
        value = tf.convert_to_tensor(self.learning_rate)
        value = value if value.dtype == tf.float64 else tf.cast(value, tf.float32)
        return value if factor == 1.0 else value * tf.constant(factor, value.dtype)


def _with_right_types(update):
    """The update, its gradient cast to the variable's dtype as Keras does."""
    variable, gradient = update.variable, update.gradient
    checks.check_dtype(variable)
    if not update.is_sparse:
        gradient = tf.cast(tf.convert_to_tensor(gradient), variable.dtype)
    else:
        indices = gradient.indices
        if indices.dtype not in (tf.int32, tf.int64):
            indices = tf.cast(indices, tf.int64)
        gradient = tf.IndexedSlices(tf.cast(gradient.values, variable.dtype), indices)
    checks.check_gradient(variable, gradient)
    if servers.is_server(variable.handle.device):
        gradient = norms.sum_duplicates(gradient)  # fewer rows to send
    return dataclasses.replace(update, gradient=gradient)


def may_decay(weight_decay):
    """Whether a rate of weight decay is other than 0, as far as is known."""
    return tf.is_tensor(weight_decay) or weight_decay != 0


def _decays(updates):
    rates = [update.weight_decay for update in updates]
    if any(map(tf.is_tensor, rates)):
        return tf.stack([checks.as_tensor(rate, tf.float64) for rate in rates])
    return np.array(rates, np.float64) if any(rates) else _NO_DECAY


def _scale_of(scale, places):
    """The numbers of a group's updates."""
    if scale is None:
        return _ALL_ONE
    whole = list(places) == list(range(scale.shape[0]))
    return scale if whole else tf.gather(scale, places)


def _handles(variables):
    return [variable.handle for variable in variables if variable is not None]


def _op_of_group(spec, step, scale, updates, places):
    """A function that calls the group's op."""
    slots = {}
    for i, slot in enumerate(spec.slots):
        slots[slot.name] = _handles(update.slots[i] for update in updates)
    gradients = [update.gradient for update in updates]
    inputs = {
        "var": [update.variable.handle for update in updates],
        **slots,
        "learning_rate": step.rate(updates[0].rate_factor),
        "iterations": step.iterations,
        **dict(zip(spec.hyper_names, step.hyper, strict=True)),
        **dict(updates[0].hyper),
        **dict(zip(spec.flags, step.flags, strict=True)),
        "gradient_scale": _scale_of(scale, places),
        "clip_value": step.clip_value,
        "weight_decay": _decays(updates),
        "use_locking": step.use_locking,
        "average": _handles(update.average for update in updates),
        "average_momentum": step.average_momentum,
        "average_updates": step.average_updates,
        "average_begins": step.average_begins,
        **step.rounding_of(
            [update.variable for update in updates],
            [slot for update in updates for slot in update.slots],
            [update.number for update in updates],
        ),
    }
    if not updates[0].is_sparse:
        op = getattr(library.ops(), f"tf_optim_{spec.op_name}")
        return functools.partial(op, grad=gradients, **inputs)
    op = getattr(library.ops(), f"tf_optim_{spec.sparse_op_name}")
    return functools.partial(
        op,
        grad=[g.values for g in gradients],
        indices=[g.indices for g in gradients],
        mode=updates[0].mode,
        average_rows=_handles(update.average_rows for update in updates),
        **inputs,
    )


def _outside_of_clusters():
    """Auto-clustering would compile the op, and copy each variable for it."""
    if tf.executing_eagerly() or checks.is_compiled_by_xla():
        return contextlib.nullcontext()
    return tf.xla.experimental.jit_scope(compile_ops=False)


def apply_step(spec, step, updates, scale=None):
    """Updates all variables, with one op call per device, dtype and kind.

    Args:
        spec: the optimizer's `specs.Spec`.
        step: the `Step`.
        updates: a list of `Update`.
        scale: a float64 vector: for each update what its gradient is multiplied by.
            Default: None, for 1.

    Returns:
        The list of ops; empty in eager mode, where they have run.
    """
    checks.check_can_compile()
    groups = collections.defaultdict(list)
    for place, update in enumerate(updates):
        update = _with_right_types(update)
        groups[update.group()].append((update, place))
    servers.check_they_know_our_ops(device for device, *_ in groups)
    groups = sorted(groups.values(), key=len, reverse=True)
    with _outside_of_clusters():
        calls = [
            _op_of_group(spec, step, scale, *zip(*members, strict=True))
            for members in groups
        ]
        ops = _run(groups, calls)
    return [op for op in ops if op is not None]


def _run(groups, calls):
    """Calls the groups' ops, of which none may write if one is wrong.

    Each op checks its own inputs before it writes. So the others are checked, then
    the first, of most variables, takes its step, and then they do.
    """
    if len(calls) == 1 or checks.is_compiled_by_xla():
        return [call() for call in calls]
    if len({members[0][0].group()[0] for members in groups}) > 1:
        # Devices do not wait for each other, nor are gradients sent twice.
        with tf.control_dependencies(_checks_of_indices(groups)):
            return [call() for call in calls]
    alone = sum(members[0][0].is_sparse for members in groups) < 2
    with tf.control_dependencies([] if alone else _checks_of_indices(groups)):
        checked = [call(check_only=True) for call in calls[1:]]
    with tf.control_dependencies([op for op in checked if op is not None]):
        first = calls[0]()
    with tf.control_dependencies([] if first is None else [first]):
        return [first] + [call() for call in calls[1:]]


def _checks_of_indices(groups):
    """Of all groups at once: an error counts the sparse variables of the step."""
    sparse = [u for members in groups for u, _ in members if u.is_sparse]
    if not sparse:
        return []
    check = checks.check_indices(
        [update.variable for update in sparse],
        [update.gradient.indices for update in sparse],
    )
    return [] if check is None else [check]
