"""The optimizers, one file each. Made by `python -m tests.names`."""

from tf_optim.optimizers.adadelta import Adadelta
from tf_optim.optimizers.adagrad import Adagrad
from tf_optim.optimizers.adam import Adam
from tf_optim.optimizers.adamax import Adamax
from tf_optim.optimizers.adamw import AdamW
from tf_optim.optimizers.ftrl import Ftrl
from tf_optim.optimizers.lamb import Lamb
from tf_optim.optimizers.lion import Lion
from tf_optim.optimizers.nadam import Nadam
from tf_optim.optimizers.rmsprop import RMSprop
from tf_optim.optimizers.row_wise_adagrad import RowWiseAdagrad
from tf_optim.optimizers.sgd import SGD

__all__ = [
    "Adadelta",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "Ftrl",
    "Lamb",
    "Lion",
    "Nadam",
    "RMSprop",
    "RowWiseAdagrad",
    "SGD",
]
