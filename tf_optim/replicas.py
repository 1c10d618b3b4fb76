"""Replicas of tf.distribute: their gradients meet once, and one context updates all.

A strategy is always the one in force when the step is taken: a model may have been
made in its scope, and the optimizer outside of it.
"""

import contextlib

import tensorflow as tf


class Parts:
    """A value of which the parts are known, one for each device."""

    def __init__(self, parts):
        self.parts = tuple(parts)


def _taken_apart(function):
    return lambda value: value.parts if isinstance(value, Parts) else function(value)


@_taken_apart
def only(value):
    """As `local` of `together`, where there is one device."""
    return (value,)


def are_several():
    """Whether gradients of several replicas make one step."""
    return tf.distribute.get_strategy().num_replicas_in_sync > 1


def check(variables):
    """Raises an error unless every one of several replicas can take its part.

    Args:
        variables: all that the step changes, of the model and of the optimizer.
    """
    strategy = tf.distribute.get_strategy()
    kind = type(strategy).__name__
    if tf.distribute.get_replica_context() is None:
        raise RuntimeError(
            "With several replicas gradients must be applied in a replica's context, "
            f"inside of `strategy.run`. Received: the scope of a {kind}."
        )
    if "TPU" in kind:
        raise RuntimeError(
            "A fused optimizer must run on CPUs or GPUs: it has no kernels for a TPU. "
            f"Received: a step under {kind}."
        )
    for variable in variables:
        if not strategy.extended.variable_created_in_scope(variable):
            raise ValueError(
                f"Every variable of a step under {kind} must be made in the scope of "
                f"that strategy. Received: '{variable.name}', which is not."
            )


def scope_of(variables):
    """A context in which slots are made on all devices that the variables are on."""
    if not tf.distribute.has_strategy():
        for variable in variables:
            strategy = getattr(variable, "distribute_strategy", None)
            if strategy is not None and strategy.num_replicas_in_sync > 1:
                return strategy.scope()
    return contextlib.nullcontext()


def give_all_the_same(variables):
    """Gives the copies of mirrored variables what the calling replica's copy has.

    A checkpoint that was restored before they were made reaches that one alone.
    """
    if not are_several() or tf.distribute.get_replica_context() is None:
        return
    for variable in variables:
        copies = getattr(variable, "values", ())
        if len(copies) > 1:
            value = tf.convert_to_tensor(variable)
            for copy in copies:
                copy.assign(value)


def total(gradients):
    """Each gradient, added up over all replicas."""
    context = tf.distribute.get_replica_context()
    return context.all_reduce(tf.distribute.ReduceOp.SUM, gradients)


def check_alike(pairs):
    """Raises an error unless all replicas have gradients of the same variables.

    Machines that do not meet in one process are not asked.

    Args:
        pairs: gradients and variables, of the calling replica.
    """
    if tf.__internal__.distribute.strategy_supports_no_merge_call():
        return
    here = "\n".join(
        f"'{variable.name}' ({type(gradient).__name__})" for gradient, variable in pairs
    )

    def compare(strategy, lists):
        first, *others = strategy.experimental_local_results(lists)
        for each in others:
            if each != first:
                some = sorted({*each.split("\n")} ^ {*first.split("\n")})
                raise ValueError(
                    "All replicas must have gradients of the same variables, of the "
                    "same kind and in the same order. Received: on some of them alone "
                    f"{', '.join(some) or 'another order'}."
                )

    tf.distribute.get_replica_context().merge_call(compare, args=(here,))


def together(function, pairs):
    """Calls `function(local, pairs)` once for all replicas of this process.

    Args:
        function: `local(value)` gives it a value's parts, one for each device that
            holds the variables: the same ones of all values.
        pairs: gradients and variables, of the calling replica.
    """
    merge = not tf.__internal__.distribute.strategy_supports_no_merge_call()
    if not (are_several() and merge):
        function(only, pairs)
        return

    def across(strategy, pairs):
        function(_taken_apart(strategy.experimental_local_results), pairs)

    tf.distribute.get_replica_context().merge_call(across, args=(pairs,))


def assign(variable, value):
    """Sets a variable of an optimizer's in a step; each replica its own, where all
    take steps of their own."""
    if tf.distribute.get_replica_context() is None:
        variable.assign(value)
    else:
        tf.raw_ops.AssignVariableOp(resource=variable.handle, value=value)


def local_parts():
    """As `local` of `together`, where a step is not being taken."""
    if tf.distribute.get_replica_context() is not None:
        return only
    return tf.distribute.get_strategy().experimental_local_results
