"""What a subclass of a user's overrides of stock's step: honoured, or an error."""

import tensorflow as tf

from tf_optim import replicas

# Honoured: called where stock calls them, once one of them is overridden.
UPDATE = frozenset(["update_step"])
CLIP = frozenset(["_clip_gradients", "_clip_by_norm"])
DECAY = frozenset(["_apply_weight_decay"])
OF_MUON = (
    "_adamw_update_step",
    "_muon_update_step",
    "lr_adjust",
    "zeropower_via_newtonschulz5",
)
# The rest of stock's step, in either flavour. A fused step does not call these.
_NOT_CALLED = (
    "assign",
    "assign_add",
    "assign_sub",
    "_all_reduce_sum_gradients",
    "_backend_apply_gradients",
    "_backend_increment_gradient_accumulators",
    "_backend_reset_gradient_accumulators",
    "_backend_update_step",
    "_deduplicate_sparse_grad",
    "_distributed_apply_gradients_fn",
    "_distributed_tf_update_step",
    "_filter_empty_gradients",
    "_internal_apply_gradients",
    "_overwrite_model_variables_with_average_value",
    "_update_model_variables_moving_average",
    "_update_step",
    "_update_step_xla",
    *OF_MUON,
)


def overridden(optimizer, names=UPDATE | CLIP | DECAY):
    """Those of the methods that a class below ours, or the object itself, has."""
    cls, own = type(optimizer), vars(optimizer)
    ours = next(each for each in cls.__mro__ if "_spec" in vars(each))
    return frozenset(
        [
            name
            for name in names
            if name in own or getattr(cls, name, None) is not getattr(ours, name, None)
        ]
    )


def check(optimizer):
    """Raises TypeError if a method is overridden that a fused step does not call."""
    for name in _NOT_CALLED:
        if overridden(optimizer, [name]):
            raise TypeError(
                f"A subclass of a fused optimizer must not override `{name}`: its step "
                "does not call it. Override `update_step`, `apply_gradients` or "
                f"`build`. Received: {type(optimizer).__name__}.{name}."
            )


def check_takes_rates(optimizer):
    """Raises TypeError if it updates variables itself, which have rates of their own.

    An `update_step` is given the step's rate, and in tf_keras reads it.
    """
    if overridden(optimizer, UPDATE):
        raise TypeError(
            "`learning_rate_multipliers` must be left out for a subclass that "
            "overrides `update_step`, which is given the rate of the step. Received: "
            f"{type(optimizer).__name__} with learning_rate_multipliers."
        )


def check_takes_cautious_steps(optimizer):
    """Raises TypeError if it updates variables itself: no step of ours is taken."""
    if overridden(optimizer, UPDATE):
        raise TypeError(
            "`cautious` must be False for a subclass that overrides `update_step`: "
            f"the step is its own. Received: {type(optimizer).__name__} with "
            "cautious=True."
        )


def check_alone(optimizer):
    """Raises RuntimeError if stock's methods are to be called for several replicas.

    Where they take the step together, the overridden ones cannot be called.
    """
    names = sorted(overridden(optimizer), reverse=True)
    if names and replicas.are_several():
        raise RuntimeError(
            "With `gradient_accumulation_steps` and several replicas a subclass must "
            f"not override `{names[0]}`. Received: {type(optimizer).__name__}."
        )


def ops_made_by(function, *arguments):
    """Calls the function; returns the ops that it has made, none in eager mode."""
    if tf.executing_eagerly():
        function(*arguments)
        return []
    graph = tf.compat.v1.get_default_graph()
    before = len(graph.get_operations())
    function(*arguments)
    return [op for op in graph.get_operations()[before:] if op.op_def.is_stateful]
