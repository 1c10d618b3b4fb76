"""LazyAdam."""

from __future__ import annotations

import warnings

from typing_extensions import Unpack

from tf_optim import flavour
from tf_optim.annotations import LearningRate, Number, SharedArguments
from tf_optim.optimizers import adam


@flavour.register
class LazyAdam(adam.Adam):
    r"""LazyAdam of TensorFlow Addons, which is `Adam` as it is here.

    A sparse gradient changes the rows that it names and no other: `Adam` with
    `sparse_update="lazy"`, its default. Write that; this name warns.

    Args:
        beta_1: as in `Adam`. Default: 0.9.
        beta_2: as in `Adam`. Default: 0.999.
        epsilon: as in `Adam`. Default: 1e-7.
        amsgrad: as in `Adam`; there it raises an error. Default: False.

    Example:

    >>> opt = LazyAdam(learning_rate=0.1)
    >>> opt.sparse_update
    'lazy'
    """

    def __init__(
        self,
        learning_rate: LearningRate = 0.001,
        beta_1: Number = 0.9,
        beta_2: Number = 0.999,
        epsilon: Number | None = 1e-7,
        amsgrad: bool = False,
        **kwargs: Unpack[SharedArguments],
    ) -> None:
        warnings.warn(
            "`LazyAdam` is an old name: use `tf_optim.Adam`, which is lazy.",
            DeprecationWarning,
            stacklevel=3,
        )
        super().__init__(
            learning_rate=learning_rate,
            beta_1=beta_1,
            beta_2=beta_2,
            epsilon=epsilon,
            amsgrad=amsgrad,
            **kwargs,
        )
