"""The mutants of the kernels' own code: rules, drivers, the ops' checks, storage."""

from tests.mutant import of_cpp

_NATIVE = "native native_sparse"

MUTANTS_OF_CPP = (
    # --- rules
    *of_cpp(
        "rules/moments.h",
        _NATIVE,
        adam_no_bias=(
            "step.learning_rate * root / WholeOf(h.beta_1, step)",
            "step.learning_rate",
        ),
    ),
    *of_cpp(
        "rules/adam.h",
        _NATIVE,
        adam_sign=("return p - c.alpha", "return p + c.alpha"),
        adam_amsgrad=("s.velocity_hat = Max(s.velocity_hat, v)", "s.velocity_hat = v"),
    ),
    *of_cpp(
        "rules/rmsprop.h",
        _NATIVE,
        rmsprop_no_clamp=("Max(V(0), s.velocity - a * a)", "s.velocity - a * a"),
    ),
    *of_cpp(
        "rules/sgd.h",
        _NATIVE,
        sgd_nesterov=("(c.momentum_rate * s.momentum - step)", "s.momentum"),
    ),
    *of_cpp(
        "rules/ftrl.h",
        _NATIVE,
        ftrl_shrinkage=("V(2) * h.l2_shrinkage", "h.l2_shrinkage"),
        ftrl_l1=("Clipped(s.linear, c.l1)", "Min(c.l1, s.linear)"),
    ),
    *of_cpp(
        "rules/lion.h",
        _NATIVE,
        lion_rates=("V(1) - h.beta_2}", "V(1) - h.beta_1}"),
    ),
    *of_cpp(
        "rules/lamb.h",
        _NATIVE,
        lamb_ratio=(
            "Sqrt(means.var_squared) / Sqrt(",
            "Sqrt(means.var_squared) * Sqrt(",
        ),
    ),
    # --- drivers
    *of_cpp(
        "drivers/average.h",
        "averages_rows averaging",
        average_mean_forgets=(
            "static_cast<double>(seen) / static_cast<double>(last)",
            "0",
        ),
    ),
    *of_cpp(
        "drivers/average_cpu.h",
        "averages_rows averaging",
        average_gives_nothing=("if (averaging.Gives()) {", "if (false) {"),
    ),
    *of_cpp(
        "drivers/spans_cpu.h",
        _NATIVE,
        driver_tail=(
            "for (; i < length; i += kLanes) run(i,",
            "for (; i + 1 < length; i += kLanes) run(i,",
        ),
        driver_block_behind=(
            "if (!is_open || !slots.FitsBehind(part)) slots.Finish();",
            "if (!is_open) slots.Finish();",
        ),
    ),
    *of_cpp(
        "drivers/rows_cpu.h",
        _NATIVE,
        driver_first_of_a_run=(
            "for (int64_t i = begin + 1; i < end; ++i) {\n    const T* first",
            "for (int64_t i = begin + 1; i + 1 < end; ++i) {\n    const T* first",
        ),
        driver_run_in_two_ranges=(
            "while (begin < end && !ids.begins_run(begin)) ++begin;",
            "",
        ),
        driver_idle_rows_at_the_end=("  run_idle_rows(end);\n", ""),
    ),
    *of_cpp(
        "drivers/sort_ids.h",
        "native_sparse",
        driver_first_bad_id=("return id < 0 || id >= rows;", "return id < 0;"),
    ),
    *of_cpp(
        "drivers/sort_ids.h",
        "sorted_ids",
        driver_takes_any_order=("key < next || position", "position"),
        driver_takes_any_rows=("key >> position_bits_ != id", "false"),
    ),
    # --- the ops' checks
    *of_cpp(
        "kernels/found_variables.cc",
        "op_errors dense distribute_locking",
        check_same_variable=(
            "if (vars[order[i]] != vars[order[i - 1]]) continue;",
            "continue;",
        ),
    ),
    *of_cpp(
        "kernels/variables.cc",
        "op_errors dense distribute_locking",
        check_slot_shape=("if (tensor.shape() != var.shape()) {", "if (false) {"),
        check_gradient_shape=(
            "if (grad.shape() == var.shape()) return OkStatus();",
            "if (grad.dims() == var.dims()) return OkStatus();",
        ),
        readers_see_the_step=(
            "if (!tensor->IsInitialized() || tensor->RefCountIsOne())",
            "if (true)",
        ),
    ),
    *of_cpp(
        "kernels/step_numbers.cc",
        "op_errors",
        check_iterations=("if (numbers->iterations < 0) {", "if (false) {"),
    ),
    # --- storage
    *of_cpp(
        "values/storage.h",
        _NATIVE,
        storage_bfloat16_rounding=(
            "(bits + 0x7fff + ((bits >> 16) & 1)) >> 16",
            "(bits + 0x8000) >> 16",
        ),
        storage_float16_subnormal=(
            "rest > tie || (rest == tie && (half & 1))",
            "rest > tie",
        ),
        storage_float16_infinity=("magnitude >= 0x477ff000", "magnitude > 0x477ff000"),
    ),
)
