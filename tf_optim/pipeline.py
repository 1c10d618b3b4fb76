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
    averages,
    checks,
    clipping,
    exact,
    extension,
    gradients,
    keras_private,
    norms,
    op_calls,
    replicas,
)


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
    step = _Step(optimizer, grads_and_vars, reduce)
    if not step.members:
        step.pass_by()
        return None if loss_scale is None else tf.constant(True)
    if loss_scale is None:
        step.take(getattr(optimizer, "loss_scale_factor", None))
        return None
    known = norms.Norms(*zip(*step.pairs, strict=True))
    if optimizer._step_statistics is not None:  # of a step that is not taken, too
        scale = checks.as_tensor(loss_scale, tf.float64)
        optimizer._step_statistics.see(known.divided_by(scale))

    def take():
        step.take(loss_scale, known)
        return tf.constant(True)

    return tf.cond(known.are_finite, take, lambda: tf.constant(False))


def check(optimizer, grads_and_vars):
    """Raises what a step would before it begins, but for what only an op finds."""
    optimizer._check_hyperparameters()
    _Step(optimizer, grads_and_vars, None)


def count(optimizer):
    """Counts a step."""
    # One addition on the counter's device: of two workers of a parameter server
    # that read, add and write, one would be lost.
    counter = keras_private.count(optimizer)
    counter.assign_add(tf.ones([], counter.dtype))


class _Step:
    """A step, and what its parts have to know of it.

    Attributes:
        members: the `members.Member` of each variable that it changes.
        own_numbers: of each the factor of its learning rate, the hyperparameters in
            which it differs from others, and its rate of weight decay.
        pairs: their gradients, checked, and the `tf.Variable`s.
    """

    def __init__(self, optimizer, grads_and_vars, reduce):
        grads, variables = zip(*grads_and_vars, strict=True)
        members = optimizer._members.of(optimizer, variables)
        own = optimizer._own_numbers(members)
        tensors = [member.variable for member in members]
        frozen = [i for i, (rate, _, _) in enumerate(own) if not rate]
        pairs = gradients.checked(grads, tensors)
        if frozen:
            taken = [i for i in range(len(own)) if i not in frozen]
            own, pairs, members, tensors = (
                [each[i] for i in taken] for each in (own, pairs, members, tensors)
            )
        self.optimizer, self.members, self.reduce = optimizer, members, reduce
        self.own_numbers, self.pairs = own, pairs
        self.several = replicas.are_several()
        if self.several:
            slots = [
                slot for each in members for slot in each.slots if slot is not None
            ]
            replicas.check(tensors + slots)
        self.accumulates = getattr(optimizer, "gradient_accumulation_steps", None)
        self.overridden = extension.overridden(optimizer)

    def pass_by(self):
        """Takes a step of frozen variables alone.

        It ends a window, moves averages, and is counted.
        """
        if self.optimizer._step_statistics is not None:
            self.optimizer._step_statistics.see_nothing()
        on_all = functools.partial(self._on_all_devices, False, None, None)
        replicas.together(on_all, [])

    def take(self, loss_scale, known=None):
        """Takes it. `known` are the norms of `pairs`, where they are known."""
        pairs, clipped = self.pairs, False
        scale = None if loss_scale is None else checks.as_tensor(loss_scale, tf.float64)
        meet = self.reduce and self.several
        has_own_way = self.overridden & (extension.CLIP | extension.UPDATE)
        if scale is not None and (self.accumulates or meet or has_own_way):
            # Else the update does it.
            pairs = [(gradients.divided(g, scale), v) for g, v in pairs]
            scale = known = None
        if self.several:
            replicas.check_alike(pairs)
            exact.agree(pairs)
        if meet:
            clipped = self.optimizer._clips_each_replica()
            if clipped and self._clips():
                # As many rows as ids: collectives in a loop must have one shape.
                summed = [(norms.sum_duplicates(g, pads=True), v) for g, v in pairs]
                pairs = self._clipped(summed)
            pairs = self.reduce(pairs)
        if self.overridden and not self.accumulates:
            pairs, clipped = self._as_overridden(pairs, clipped)
        on_all = functools.partial(self._on_all_devices, clipped, scale, known)
        replicas.together(on_all, pairs)

    def _on_all_devices(self, clipped, scale, known, local, pairs):
        """What follows the meeting of replicas, in one context for all of them."""
        variables = [member.given for member in self.members]
        begun = self.optimizer._late_starts.begin()
        riders = averages.Riders(self.optimizer, local, pairs, variables)

        def update(pairs, steps):
            if not pairs:
                return []
            extension.check_alone(self.optimizer)
            steps = checks.as_tensor(steps, tf.float64)
            if not self.several:
                pairs = [(local(gradient)[0], variable) for gradient, variable in pairs]
            if not self.overridden:
                pairs, scale = accumulation.means_of_halves(local, pairs, steps)
                return self._update(False, local, pairs, riders, scale)
            sums = [(norms.sum_duplicates(g), v) for g, v in pairs]
            pairs = [(gradients.divided(g, steps), v) for g, v in sums]
            pairs, clipped = self._as_overridden(pairs, False)
            return self._update(clipped, local, pairs, riders)

        with tf.control_dependencies([*begun, *riders.before()]):
            if self.accumulates:
                done = accumulation.accumulate(self.optimizer, local, pairs, update)
            elif not pairs:
                done = []
            else:
                done = self._update(clipped, local, pairs, riders, scale, known)
        with tf.control_dependencies(done):
            done = riders.after() or done
        with tf.control_dependencies(done):
            for variable in variables:
                if variable.constraint is not None:
                    variable.assign(variable.constraint(variable))
            count(self.optimizer)

    def _clips(self):
        names = ("clipnorm", "global_clipnorm", "clipvalue")
        bounds = [getattr(self.optimizer, name) for name in names]
        return self.overridden & extension.CLIP or bounds != [None] * 3

    def _clipped(self, pairs):
        """As Keras clips, or a subclass of a user's: in a pass of its own."""
        grads, variables = zip(*pairs, strict=True)
        is_global = self.optimizer.global_clipnorm is not None
        if is_global and not self.overridden & extension.CLIP:
            # Keras makes a dense tensor of a sparse gradient there.
            known = norms.Norms(grads, variables)
            factors, _ = clipping.factors(self.optimizer, lambda: known)
            grads = map(gradients.multiplied, grads, tf.unstack(factors))
        else:
            grads = keras_private.clipped(self.optimizer, grads)
        return list(zip(grads, variables, strict=True))

    def _as_overridden(self, pairs, clipped):
        """Clips and decays where a subclass of a user's has taken that over.

        Returns the pairs, and whether they are clipped.
        """
        if not clipped and self.overridden & (extension.CLIP | extension.UPDATE):
            pairs, clipped = self._clipped(pairs), True
        if self.overridden & extension.DECAY:
            variables = [variable for _, variable in pairs]
            keras_private.decay(self.optimizer, variables)
        return pairs, clipped

    def _update(self, clipped, local, pairs, riders, scale=None, known=None):
        """Clips, decays and updates. Returns the ops; none in eager mode."""
        optimizer = self.optimizer
        per_step = optimizer._per_step_hyper()
        if self.overridden & extension.UPDATE:
            ops = extension.ops_made_by(self._update_one_by_one, pairs)
            if optimizer._step_statistics is not None and not self.several:
                optimizer._step_statistics.see(norms.Norms(*zip(*pairs, strict=True)))
                optimizer._step_statistics.see_update(None)
        else:
            numbers = optimizer._step_numbers(per_step)
            if riders.riding:
                numbers.average_momentum = riders.numbers.momentum
                numbers.average_updates = riders.numbers.count
                numbers.average_kind = riders.numbers.kind
                numbers.average_begins = riders.numbers.begins
            ops = []
            for updates in self._by_device(local, pairs, riders):
                ops += self._update_device(numbers, updates, clipped, scale, known)
        with tf.control_dependencies(ops):  # a failed step leaves no trace
            optimizer._after_step(per_step)
        return ops

    def _decays(self):
        """The rates of weight decay, by the id of the variable."""
        done = self.overridden & extension.DECAY  # by the class itself
        pairs = zip(self.members, self.own_numbers, strict=True)
        return {id(m.variable): 0.0 if done else decay for m, (*_, decay) in pairs}

    def _by_device(self, local, pairs, riders):
        """For each device the updates of the variables' parts there."""
        decays, updates = self._decays(), []
        ways = exact.ways_of(self.optimizer, local, pairs)
        for i, member in enumerate(self.members):
            rate_factor, hyper, _ = self.own_numbers[i]
            gradient, variable = pairs[i]
            average, seen = riders.of(variable) if riders.riding else (None, None)
            updates.append(
                op_calls.VariableUpdate(
                    variable,
                    member.slots,
                    gradient,
                    decays[id(variable)],
                    average,
                    seen,
                    *ways[i],
                    member.number,
                    member.packs,
                    hyper,
                    rate_factor,
                )
            )
        if local is replicas.only and not self.several:
            return [updates]
        devices = range(len(local(updates[0].variable)))
        return [[update.part(local, i) for update in updates] for i in devices]

    def _update_device(self, numbers, updates, clipped, scale, known):
        """One op for each dtype and kind of gradient. Returns the ops."""
        optimizer = self.optimizer

        @functools.cache
        def measured():
            parts = zip(*((u.gradient, u.variable) for u in updates), strict=True)
            return (known or norms.Norms(*parts)).divided_by(scale)

        factors = None
        if not clipped:
            factors, numbers.clip_value = clipping.factors(optimizer, measured)
        if optimizer._step_statistics is not None:
            optimizer._step_statistics.see(measured())
            optimizer._step_statistics.see_factors(factors, optimizer.clipvalue)
        if known or measured.cache_info().currsize:  # what is sorted stays so
            pairs = zip(updates, measured().sorted_ids, strict=True)
            updates = [dataclasses.replace(u, sorted_ids=ids) for u, ids in pairs]
        if scale is not None:
            ones = tf.ones([len(updates)], tf.float64)
            factors = (ones if factors is None else factors) / scale
        ops = []
        if optimizer._step_statistics is not None and _measure_updates(updates):
            numbers.update_squares = []
        for members, places in _rounds(updates, numbers.learning_rate):
            part = factors
            if factors is not None and len(places) < len(updates):
                part = tf.gather(factors, places)
            with tf.control_dependencies(ops):
                ops += optimizer._apply_updates(numbers, members, part)
        if optimizer._step_statistics is not None:
            optimizer._step_statistics.see_update(numbers.update_squares)
        return ops

    def _update_one_by_one(self, pairs):
        """By the `update_step` of a subclass of a user's."""
        optimizer = self.optimizer
        rate, decays = optimizer._rate_of_step(), self._decays()

        def update(variable, gradient, weight_decay, factor):
            if op_calls.may_decay(weight_decay):
                decay = checks.as_tensor(weight_decay, tf.float64)
                decay *= checks.as_tensor(rate, tf.float64) * factor
                variable.assign_sub(variable * tf.cast(decay, variable.dtype))
            optimizer._call_update_step(gradient, variable, rate)

        strategy = tf.distribute.get_strategy()
        for (gradient, variable), (factor, *_) in zip(
            pairs, self.own_numbers, strict=True
        ):
            arguments = gradient, decays[id(variable)], factor
            if tf.distribute.get_replica_context() is None:
                strategy.extended.update(variable, update, args=arguments, group=False)
            else:
                update(variable, *arguments)


def _measure_updates(updates):
    """Whether the ops of some updates can say how far they go."""
    on_gpu = any("GPU" in update.variable.handle.device for update in updates)
    return not (on_gpu or checks.is_compiled_by_xla())


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
        if n > 1 and op_calls.may_decay(update.weight_decay):
            rate = checks.as_tensor(learning_rate, tf.float64) * update.rate_factor
            decay = _repeated(update.weight_decay, n, rate)
            rounds[0][i] = dataclasses.replace(update, weight_decay=decay), place
    return [tuple(zip(*members, strict=True)) for members in rounds.values()]


def _repeated(decay, times, learning_rate):
    """The rate of one decay that does what `times` of them do, one after the other."""
    decay = checks.as_tensor(decay, tf.float64)
    left = 1.0 - checks.as_tensor(learning_rate, tf.float64) * decay
    return decay * tf.add_n([left**i for i in range(times)])


def update_variable(optimizer, gradient, variable, learning_rate):
    """The update alone of one variable: no clipping, nothing counted, and no decay
    that is not a part of the update."""
    (member,) = optimizer._members.of(optimizer, [variable])
    per_step = optimizer._per_step_hyper()
    numbers = optimizer._step_numbers(per_step, learning_rate)
    numbers.bundles = None  # it would be one of one variable
    pairs = gradients.checked([gradient], [member.variable])
    ((mode, history),) = exact.ways_of(optimizer, replicas.only, pairs, whole=True)
    update = op_calls.VariableUpdate(
        member.variable,
        member.slots,
        pairs[0][0],
        mode=mode,
        history=history,
        number=member.number,
        packs=member.packs,
        hyper=optimizer._hyper_of(member.variable),
        rate_factor=optimizer._rate_factor_of(member.variable),
    )
    optimizer._apply_updates(numbers, [update], None)
