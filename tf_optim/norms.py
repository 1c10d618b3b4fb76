"""What a step has to know of its gradients before it begins, in one pass over them.

An op of ours measures all gradients of a device and dtype at once: the square of each
one's norm, how many elements are not finite, how many rows it names. Rows of repeated
ids are summed first: an id that occurs twice counts with the sum of its two gradients,
where stock takes them apart. On a GPU TensorFlow's own operations do it.
"""

import collections
import copy
import functools

import tensorflow as tf

from tf_optim import checks, library


def sum_duplicates(gradient, pads=False):
    """IndexedSlices in which no index occurs twice; a dense gradient as it is.

    Sums of 16-bit gradients are rounded once, at the end. Repeated rows are added in
    the order in which they stand.

    Args:
        gradient: a tensor or `tf.IndexedSlices`.
        pads: whether rows of zeros of the first index make it as long as it was.
    """
    if not isinstance(gradient, tf.IndexedSlices):
        return gradient
    values, indices, dtype = gradient.values, gradient.indices, gradient.values.dtype
    if dtype.size < 4:
        values = tf.cast(values, tf.float32)
    if checks.is_compiled_by_xla() or tf.config.list_logical_devices("GPU"):
        indices, position = tf.unique(indices)
        values = tf.math.unsorted_segment_sum(values, position, tf.shape(indices)[0])
    else:
        values, indices = library.ops().tf_optim_sum_repeated_rows(
            grad=values, indices=indices
        )
    if pads:
        more = tf.size(gradient.indices) - tf.size(indices)
        zeros = tf.zeros(tf.concat([[more], tf.shape(values)[1:]], 0), values.dtype)
        values = tf.concat([values, zeros], 0)
        indices = tf.concat([indices, tf.repeat(indices[:1], more)], 0)
    return tf.IndexedSlices(tf.cast(values, dtype), indices, gradient.dense_shape)


class Norms:
    """What is known of a step's gradients.

    Attributes:
        squares: float64, for each gradient the sum of its squares.
        non_finite: int64, for each gradient how many elements are infinite or NaN.
        rows_touched: int64, for each sparse gradient how many different ids it has.
        sorted_ids: for each gradient, its ids as the op has sorted them, for an op that
            updates; None for a dense one, and where TensorFlow's operations measure.
    """

    def __init__(self, gradients, variables):
        groups = collections.defaultdict(list)
        for i, (gradient, variable) in enumerate(
            zip(gradients, variables, strict=True)
        ):
            groups[_group(gradient, variable)].append(i)
        order, parts = [], []
        self.sorted_ids = [None] * len(gradients)
        for (on_gpu, _, _), members in groups.items():
            # The op's outputs begin with the dense ones.
            members.sort(key=lambda i: isinstance(gradients[i], tf.IndexedSlices))
            order += members
            measure = _by_tensorflow if on_gpu else _by_our_op
            *part, sorted_ids = measure(
                [gradients[i] for i in members], [variables[i] for i in members]
            )
            parts.append(part)
            last = members[len(members) - len(sorted_ids) :]
            for i, ids in zip(last, sorted_ids, strict=True):
                self.sorted_ids[i] = ids
        squares, non_finite, self.rows_touched = [
            part[0] if len(part) == 1 else tf.concat(part, 0)
            for part in zip(*parts, strict=True)
        ]
        self.squares, self.non_finite = squares, non_finite
        if order != sorted(order):
            places = [order.index(i) for i in range(len(order))]
            self.squares = tf.gather(squares, places)
            self.non_finite = tf.gather(non_finite, places)

    def divided_by(self, scale):
        """What is known of the gradients divided by a float64 scalar; None for 1."""
        if scale is None:
            return self
        divided = copy.copy(self)
        divided.squares = self.squares / (scale * scale)
        return divided

    @functools.cached_property
    def are_finite(self):
        """Whether all elements of all gradients are; a scalar bool."""
        return tf.equal(tf.reduce_sum(self.non_finite), 0)


def _group(gradient, variable):
    sparse = isinstance(gradient, tf.IndexedSlices)
    dtype = gradient.values.dtype if sparse else gradient.dtype
    if variable is None:
        gpus = tf.config.list_logical_devices("GPU")
        device = gpus[0].name if gpus else ""
    else:
        device = variable.handle.device
    return "GPU" in device and not checks.is_compiled_by_xla(), dtype, device


def _by_our_op(gradients, variables):
    """The op's outputs for gradients of one dtype, dense ones first."""
    dense = [g for g in gradients if not isinstance(g, tf.IndexedSlices)]
    sparse = gradients[len(dense) :]
    indices = [g.indices for g in sparse]
    if len({i.dtype for i in indices}) > 1:
        indices = [tf.cast(i, tf.int64) for i in indices]
    rows = [_rows(variable) for variable in variables[len(dense) :]]
    *found, sorted_ids = library.ops().tf_optim_gradient_norms(
        grad=dense + [g.values for g in sparse], indices=indices, rows=rows
    )
    return *found, [] if checks.is_compiled_by_xla() else sorted_ids


def _rows(variable):
    """As many as it has; as an index may name where that is not known."""
    rows = None if variable is None else variable.shape[0]
    return 2**31 if rows is None else rows


def _by_tensorflow(gradients, variables):
    del variables
    values = [
        sum_duplicates(_in_computed_type(g)).values
        if isinstance(g, tf.IndexedSlices)
        else _in_computed_type(g)
        for g in gradients
    ]
    squares = [tf.cast(tf.reduce_sum(tf.square(v)), tf.float64) for v in values]
    finite = [tf.cast(tf.math.is_finite(v), tf.int64) for v in values]
    missing = [tf.size(f, tf.int64) - tf.reduce_sum(f) for f in finite]
    rows = [
        tf.shape(v, tf.int64)[0]
        for v, g in zip(values, gradients, strict=True)
        if isinstance(g, tf.IndexedSlices)
    ]
    return (
        tf.stack(squares),
        tf.stack(missing),
        tf.stack(rows or tf.zeros([0], tf.int64)),
        [],
    )


def _in_computed_type(gradient):
    """In float32 for 16 bits, which a sum of squares soon overflows."""
    if not isinstance(gradient, tf.IndexedSlices):
        dtype = tf.float64 if gradient.dtype == tf.float64 else tf.float32
        return tf.cast(gradient, dtype)
    values = _in_computed_type(gradient.values)
    return tf.IndexedSlices(values, gradient.indices)
