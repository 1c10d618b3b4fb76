"""What a step of a random program must do to each thing that it may change."""

import numpy as np
import tensorflow as tf

import tf_optim
from tests import flavours, numerics
from tf_optim import exact as exact_mode
from tf_optim import reference, specs


class Failure(AssertionError):
    """A step that is not what it should be."""

    def __init__(self, kind, step, text):
        super().__init__(f"step {step}: {kind}: {text}")
        self.kind = kind


class Snapshot:
    """All state of a program between two steps."""

    def __init__(self, case, var_list, optimizer):
        names = {slot.name for slot in case.slots}
        used = [s for s in specs.SPECS[case.name].slots if s.name in names]
        self.variables = [v.numpy() for v in var_list]
        self.slots = [
            {slot.name: getattr(optimizer, slot.attribute)[j].numpy() for slot in used}
            for j in range(len(var_list))
        ]
        self.averages = self._list(optimizer, "_model_variables_moving_average")
        self.accumulators = self._list(optimizer, "_accumulated_gradients")
        everything = [*var_list, *optimizer.variables]
        self.bytes = [np.asarray(v.numpy()).tobytes() for v in everything]
        self.names = [v.name for v in everything]
        self.count = int(optimizer._iterations.numpy())

    @staticmethod
    def _list(optimizer, name):
        return [v.numpy() for v in getattr(optimizer, name, None) or []]

    def changed_since(self, before):
        """The names of what differs."""
        pairs = zip(self.names, self.bytes, before.bytes, strict=True)
        return ", ".join(name for name, left, right in pairs if left != right)


class Oracle:
    """Knows which rows a window of accumulated gradients has touched."""

    def __init__(self, program, schedule):
        self.program = program
        self.schedule = schedule
        self.window = program.options.get("gradient_accumulation_steps") or 1
        self.touched = [set() for _ in program.shapes]

    def check(self, i, before, after):
        """Raises Failure unless step `i` leads from `before` to `after`."""
        self.i, self.before, self.after = i, before, after
        if after.count != before.count + 1:
            self._fail("the count of steps", before.count + 1, after.count)
        gradients = [self._gradient(j) for j in range(len(self.program.shapes))]
        if (before.count + 1) % self.window:
            results = self._accumulated(gradients)
        else:
            results = self._stepped(gradients)
        for j, (exact, bound, rows) in enumerate(results):
            exact, bound = self._averaged(j, exact, bound, gradients[j] is not None)
            self._constrain(exact, bound, gradients[j] is not None)
            self._compare(j, "variable", after.variables[j], exact["var"], bound["var"])
            for name, value in after.slots[j].items():
                name = f"slot {name}"
                self._compare(j, name, value, exact[name], bound[name])
            if rows is not None and not self._averages_overwrite():
                self._untouched(j, rows)

    def _fail(self, what, expected, received):
        text = f"{what}: expected {expected}, received {received}"
        raise Failure("a wrong result", self.i, text)

    def _gradient(self, j):
        """`(whole gradient in float64, rows)`; rows None: all."""
        values, ids = self.program.spoiled(self.i, j)
        if values is None:
            return None
        with np.errstate(all="ignore"):
            values = np.asarray(values, np.float64)
            values = values / (self.program.options.get("loss_scale_factor") or 1.0)
        if ids is None:
            return values, None
        inside = (ids >= 0) & (ids < self.program.shapes[j][0])
        rows, summed = reference.sum_duplicates(values[inside], ids[inside])
        whole = np.zeros(self.program.shapes[j])
        whole[rows] = summed
        return whole, set(rows.tolist())

    def _same(self, j):
        """A variable and slots that stay as they are."""
        exact = {"var": np.asarray(self.before.variables[j], np.float64)}
        for name, value in self.before.slots[j].items():
            exact[f"slot {name}"] = np.asarray(value, np.float64)
        return exact, {key: np.zeros(v.shape) for key, v in exact.items()}

    def _accumulated(self, gradients):
        for j, gradient in enumerate(gradients):
            expected = np.asarray(self.before.accumulators[j], np.float64)
            if gradient is not None:
                whole, rows = gradient
                expected = expected + whole
                everything = set(range(len(whole))) if whole.ndim else set()
                self.touched[j] |= everything if rows is None else rows
            received = self.after.accumulators[j]
            self._compare(j, "accumulator", received, expected, 1e-5 * abs(expected))
            yield *self._same(j), None

    def _stepped(self, gradients):
        if self.window > 1:
            for j, gradient in enumerate(gradients):
                zero = np.zeros(self.program.shapes[j])
                self._compare(j, "accumulator", self.after.accumulators[j], zero, zero)
                if gradient is None:
                    continue
                whole, rows = gradient
                whole = (whole + self.before.accumulators[j]) / self.window
                gradients[j] = whole, None if rows is None else rows | self.touched[j]
            self.touched = [set() for _ in gradients]
        scales = self._scales(gradients)
        for j, (gradient, scale) in enumerate(zip(gradients, scales, strict=True)):
            if gradient is None:
                yield *self._same(j), None
                continue
            yield self._step_of(j, *gradient, scale)

    def _scales(self, gradients):
        options, ones = self.program.options, [1.0] * len(gradients)
        with np.errstate(all="ignore"):
            norms = [
                None if g is None else np.sqrt(np.sum(np.square(g[0])))
                for g in gradients
            ]
            if clip := options.get("clipnorm"):
                return [1.0 if n is None else clip / np.maximum(n, clip) for n in norms]
            if clip := options.get("global_clipnorm"):
                norm = np.sqrt(sum(n**2 for n in norms if n is not None))
                scale = clip / np.maximum(norm, clip) if np.isfinite(norm) else np.nan
                return [scale] * len(gradients)
        return ones

    def rate(self):
        """The learning rate of the step, as Keras has it: a float32."""
        if self.program.rates:
            return float(np.float32(self.program.rates[self.i]))
        return float(self.schedule(tf.constant(self.before.count)))

    def _step_of(self, j, whole, rows, scale):
        """`(exact, bound, rows)`, of all rows if rows is None."""
        by_row = rows is not None and self.program.mode in exact_mode.MODES
        if by_row and not np.isfinite(scale):
            # A factor that is NaN is for the rows named: docs/exact.md.
            whole, named = whole.copy(), sorted(rows)
            whole[named] *= scale
            scale = 1.0
        if self.program.mode != "lazy" or not whole.ndim:
            rows = None
        options = self.program.options
        chosen = slice(None) if rows is None else np.array(sorted(rows), int)
        var, slots = self.before.variables[j], self.before.slots[j]
        if whole.ndim:
            var, slots = var[chosen], {k: v[chosen] for k, v in slots.items()}
            grad = whole[chosen]
        else:
            grad = whole
        rounding = numerics.unit(var.dtype) if self.window == 3 else 0.0
        result, bound = numerics.allowed_error(
            self.program.case,
            var,
            slots,
            grad,
            self.rate(),
            self.before.count // self.window,
            grad_error=rounding * np.abs(grad) if rounding else 0.0,
            gradient_scale=scale,
            clip_value=options.get("clipvalue") or np.inf,
            weight_decay=options.get("weight_decay") or 0.0,
        )
        if rows is None:
            return result, bound, None
        full, full_bound = self._same(j)
        for key in full:
            full[key][chosen], full_bound[key][chosen] = result[key], bound[key]
        return full, full_bound, rows

    def _averages_overwrite(self):
        averaging = self.program.options.get("averaging")
        if isinstance(averaging, tf_optim.Lookahead):
            return (self.before.count + 1) % averaging.sync_period == 0
        every = self.program.options.get("ema_overwrite_frequency")
        return bool(every) and (self.before.count // self.window + 1) % every == 0

    def _averaged(self, j, exact, bound, has_gradient):
        """The average, and what it makes of the variable."""
        options = self.program.options
        averaging = options.get("averaging")
        if not (options.get("use_ema") or averaging):
            return exact, bound
        old = np.asarray(self.before.averages[j], np.float64)
        received = self.after.averages[j]
        if averaging:
            momentum = self._kept_by_other(averaging)
            if momentum is None:  # none yet: it is read as the variable
                var = {**exact}
                self._constrain(var, bound, has_gradient)
                self._compare(j, "average", received, var["var"], bound["var"])
                return exact, bound
        else:
            momentum = options["ema_momentum"]
            if flavours.LEGACY and not has_gradient:
                self._compare(j, "average", received, old, np.zeros(old.shape))
                return exact, bound
            if not flavours.LEGACY and self.before.count // self.window == 0:
                momentum = 0.0
        with np.errstate(all="ignore"):
            average = momentum * old + (1 - momentum) * exact["var"]
            allowed = 4 * numerics.unit(received.dtype) * (abs(old) + abs(exact["var"]))
            allowed = allowed + bound["var"]
        if momentum == 1:
            # 0 * inf: NaN as in stock, or what was there.
            kept = ~np.isfinite(exact["var"]) & (received == self.before.averages[j])
            average = np.where(kept, old, average)
            allowed = np.where(kept, 0.0, allowed)
        self._compare(j, "average", received, average, allowed)
        if not self._averages_overwrite():
            return exact, bound
        return {**exact, "var": average}, {**bound, "var": allowed}

    def _kept_by_other(self, averaging):
        """What the step keeps of the average that `averaging` makes."""
        count = self.before.count
        if isinstance(averaging, tf_optim.Lookahead):
            return 1 - averaging.slow_step_size if self._averages_overwrite() else 1.0
        since = count - averaging.start_averaging
        if since < 0:
            return None
        period = averaging.average_period
        means = since // period
        return means / (means + 1) if since % period == 0 else 1.0

    def _constrain(self, exact, bound, has_gradient):
        if self.program.bound and has_gradient:
            limit = self.program.bound
            exact["var"] = np.clip(exact["var"], -limit, limit)

    def _compare(self, j, what, received, exact, bound):
        storage = numerics.slot_dtype(received.dtype.name)
        limit = float(np.finfo(storage).max)
        if received.dtype != storage:
            limit = {"float16": 65504.0}.get(received.dtype.name, limit)
        value = np.asarray(received, np.float64)
        with np.errstate(all="ignore"):
            # Results below the normal numbers may be flushed to zero.
            allowed = bound + float(np.finfo(storage).tiny)
            # A bound is found by moving inputs, which an infinite one does not stand.
            rough = 32 * float(np.finfo(storage).eps) * (1 + np.abs(exact))
            rough = rough + numerics.unit(received.dtype) * np.abs(exact)
            allowed = np.where(np.isnan(allowed), rough, allowed)
            good = np.abs(value - exact) <= allowed
            # Which of them it is depends on how a formula is written.
            good |= ~np.isfinite(exact) & ~np.isfinite(value)
            near_overflow = np.abs(exact) + allowed > limit
            good |= near_overflow & np.isinf(value) & (np.sign(value) == np.sign(exact))
        if not np.all(good):
            at = tuple(int(k) for k in np.argwhere(~good)[0])
            exact, allowed = (
                np.broadcast_to(exact, value.shape),
                np.broadcast_to(allowed, value.shape),
            )
            self._fail(
                f"{what} of variable {j}, {received.dtype}, at {list(at)}",
                f"{exact[at]!r} within {allowed[at]:.3g}",
                f"{received[at]!r}",
            )

    def _untouched(self, j, rows):
        """Rows that a lazy step does not cover keep their bytes."""
        others = np.setdiff1d(np.arange(self.program.shapes[j][0]), sorted(rows))
        pairs = {"variable": (self.before.variables[j], self.after.variables[j])}
        if self.program.bound:  # a constraint is applied to all rows
            pairs = {}
        for name, value in self.before.slots[j].items():
            pairs[name] = value, self.after.slots[j][name]
        for name, (old, new) in pairs.items():
            if old[others].tobytes() != new[others].tobytes():
                self._fail(f"{name} of variable {j}", "rows as before", "other rows")
