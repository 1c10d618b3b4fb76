"""How people use the package, for a type checker: `types_test.py` runs it.

A line that ends with `# wrong` must be an error, and no other line.
"""

import numpy as np
import tensorflow as tf

import tf_optim
from tf_optim import Adam, Nadam, explain, fuse, patch_keras, unfuse, unpatch_keras

model = tf.keras.Sequential()
schedule = tf.keras.optimizers.schedules.CosineDecay(0.1, 10)
variables = [tf.Variable([1.0])]

Adam()
Adam(0.1, 0.9, 0.999, 1e-8, True, sparse_update="dense", name="mine")
Adam(schedule, weight_decay=tf.Variable(0.1), clipnorm=np.float32(1.0))
Adam(lambda: 0.1, use_ema=True, ema_momentum=0.9, ema_overwrite_frequency=None)
Adam(np.float64(0.1), use_locking=False, gradient_accumulation_steps=4)
Adam("fast")  # wrong
Adam(0.1, beta_1="large")  # wrong
Adam(0.1, amsgrad=1.5)  # wrong
Adam(sparse_update="lax")  # wrong
Adam(use_locking="yes")  # wrong
Adam(speed=3)  # wrong
tf_optim.MultiOptimizer([(Adam(), "embedding"), (Adam(), None)]).optimizers[0]
tf_optim.MultiOptimizer(3)  # wrong
Nadam(schedule_decay=0.1)
Nadam(schedule_decay=[])  # wrong
tf_optim.Adadelta(rho=0.9)
tf_optim.Adagrad(initial_accumulator_value=0.0, epsilon=None)
tf_optim.AdamW(weight_decay=0.1)
tf_optim.Adamax(beta_2=0.9)
tf_optim.Ftrl(l1_regularization_strength="no")  # wrong
tf_optim.Lamb(clipvalue=1)
tf_optim.Lion(name=3)  # wrong
tf_optim.RMSprop(centered=True, momentum=0.9)
tf_optim.RowWiseAdagrad(loss_scale_factor=8.0)
tf_optim.RowWiseAdam(slot_dtype="int8", stochastic_rounding=False)
tf_optim.Adam(slot_dtype={"table": "int8"})
tf_optim.Adam(slot_dtype=lambda variable: "float32")
tf_optim.memory_report(tf_optim.Adam()).bytes_of_slots + 1
moved: int = tf_optim.use_huge_pages(model, min_bytes=1)
tf_optim.SGD(nesterov="yes")  # wrong
tf_optim.Shampoo()  # wrong

fuse(model.optimizer, sparse_update="lazy")
fuse(model.optimizer, "lax")  # wrong
stock = unfuse(model.optimizer)
unfuse()  # wrong

names: list[str] = patch_keras(["Adam"], sparse_update="lazy", verbose=True)
patch_keras(names=3)  # wrong
unpatch_keras()
unpatch_keras("Adam")  # wrong

said = explain(model, sparse=variables)
total: int = said.slot_bytes + said.bytes_per_step + said.rows[0].slot_bytes
text: str = said.rows[0].kernel + said.rows[0].reasons[0].remedy
number: str = said.slot_bytes  # wrong
lines = said.lines  # wrong
explain(model, 3)  # wrong

version: str = tf_optim.__version__
isa: str = tf_optim.build_info()["isa"]
tf_optim.build_info(1)  # wrong
