"""The optimizers, one file each. Made by `python -m tests.names`."""

from tf_optim.optimizers.ada_belief import AdaBelief
from tf_optim.optimizers.adadelta import Adadelta
from tf_optim.optimizers.adafactor import Adafactor
from tf_optim.optimizers.adagrad import Adagrad
from tf_optim.optimizers.adam import Adam
from tf_optim.optimizers.adamax import Adamax
from tf_optim.optimizers.adamw import AdamW
from tf_optim.optimizers.adan import Adan
from tf_optim.optimizers.ademamix import AdEMAMix
from tf_optim.optimizers.adopt import Adopt
from tf_optim.optimizers.asgd import ASGD
from tf_optim.optimizers.cocob import COCOB
from tf_optim.optimizers.conditional_gradient import ConditionalGradient
from tf_optim.optimizers.ftrl import Ftrl
from tf_optim.optimizers.lamb import Lamb
from tf_optim.optimizers.lars import LARS
from tf_optim.optimizers.lazy_adam import LazyAdam
from tf_optim.optimizers.lion import Lion
from tf_optim.optimizers.muon import Muon
from tf_optim.optimizers.nadam import Nadam
from tf_optim.optimizers.novograd import NovoGrad
from tf_optim.optimizers.prodigy import Prodigy
from tf_optim.optimizers.proximal_adagrad import ProximalAdagrad
from tf_optim.optimizers.rectified_adam import RectifiedAdam
from tf_optim.optimizers.rmsprop import RMSprop
from tf_optim.optimizers.row_wise_adagrad import RowWiseAdagrad
from tf_optim.optimizers.row_wise_adam import RowWiseAdam
from tf_optim.optimizers.rprop import Rprop
from tf_optim.optimizers.schedule_free_adamw import ScheduleFreeAdamW
from tf_optim.optimizers.sgd import SGD
from tf_optim.optimizers.sm3 import SM3
from tf_optim.optimizers.yogi import Yogi

__all__ = [
    "ASGD",
    "AdEMAMix",
    "AdaBelief",
    "Adadelta",
    "Adafactor",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "Adan",
    "Adopt",
    "COCOB",
    "ConditionalGradient",
    "Ftrl",
    "LARS",
    "Lamb",
    "LazyAdam",
    "Lion",
    "Muon",
    "Nadam",
    "NovoGrad",
    "Prodigy",
    "ProximalAdagrad",
    "RMSprop",
    "RectifiedAdam",
    "RowWiseAdagrad",
    "RowWiseAdam",
    "Rprop",
    "SGD",
    "SM3",
    "ScheduleFreeAdamW",
    "Yogi",
]
