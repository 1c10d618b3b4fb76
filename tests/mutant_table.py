"""The mutants of tests/mutants.py: what is broken where, and who is to see it.

Small, of one place, and such that the package still imports or compiles: a rule's sign,
a driver's tail, a check, a slot's order, a mode, one flavour.
"""

from tests.mutant import of_cpp, of_python
from tests.mutant_table_cpp import MUTANTS_OF_CPP

MUTANTS = (
    # --- what optimizers are made of
    *of_python(
        "specs.py",
        "dense",
        specs_hyper_by_another_order=(
            'tuple(self._said["hyper"])',
            'tuple(self._said["hyper"][::-1])',
        ),
    ),
    *of_python(
        "optimizers/adamax.py",
        "dense",
        specs_slot_of_adamax=('"norm": "_u"', '"norm": "_m"'),
    ),
    *of_python(
        "optimizers/ftrl.py",
        "dense",
        specs_l1_of_l2=(
            '"l1": "l1_regularization_strength"',
            '"l1": "l2_regularization_strength"',
        ),
    ),
    *of_python(
        "specs.py",
        "errors distribute_locking",
        specs_low_is_open=(
            "self.low <= number < self.high",
            "self.low < number < self.high",
        ),
        specs_closed_is_open=("(self.closed and number == self.high)", "False"),
    ),
    *of_python(
        "optimizers/row_wise_adagrad.py",
        "errors",
        specs_initial_unchecked=("checked=(specs.INITIAL,),", ""),
    ),
    # --- the step, and the one caller of the ops
    *of_python(
        "pipeline.py",
        "features",
        pipeline_always_lazy=(
            "                    *ways[i],\n",
            '                    "lazy",\n                    ways[i][1],\n',
        ),
    ),
    *of_python(
        "op_calls.py",
        "features",
        ops_no_decay=(
            "np.array(rates, np.float64) if any(rates) else _NO_DECAY",
            "_NO_DECAY",
        ),
    ),
    *of_python(
        "op_calls.py",
        "distribute_locking",
        ops_always_lock=('"use_locking": numbers.use_locking', '"use_locking": True'),
    ),
    *of_python(
        "op_calls.py",
        "keras_parity",
        ops_scales_reversed=(
            "return scale if whole else tf.gather(scale, places)",
            "return scale if whole else tf.gather(scale, places[::-1])",
        ),
    ),
    *of_python(
        "op_calls.py",
        "dense",
        ops_rate_in_16_bits=(
            "else tf.cast(value, tf.float32)",
            "else tf.cast(tf.cast(value, tf.bfloat16), tf.float32)",
        ),
    ),
    *of_python(
        "op_calls.py",
        "errors",
        ops_no_check_across=(
            "    if not sparse:\n        return []\n    check =",
            "    if sparse:\n        return []\n    check =",
        ),
    ),
    *of_python(
        "op_calls.py",
        "sparse",
        ops_no_cast_of_rows=(
            "tf.IndexedSlices(tf.cast(gradient.values, dtype), gradient.indices)",
            "tf.IndexedSlices(gradient.values, gradient.indices)",
        ),
    ),
    *of_python(
        "late_starts.py",
        "field",
        late_starts_overwrite_checkpoints=(" and not np.any(slot.numpy())", ""),
    ),
    *of_python(
        "pipeline.py",
        "strategies",
        replicas_send_different_rows=("(g, pads=True)", "(g)"),
    ),
    *of_python(
        "bundles.py",
        "bundles graph_order",
        bundles_in_no_order=(
            "auto_control_deps.register_acd_resource_resolver(_touched_by)\n",
            "",
        ),
        bundles_of_arguments=("if _are_arguments(handles):", "if False:"),
        bundles_count_captures=("found.ends != ends", "found.ends[:1] != ends[:1]"),
        bundles_lose_owners=("owners.get(id(v), v)", "v"),
        bundles_are_not_filled=(
            "and not save_context.in_save_context()\n            and",
            "and False\n            and",
        ),
        bundles_are_loaded_once=("(_Bundle, _Loaded)", "_Bundle"),
    ),
    *of_python(
        "bundles.py",
        "xla_calls",
        bundles_not_traced_anew=(
            "lambda context: bool(_known)",
            "lambda context: False",
        ),
    ),
    # --- idle rows
    *of_python(
        "exact.py",
        "distribute_replicas",
        exact_machines_do_not_agree=("condition=count > 0", "condition=count < 0"),
    ),
    *of_python(
        "prepared.py",
        "distribute_replicas",
        prepared_lookups_on_replicas_write=(
            "            self._tf_optim_copies\n",
            "            not self._tf_optim_copies\n",
        ),
    ),
    *of_cpp(
        "kernels/step_op.cc",
        "exact distribute_servers",
        steps_leave_rows_behind=(
            "if (catches_up[i]) TF",
            "if (false) TF",
        ),
    ),
    *of_cpp(
        "kernels/row_history.cc",
        "exact_ops",
        lookups_without_slots=(
            "some.Load(ids[i + j], j, is_behind);",
            "some.Load(ids[i + j], j, false);",
        ),
    ),
    # --- norms, and clipping by them
    *of_python(
        "norms.py",
        "distribute_replicas",
        norms_rows_apart=(
            "tf.math.unsorted_segment_sum(values,",
            "tf.math.unsorted_segment_max(values,",
        ),
    ),
    *of_python(
        "norms.py",
        "sorted_ids",
        norms_sorted_ids_of_others=(
            "members[len(members) - len(sorted_ids) :]",
            "members[: len(sorted_ids)]",
        ),
    ),
    *of_python(
        "pipeline.py",
        "sorted_ids",
        pipeline_sorts_again=(
            "if known or measured.cache_info().currsize:",
            "if False:",
        ),
    ),
    *of_python(
        "clipping.py",
        "keras_parity clipping",
        clipping_from_the_other_side=(
            "clipnorm / tf.maximum(norm, clipnorm)",
            "clipnorm / tf.minimum(norm, clipnorm)",
        ),
        clipping_infinite_norm=(
            "_scale(norm, optimizer.global_clipnorm) + (norm - norm)",
            "_scale(norm, optimizer.global_clipnorm)",
        ),
    ),
    # --- checks in Python
    *of_python(
        "checks.py",
        "errors",
        checks_mode=("if value not in allowed:", "if value is None:"),
        checks_dtype=("if variable.dtype not in DTYPES:", "if False:"),
        checks_gradient=("if not received.is_compatible_with(expected):", "if False:"),
        checks_clip_may_be_0=("lambda x: x > 0)", "lambda x: x >= 0)"),
        checks_decay_may_be_infinite=(
            'lambda x: 0 <= x < float("inf")',
            'lambda x: 0 <= x <= float("inf")',
        ),
    ),
    # --- one optimizer each
    *of_python(
        "optimizers/adamw.py",
        "keras_parity",
        adamw_default_decay=("Number | None = 0.004,", "Number | None = 0.04,"),
    ),
    *of_python(
        "optimizers/rmsprop.py",
        "keras_parity",
        rmsprop_default_rho=("rho: Number = 0.9,", "rho: Number = 0.99,"),
        rmsprop_momentum_of_rho=(
            '"momentum_rate": "momentum"',
            '"momentum_rate": "rho"',
        ),
    ),
    *of_python(
        "optimizers/nadam.py",
        "nadam dense spellings conversion",
        nadam_base=("0.5 * 0.96 ** (decay * t)", "0.5 * 0.95 ** (decay * t)"),
        nadam_mu_next=("tf.gather(mu, known + 1)", "tf.gather(mu, known)"),
        nadam_product_from_0=("    mu[0] = 1.0\n", ""),
        nadam_beyond=(
            "beyond = tf.cast(t - known, tf.float64)",
            "beyond = tf.cast(known - known, tf.float64)",
        ),
        nadam_config=('config["schedule_decay"] = self.schedule_decay', "pass"),
        nadam_product_of_stock=(
            "        replicas.assign(product, tf.cast(per_step[-1], product.dtype))",
            "        pass",
        ),
    ),
    # --- between stock and ours
    # --- programs that are not changed, and `explain`
    *of_python(
        "replacement.py",
        "replacement",
        replacement_of_subclasses=(
            "if type(self) is not stock or conversion.is_making_stock():",
            "if conversion.is_making_stock():",
        ),
        replacement_saves_ours=("if k not in _NOT_IN_STOCK", "if k not in ()"),
        replacement_mode=(
            'arguments.setdefault("sparse_update", mode)',
            'arguments.setdefault("sparse_update", "lazy")',
        ),
        replacement_says_twice=("if (what, why) not in _patch.said:", "if True:"),
        replacement_stays=(
            "        cls.__init__ = constructor\n    _patch",
            "        pass\n    _patch",
        ),
        replacement_counts_traces=(
            "if not tf.executing_eagerly():",
            "if False:",
        ),
    ),
    *of_python(
        "runner.py",
        "runner",
        runner_spec_of_a_script=("__spec__=said", "__spec__=spec"),
        runner_path=("        sys.path[0] = folder\n", "        pass\n"),
        runner_leaves_the_package=(
            "            del sys.modules[name]\n",
            "            pass\n",
        ),
        runner_own_frames=("    sys.excepthook = show\n", ""),
        runner_imports_too_soon=("if self._depth or not any(", "if not any("),
    ),
    *of_python(
        "explanation.py",
        "explanation",
        explanation_groups=(
            "facts.is_sparse, facts.average_rides,",
            "facts.average_rides,",
        ),
        explanation_own_update=(
            "        call.append(len(calls))  # one for each variable\n",
            "        pass\n",
        ),
    ),
    *of_python(
        "averages.py",
        "averages_rows averaging",
        averages_unknown_is_clean=("self.means > 0, self.means + 1, 1", "False, 1, 1"),
        averages_always_due=("tf.where(self.is_due, kept, ", "tf.where(True, kept, "),
        averages_slow_in_exact=("misses = is_slow and", "misses = False and"),
        averages_slow_that_keeps_all=("is_slow and not other.slow_step_size", "False"),
    ),
    *of_python(
        "average_rows.py",
        "averages_rows averaging stability",
        averages_mean_forgets=("kept = tf.cast(seen, ", "kept = 0.0 * tf.cast(seen, "),
        averages_infinite=("tf.where(taken > 0, after, before)", "after"),
    ),
    *of_python(
        "state_bytes.py",
        "explanation",
        explanation_slots_of_16_bits=(
            "return tf.float32 if fused.is_half(variable.dtype) else variable.dtype",
            "return variable.dtype",
        ),
        explanation_average=("average = 2 * item * facts", "average = item * facts"),
    ),
    *of_python(
        "__init__.py",
        "errors",
        import_checks_late=("    library.check()  # before anything", "    # before"),
    ),
    *of_python(
        "conversion.py",
        "conversion",
        conversion_counter_of_tf_keras=(
            "int(new.iterations) + 1",
            "int(new.iterations)",
        ),
        conversion_exclusions=(
            'if name.startswith("_exclude_from_weight_decay") and "cache" not in name:',
            "if False:",
        ),
        conversion_loss_scale=(
            "        yield scale.counter, new._loss_scale.counter\n",
            "",
        ),
        conversion_drops_options=(
            "if name not in defaults or value != defaults[name]:",
            "if False:",
        ),
        conversion_mode=('{"sparse_update": mode, ', '{"sparse_update": "lazy", '),
    ),
    # --- old spellings
    *of_python(
        "spellings.py",
        "spellings",
        spellings_decay_sign=("1.0 + self.decay * steps", "1.0 - self.decay * steps"),
        spellings_decay_of_schedule=(
            "if self.decay and _schedule(value):",
            "if False:",
        ),
        spellings_warning_elsewhere=("stacklevel + 1\n    )", "stacklevel + 2\n    )"),
        spellings_decay_not_saved=(
            'decay = {"decay": self.decay} if self.decay else {}',
            "decay = {}",
        ),
        spellings_both_rates=('if "learning_rate" in given:', "if False:"),
    ),
    *MUTANTS_OF_CPP,
)
