"""How often the path of one step goes back to a file that it has left."""

import pathlib
import sys

import tensorflow as tf

import tf_optim
from tests.marks import both_flavours

PACKAGE = str(pathlib.Path(tf_optim.__file__).parent)


def walk(function):
    """The files of the package in which a call of `function` calls functions."""
    files = []

    def note(frame, event, argument):
        del argument
        name = frame.f_code.co_filename
        if event == "call" and name.startswith(PACKAGE):
            files.append(pathlib.Path(name).name)

    sys.setprofile(note)
    try:
        function()
    finally:
        sys.setprofile(None)
    return files


@both_flavours
def test_a_step_goes_back_seldom():
    """A dense and a sparse variable, when all that is found out once is known."""
    dense, table = tf.Variable(tf.ones([4, 4])), tf.Variable(tf.ones([10, 4]))
    rows = tf.IndexedSlices(tf.ones([2, 4]), tf.constant([1, 2]), tf.constant([10, 4]))
    pairs = [(tf.ones([4, 4]), dense), (rows, table)]
    optimizer = tf_optim.Adam()
    for _ in range(2):
        optimizer.apply_gradients(pairs)
    files = walk(lambda: optimizer.apply_gradients(pairs))
    assert files.count("pipeline.py") > 1
    left = [name for i, name in enumerate(files) if i and files[i - 1] != name]
    returns = len(left) + 1 - len(set(files))
    assert len(files) < 200
    assert returns < 28  # nine of them to the pipeline itself
