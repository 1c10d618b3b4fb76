"""The optimizers, one file each."""

from tf_optim.optimizers.adam import Adam
from tf_optim.optimizers.rmsprop import RMSprop

__all__ = ["Adam", "RMSprop"]
