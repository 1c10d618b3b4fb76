"""One step of an optimizer, from top to bottom. Both Keras flavours feed it.

    check, [look for what is not finite], unscale, [replicas meet: clip each, reduce],
    accumulate, clip, update with weight decay, average, constrain, count

Gradients arrive in a replica's context and without None. Whatever changes a variable
comes after the checks, and nothing is counted that has failed.
"""

import collections
import dataclasses
import functools

import tensorflow as tf

from tf_optim import (
    accumulation,
    apply,
    averages,
    checks,
    clipping,
    exact,
    extension,
    gradients,
    keras_private,
    norms,
    replicas,
)
from tf_optim.keras_private import raw


def take_step(optimizer, grads_and_vars, reduce=None, loss_scale=None):
    """Updates all variables, in the context of a replica.

    Args:
        optimizer: of ours.
        grads_and_vars: pairs as `apply_gradients` takes them, without None.
        reduce: adds up pairs over replicas and returns them; None where that is done.
        loss_scale: what the gradients have been multiplied by. With it a step whose
            gradients are not finite changes nothing. Not with several replicas.

    Returns:
        Whether the step has been taken, a scalar bool; None without `loss_scale`.
    """
    optimizer._check_hyperparameters()  # they are attributes that can be set
    grads_and_vars = [
        (gradient, variable)
        for gradient, variable in grads_and_vars
        if optimizer._rate_factor_of(raw(variable))  # 0: it is frozen
    ]
    if not grads_and_vars:
        count = keras_private.count(optimizer)
        count.assign_add(tf.ones([], count.dtype))
        return None if loss_scale is None else tf.constant(True)
    variables = [variable for _, variable in grads_and_vars]
    pairs = [(gradients.checked(g, raw(v)), raw(v)) for g, v in grads_and_vars]
    slots = [keras_private.slots_of(optimizer, v) for v in variables]
    present = [slot for each in slots for slot in each if slot is not None]
    replicas.check([variable for _, variable in pairs] + present)

    if loss_scale is None:
        _take_step(optimizer, variables, pairs, reduce)
        return None
    known = norms.Norms(*zip(*pairs, strict=True))
    if optimizer.step_statistics is not None:  # of a step that is not taken, too
        scale = checks.as_tensor(loss_scale, tf.float64)
        optimizer.step_statistics.see(known.divided_by(scale))

    def take():
        _take_step(optimizer, variables, pairs, reduce, loss_scale, known)
        return tf.constant(True)

    return tf.cond(known.are_finite, take, lambda: tf.constant(False))


def _take_step(optimizer, variables, pairs, reduce, loss_scale=None, known=None):
    accumulates = getattr(optimizer, "gradient_accumulation_steps", None)
    several = reduce and replicas.are_several()
    if loss_scale is None:
        loss_scale = getattr(optimizer, "loss_scale_factor", None)
    scale = None if loss_scale is None else checks.as_tensor(loss_scale, tf.float64)
    overridden = extension.overrides(optimizer, extension.CLIP + extension.UPDATE)
    if scale is not None and (accumulates or several or overridden):
        # Else the update does it.
        pairs = [(gradients.divided(g, scale), v) for g, v in pairs]
        scale = known = None

    clipped = False
    if several:
        # Here already, so that fewer rows are sent.
        pairs = [(norms.sum_duplicates(g), v) for g, v in pairs]
        clipped = optimizer._clips_each_replica()
        pairs = reduce(_clipped(optimizer, pairs) if clipped else pairs)

    if not accumulates:
        pairs, clipped = _as_overridden(optimizer, pairs, clipped)
    step = functools.partial(
        _on_all_devices, optimizer, variables, accumulates, clipped, scale, known
    )
    replicas.together(step, pairs)


def _on_all_devices(
    optimizer, variables, accumulates, clipped, scale, known, local, pairs
):
    """What follows the meeting of replicas: in one context, once for all of them."""
    riders = averages.Riders(optimizer, local, pairs, variables)

    def update(pairs):
        extension.check_alone(optimizer)
        if not replicas.are_several():
            pairs = [(local(gradient)[0], variable) for gradient, variable in pairs]
        pairs, clipped = _as_overridden(optimizer, pairs, False)
        return _update(optimizer, clipped, local, pairs, riders)

    with tf.control_dependencies(riders.before()):
        if accumulates:
            done = accumulation.accumulate(optimizer, local, pairs, update)
        else:
            done = _update(optimizer, clipped, local, pairs, riders, scale, known)
    with tf.control_dependencies(done):
        done = riders.after() or done
    with tf.control_dependencies(done):
        for variable in variables:
            if variable.constraint is not None:
                variable.assign(variable.constraint(variable))
        # One addition on the counter's device: of two workers of a parameter server
        # that read, add and write, one would be lost.
        count = keras_private.count(optimizer)
        count.assign_add(tf.ones([], count.dtype))


def _clipped(optimizer, pairs):
    """As Keras clips, or a subclass of a user's: in a pass of its own."""
    grads, variables = zip(*pairs, strict=True)
    return list(zip(keras_private.clipped(optimizer, grads), variables, strict=True))


def _as_overridden(optimizer, pairs, clipped):
    """Clips and decays where a subclass of a user's has taken that over.

    Returns the pairs, and whether they are clipped.
    """
    methods = extension.CLIP + extension.UPDATE
    if not clipped and extension.overrides(optimizer, methods):
        pairs, clipped = _clipped(optimizer, pairs), True
    if extension.overrides(optimizer, extension.DECAY):
        keras_private.decay(optimizer, [variable for _, variable in pairs])
    return pairs, clipped


def _update(optimizer, clipped, local, pairs, riders, scale=None, known=None):
    """Clips, decays and updates. Returns the ops; none in eager mode."""
    per_step = optimizer._per_step_hyper()
    if extension.overrides(optimizer, extension.UPDATE):
        ops = extension.ops_made_by(_update_one_by_one, optimizer, pairs)
    else:
        numbers = _numbers(optimizer, optimizer._rate_of_step(), per_step)
        if riders.riding:
            numbers.average_momentum = riders.momentum
            numbers.average_updates = riders.count
            numbers.average_begins = riders.begins
        rows = exact.Rows(optimizer, local, pairs, riders.kept)
        ops = []
        with tf.control_dependencies(rows.before()):
            for updates in _by_device(optimizer, local, pairs, riders, rows):
                ops += _update_device(
                    optimizer, numbers, updates, clipped, scale, known
                )
        with tf.control_dependencies(ops):
            ops += rows.after(numbers, functools.partial(_decay_of, optimizer))
    with tf.control_dependencies(ops):  # a failed step leaves no trace
        optimizer._after_step(per_step)
    return ops


def _numbers(optimizer, learning_rate, per_step):
    """What all variables of the step share."""
    spec = optimizer._spec
    hyper = [checks.as_number(getattr(optimizer, h.attribute)) for h in spec.hyper]
    return apply.Step(
        learning_rate=learning_rate,
        iterations=tf.cast(tf.convert_to_tensor(optimizer.iterations), tf.int64),
        hyper=(*hyper, *per_step),
        flags=tuple(bool(getattr(optimizer, f)) for f in spec.flags),
        use_locking=optimizer.use_locking,
        stochastic_rounding=optimizer.stochastic_rounding,
    )


def _decay_of(optimizer, variable):
    rate = optimizer._decay_rate_of(variable)
    if extension.overrides(optimizer, extension.DECAY):
        return 0.0  # done by the class itself
    if rate is None or not optimizer._is_decayed(variable):
        return 0.0
    return checks.as_number(rate)


def _by_device(optimizer, local, pairs, riders, rows):
    """For each device the updates of the variables' parts there."""
    of_variables = []
    for gradient, variable in pairs:
        parts, rate = local(variable), _decay_of(optimizer, variable)
        *slots, average, seen = [
            [None] * len(parts) if slot is None else local(slot)
            for slot in (
                *keras_private.slots_of(optimizer, variable),
                *riders.of(variable),
            )
        ]
        # Replicas may share a variable: then the sum of any of them is the one.
        grads = local(gradient)[: len(parts)]
        of_variables.append(
            [
                apply.Update(
                    part,
                    tuple(slot[i] for slot in slots),
                    gradient,
                    rate,
                    average[i],
                    seen[i],
                    rows.mode_of(variable),
                    keras_private.index_of(optimizer, variable),
                    optimizer._hyper_of(variable),
                    optimizer._rate_factor_of(variable),
                )
                for i, (part, gradient) in enumerate(zip(parts, grads, strict=True))
            ]
        )
    return zip(*of_variables, strict=True)


def _update_device(optimizer, numbers, updates, clipped, scale, known):
    """One op for each dtype and kind of gradient. Returns the ops."""

    @functools.cache
    def measured():
        parts = zip(*((u.gradient, u.variable) for u in updates), strict=True)
        return (known or norms.Norms(*parts)).divided_by(scale)

    factors = None
    if not clipped:
        factors, numbers.clip_value = clipping.factors(optimizer, measured)
    if optimizer.step_statistics is not None:
        optimizer.step_statistics.see(measured())
        optimizer.step_statistics.see_factors(factors, optimizer.clipvalue)
    if scale is not None:
        ones = tf.ones([len(updates)], tf.float64)
        factors = (ones if factors is None else factors) / scale
    ops = []
    for members, places in _rounds(updates, numbers.learning_rate):
        part = factors
        if factors is not None and len(places) < len(updates):
            part = tf.gather(factors, places)
        with tf.control_dependencies(ops):
            ops += optimizer._apply_updates(numbers, members, part)
    return ops


def _rounds(updates, learning_rate):
    """Pairs of updates and their places, in each of which a variable stands once.

    One that stands twice takes two steps, after the decay for both, as in stock.
    """
    times = collections.Counter()
    rounds = collections.defaultdict(list)
    for place, update in enumerate(updates):
        key = id(update.variable)
        if times[key]:
            update = dataclasses.replace(update, weight_decay=0.0)
        rounds[times[key]].append((update, place))
        times[key] += 1
    for i, (update, place) in enumerate(rounds[0]):
        n = times[id(update.variable)]
        if n > 1 and apply.may_decay(update.weight_decay):
            rate = checks.as_tensor(learning_rate, tf.float64) * update.rate_factor
            decay = _repeated(update.weight_decay, n, rate)
            rounds[0][i] = dataclasses.replace(update, weight_decay=decay), place
    return [tuple(zip(*members, strict=True)) for members in rounds.values()]


def _repeated(decay, times, learning_rate):
    """The rate of one decay that does what `times` of them do, one after the other."""
    decay = checks.as_tensor(decay, tf.float64)
    left = 1.0 - checks.as_tensor(learning_rate, tf.float64) * decay
    return decay * tf.add_n([left**i for i in range(times)])


def _update_one_by_one(optimizer, pairs):
    """By the `update_step` of a subclass of a user's."""
    rate = optimizer._rate_of_step()

    def update(variable, gradient):
        weight_decay = _decay_of(optimizer, variable)
        if apply.may_decay(weight_decay):
            factor = checks.as_tensor(weight_decay, tf.float64)
            factor *= checks.as_tensor(rate, tf.float64)
            factor *= optimizer._rate_factor_of(variable)
            variable.assign_sub(variable * tf.cast(factor, variable.dtype))
        optimizer._call_update_step(gradient, variable, rate)

    strategy = tf.distribute.get_strategy()
    for gradient, variable in pairs:
        if tf.distribute.get_replica_context() is None:
            strategy.extended.update(variable, update, args=(gradient,), group=False)
        else:
            update(variable, gradient)


def update_variable(optimizer, gradient, variable, learning_rate):
    """The update alone of one variable: no clipping, no decay, nothing counted."""
    variable = raw(variable)
    numbers = _numbers(optimizer, learning_rate, optimizer._per_step_hyper())
    slots = keras_private.slots_of(optimizer, variable)
    gradient = gradients.checked(gradient, variable)
    rows = exact.Rows(optimizer, replicas.only, [(gradient, variable)], whole=True)
    mode = rows.mode_of(variable)
    update = apply.Update(
        variable,
        slots,
        gradient,
        mode=mode,
        number=keras_private.index_of(optimizer, variable),
        hyper=optimizer._hyper_of(variable),
        rate_factor=optimizer._rate_factor_of(variable),
    )
    with tf.control_dependencies(rows.before()):
        ops = optimizer._apply_updates(numbers, [update], None)
    with tf.control_dependencies(ops):
        rows.after(numbers, lambda variable: 0.0)
