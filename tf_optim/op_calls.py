"""The calls of the ops that update variables: one for each device, dtype and kind.

`pipeline.py` makes a `VariableUpdate` of each variable and hands them over.
"""

import collections
import contextlib
import dataclasses
import functools
import operator

import numpy as np
import tensorflow as tf

from tf_optim import checks, library, norms, replicas, servers

_ALL_ONE = np.zeros([0], np.float64)
_NO_DECAY = np.zeros([0], np.float64)


@dataclasses.dataclass
class VariableUpdate:
    """What a step does to one variable.

    Attributes:
        variable: a resource `tf.Variable`.
        slots: for each slot of the spec a `tf.Variable`, or None when it is absent.
        gradient: a `tf.Tensor` or `tf.IndexedSlices`.
        weight_decay: its rate of decoupled weight decay, a float or a tensor.
        average: the `tf.Variable` that is its moving average, or None.
        average_rows: with it and for a lazy step, that of what each row has seen.
        mode: the op's, for a sparse gradient.
        history: the handle of the table's history (exact.py), or None.
        number: the variable's among the optimizer's, from which it draws.
        packs: whether slots of it are packed.
        hyper: pairs of the name and value of those hyperparameters in which the
            variable differs from the others of the step.
        rate_factor: what the step's learning rate is multiplied by for it.
        sorted_ids: of a sparse gradient, what `norms.Norms` has of that name, or None.
    """

    variable: tf.Variable
    slots: tuple
    gradient: object
    weight_decay: object = 0.0
    average: tf.Variable | None = None
    average_rows: tf.Variable | None = None
    mode: str = "lazy"
    history: object = None
    number: int = 0
    packs: bool = False
    hyper: tuple = ()
    rate_factor: float = 1.0
    sorted_ids: object = None

    @property
    def is_sparse(self):
        """Whether the gradient names rows."""
        return isinstance(self.gradient, tf.IndexedSlices)

    def part(self, local, i):
        """What it does on one of the devices.

        Args:
            local: as `replicas.together` gives it.
            i: the device's number.
        """
        gradients = local(self.gradient)
        if local is replicas.only:
            return dataclasses.replace(self, gradient=gradients[0])

        def there(variable):
            return None if variable is None else local(variable)[i]

        return dataclasses.replace(
            self,
            variable=there(self.variable),
            slots=tuple(map(there, self.slots)),
            # Replicas may share a variable: then the sum of any of them is the one.
            gradient=gradients[i],
            average=there(self.average),
            average_rows=there(self.average_rows),
            history=there(self.history),
        )

    def group(self, compiled):
        """Updates of equal groups can share an op call.

        Args:
            compiled: whether XLA compiles it.
        """
        kind = (self.gradient.indices.dtype, self.mode) if self.is_sparse else None
        lists = self.average, self.average_rows, self.history
        present = tuple([each is not None for each in lists])
        device, dtype = self.variable.handle.device, self.variable.dtype
        rate_apart = self.rate_factor != 1.0 and not takes_rates(device, compiled)
        own = self.hyper, rate_apart and self.rate_factor
        return device, dtype, kind, *present, *own


def takes_rates(device, compiled):
    """Whether an op there may have a learning rate for each of its variables."""
    return "CPU" in device and not compiled


@dataclasses.dataclass
class StepNumbers:
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
        average_kind: "moving", "mean" or "slow".
        average_begins: so many updates set a moving average to the variable.
        stochastic_rounding: the optimizer's argument.
        update_squares: a list to which each op's output of that name is added; None
            where nobody asks for it.
        bundles: the optimizer's `bundles.Bundles`; None for ops that are given each
            variable's handle, as XLA needs them.
    """

    learning_rate: object
    iterations: object
    hyper: tuple
    flags: tuple = ()
    clip_value: float = 0.0
    use_locking: bool = True
    average_momentum: object = 0.0
    average_updates: object = 0
    average_kind: str = "moving"
    average_begins: int = 0
    stochastic_rounding: bool | None = None
    bundles: object = None
    update_squares: list | None = None

    def rounding_of(self, updates):
        """The op's attributes that say how it rounds."""
        rounds = self.stochastic_rounding
        packs = any(update.packs for update in updates)
        if (rounds is None and not packs) or rounds is False:
            return {}
        if rounds and not packs and updates[0].variable.dtype.size > 2:
            return {}
        seeds = [update.number for update in updates]
        return {"rounding_seeds": seeds, "rounds_variables": bool(rounds)}

    def rate_of(self, updates):
        """As a float32 or float64 tensor: 16 bits would round the step.

        A scalar, or a vector where the updates' factors differ.
        """
        value = tf.convert_to_tensor(self.learning_rate)
        value = value if value.dtype == tf.float64 else tf.cast(value, tf.float32)
        factors = tuple(map(operator.attrgetter("rate_factor"), updates))
        if len(set(factors)) == 1:
            factors = factors[0]
        return value if factors == 1.0 else value * tf.constant(factors, value.dtype)


def _in_variables_type(update, distant):
    """The update, its gradient cast to the variable's dtype as Keras does.

    Args:
        update: a `VariableUpdate`.
        distant: the devices that are parameter servers'.
    """
    variable, gradient = update.variable, update.gradient
    dtype = variable.dtype
    if not update.is_sparse:
        if gradient.dtype == dtype:
            return update
        gradient = tf.cast(gradient, dtype)
    else:
        gradient = tf.IndexedSlices(tf.cast(gradient.values, dtype), gradient.indices)
        if variable.handle.device in distant:
            gradient = norms.sum_duplicates(gradient)  # fewer rows to send
            update = dataclasses.replace(update, sorted_ids=None)
    return dataclasses.replace(update, gradient=gradient)


def may_decay(weight_decay):
    """Whether a rate of weight decay is other than 0, as far as is known."""
    return not isinstance(weight_decay, float) or weight_decay != 0


def _decays(updates):
    rates = [update.weight_decay for update in updates]
    if set(map(type, rates)) != {float}:
        return tf.stack([checks.as_tensor(rate, tf.float64) for rate in rates])
    return np.array(rates, np.float64) if any(rates) else _NO_DECAY


def _scale_of(scale, places):
    """The numbers of a group's updates."""
    if scale is None:
        return _ALL_ONE
    whole = list(places) == list(range(scale.shape[0]))
    return scale if whole else tf.gather(scale, places)


def _variables_of(spec, numbers, updates):
    """The op's inputs that are variables: their bundle, or lists of handles."""
    lists = [[update.variable for update in updates]]
    lists += zip(*(update.slots for update in updates), strict=True)
    lists.append([update.average for update in updates])
    names = ["var", *(slot.name for slot in spec.slots), "average"]
    if updates[0].is_sparse:
        lists.append([update.average_rows for update in updates])
        names.append("average_rows")
    lists = [[each for each in members if each is not None] for members in lists]
    bundle = numbers.bundles and numbers.bundles.of([v for each in lists for v in each])
    if bundle is None:
        handles = [[each.handle for each in members] for members in lists]
        return dict(zip(names, handles, strict=True))
    present = sum(1 << i for i, members in enumerate(lists[1:]) if members)
    return {"bundle": bundle, "lists": present}


def _op_of_group(spec, numbers, scale, updates, places):
    """A function that calls the group's op."""
    gradients = [update.gradient for update in updates]
    histories = [update.history for update in updates]
    is_sparse = updates[0].is_sparse
    inputs = {
        **_variables_of(spec, numbers, updates),
        "learning_rate": numbers.rate_of(updates),
        "iterations": numbers.iterations,
        **dict(zip(spec.hyper_names, numbers.hyper, strict=True)),
        **dict(updates[0].hyper),
        **dict(zip(spec.flags, numbers.flags, strict=True)),
        "gradient_scale": _scale_of(scale, places),
        "clip_value": numbers.clip_value,
        "weight_decay": _decays(updates),
        "use_locking": numbers.use_locking,
        "average_momentum": numbers.average_momentum,
        "average_updates": numbers.average_updates,
        "average_kind": numbers.average_kind,
        "average_begins": numbers.average_begins,
        "history": [each for each in histories if each is not None],
        **numbers.rounding_of(updates),
    }
    if is_sparse:
        inputs["grad"] = [g.values for g in gradients]
        inputs["indices"] = [g.indices for g in gradients]
        sorted_ids = [update.sorted_ids for update in updates]
        inputs["sorted_ids"] = [] if None in sorted_ids else sorted_ids
        inputs["mode"] = updates[0].mode
    else:
        inputs["grad"] = gradients
    name = spec.op_names[is_sparse, "bundle" in inputs]
    return functools.partial(getattr(library.ops(), f"tf_optim_{name}"), **inputs)


def _outside_of_clusters():
    """Auto-clustering would compile the op, and copy each variable for it."""
    if tf.executing_eagerly():
        return contextlib.nullcontext()
    return tf.xla.experimental.jit_scope(compile_ops=False)


def call_ops(spec, numbers, updates, scale=None):
    """Updates all variables, with one op call per device, dtype and kind.

    Args:
        spec: the optimizer's `specs.Spec`.
        numbers: the `StepNumbers`.
        updates: a list of `VariableUpdate`, their gradients as `gradients.checked`
            gives them.
        scale: a float64 vector: for each update what its gradient is multiplied by.
            Default: None, for 1.

    Returns:
        The list of ops; empty in eager mode, where they have run.
    """
    checks.check_can_compile()
    compiled = checks.is_compiled_by_xla()
    devices = {update.variable.handle.device for update in updates}
    distant = servers.among(devices)
    if distant:
        servers.check_they_know_our_ops()
    groups = collections.defaultdict(list)
    for place, update in enumerate(updates):
        update = _in_variables_type(update, distant)
        groups[update.group(compiled)].append((update, place))
    groups = sorted(groups.values(), key=len, reverse=True)
    if compiled:
        numbers = dataclasses.replace(numbers, bundles=None)
    with contextlib.nullcontext() if compiled else _outside_of_clusters():
        calls = [
            _op_of_group(spec, numbers, scale, *zip(*members, strict=True))
            for members in groups
        ]
        if numbers.update_squares is not None:
            calls = [_measured(call, numbers.update_squares) for call in calls]
        if len(calls) == 1 or compiled:
            ops = [call() for call in calls]
        else:
            ops = _run_all_or_none(groups, calls, len(devices))
    return [op for op in ops if op is not None]


def _measured(call, found):
    """A function that calls an op and adds what it has measured to a list."""

    def call_and_add(check_only=False):
        if check_only:
            return call(check_only=True)
        (squares,) = call(update_norms=1)
        found.append(squares)
        return None if tf.executing_eagerly() else squares.op

    return call_and_add


def _run_all_or_none(groups, calls, devices):
    """Calls the groups' ops, of which none may write if one is wrong.

    Each op checks its own inputs before it writes. So the others are checked, then
    the first, of most variables, takes its step, and then they do.
    """
    if devices > 1:
        # Devices do not wait for each other, nor are gradients sent twice; but for
        # rows that must be up to date, which no server has.
        checked = _checks_of_indices(groups)
        with tf.control_dependencies(checked):
            for members, call in zip(groups, calls, strict=True):
                if members[0][0].is_sparse and members[0][0].mode == "exact":
                    checked = [*checked, call(check_only=True)]
        with tf.control_dependencies([op for op in checked if op is not None]):
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
