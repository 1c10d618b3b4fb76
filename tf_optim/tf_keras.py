"""The adapter to tf_keras (`TF_USE_LEGACY_KERAS=1`)."""

import tensorflow as tf

from tf_optim import clipping, fused


class _Float32Reference:
    """A 16-bit variable that asks for slots in float32."""

    def __init__(self, variable):
        self._variable = variable

    true_dtype = tf.float32

    def __getattr__(self, name):
        return getattr(self._variable, name)


class _StandIn:
    """What a stock optimizer, which keeps no model variables, knows of one."""

    def __init__(self, key, slot, name):
        self._unique_id = key
        self._slot = slot
        self._shared_name = name

    def __getattr__(self, name):
        return getattr(self._slot, name)

    def __tf_tensor__(self, dtype=None, name=None):
        return tf.convert_to_tensor(self._slot, dtype, name=name)


def built_with(optimizer):
    """The variables that any tf_keras optimizer was built with; None before.

    Those of a stock optimizer come as stand-ins, good for `build` and no more.
    """
    if not getattr(optimizer, "_built", False):
        return None
    if isinstance(optimizer, FusedOptimizer):
        return list(optimizer._built_with)
    keys = sorted(optimizer._index_dict, key=optimizer._index_dict.get)
    lists = [
        value
        for name, value in vars(optimizer).items()
        if isinstance(value, list) and len(value) == len(keys) and name != "_variables"
    ]
    slots = next(
        (each for each in lists if all(isinstance(v, tf.Variable) for v in each)),
        [None] * len(keys),  # no slots at all: nothing but the key is needed
    )
    return [
        _StandIn(key, slot, _name_of_model_variable(optimizer, slot))
        for key, slot in zip(keys, slots, strict=True)
    ]


def _name_of_model_variable(optimizer, slot):
    """As in "adam/m/dense/kernel", with or without the optimizer's name."""
    if slot is None:
        return None
    name = slot._shared_name.removeprefix(f"{optimizer.name}/")
    return name.partition("/")[2] or name


class FusedOptimizer(fused.Fused):
    """Puts one op call into the place of tf_keras' loop over variables."""

    def __init__(self, *args, jit_compile=False, **kwargs):
        # Stock's own XLA wrap is per variable and would undo the list op.
        del jit_compile
        super().__init__(*args, jit_compile=False, **kwargs)

    def _variable_index(self, variable):
        index = self._index_dict.get(self._var_key(variable))
        if index is None:
            raise KeyError(
                "The optimizer must be built with all variables that it is to "
                f"update. Received: '{variable.name}', which it was not built with."
            )
        return index

    def _is_built(self):
        return getattr(self, "_built", False)

    def build(self, var_list):
        """Makes the variables of the optimizer, where it has not been done."""
        if not self._is_built():
            self._built_with = self._no_dependency(list(var_list))
        super().build(var_list)

    def add_variable_from_reference(self, model_variable, variable_name, **kwargs):
        """Adds a slot, in float32 for a 16-bit variable."""
        dtype = getattr(model_variable, "true_dtype", model_variable.dtype)
        if fused.is_half(dtype) and variable_name != "average":
            model_variable = _Float32Reference(model_variable)
            if kwargs.get("initial_value") is not None:
                kwargs["initial_value"] = tf.cast(kwargs["initial_value"], tf.float32)
        return super().add_variable_from_reference(
            model_variable, variable_name, **kwargs
        )

    @property
    def built(self):
        """Whether the slots exist."""
        return self._is_built()

    def _mark_built(self):
        self._built = True

    def _add_row_slot(self, variable, name, value):
        """A slot of one number per row of the variable."""
        dtype = tf.float32 if fused.is_half(variable.dtype) else variable.dtype
        initial = tf.fill(variable.shape[:1], tf.cast(value, dtype))
        return self.add_variable_from_reference(variable, name, initial_value=initial)

    def aggregate_gradients(self, grads_and_vars):
        """Adds gradients up over replicas."""
        if self._distribution_strategy.num_replicas_in_sync > 1:
            # Here already, so that fewer rows are sent.
            grads_and_vars = [
                (clipping.sum_duplicates(g), v) for g, v in grads_and_vars
            ]
        return super().aggregate_gradients(grads_and_vars)

    def _clip_gradients(self, grads):
        """The fused step clips, after the duplicates are summed."""
        return grads

    def _deduplicate_sparse_grad(self, grads):
        """The kernel sums duplicates."""
        return grads

    def _apply_weight_decay(self, variables):
        """The fused step decays the variables."""

    def _update_step(self, gradient, variable):
        """The fused step has updated the variable."""

    def _distributed_apply_gradients_fn(self, distribution, grads_and_vars, **kwargs):
        ops = self._fused_step(distribution, grads_and_vars, self.learning_rate)
        with tf.control_dependencies(ops):  # a failed step is not counted
            return super()._distributed_apply_gradients_fn(
                distribution, grads_and_vars, **kwargs
            )
