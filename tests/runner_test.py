"""`python -m tf_optim program`: the program sees what plain Python shows it."""

import os
import subprocess
import sys

import numpy as np
import pytest

from tests.style_test import ROOT

COMMAND = ["-m", "tf_optim"]


def run(arguments, folder, **variables):
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), **variables}
    environment.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )


# --- programs without TensorFlow, as Python runs them and as we do

SHOWS = """
'''The module's text.'''
import argparse, inspect, os, pickle, sys, __main__

class Thing:
    pass

parser = argparse.ArgumentParser()
parser.add_argument("--verbose", action="store_true")
parser.add_argument("--only")
parser.add_argument("rest", nargs="*")
print(parser.parse_known_args(), parser.prog, sys.argv, sys.path[0])
print(__name__, __doc__, __file__, __package__, __spec__ and __spec__.name)
print(type(__loader__), __main__.Thing is Thing, inspect.getsource(Thing))
print(type(pickle.loads(pickle.dumps(Thing()))) is Thing)
print(sorted(globals()))
print([name for name in sys.modules if name.startswith("tf_optim")])
print("tensorflow" in sys.modules, os.getcwd())
"""
PROGRAMS = {
    "shows": SHOWS,
    "raises": "def f():\n    return 1 / 0\n\nf()\n",
    "raises_from": "try:\n    1 / 0\n"
    "except Exception as e:\n    raise KeyError from e\n",
    "exits": "import sys\nprint(1)\nsys.exit(7)\n",
    "exits_saying": "raise SystemExit('what was wrong')\n",
    "ends_in_atexit": "import atexit\natexit.register(print, 'the end')\n",
    "is_interrupted": "raise KeyboardInterrupt\n",
    "is_no_python": "print('before')\nif\n",
    "imports_what_is_not_there": "import there_is_no_such_module\n",
    "has_its_own_hook": "import sys\n"
    "sys.excepthook = lambda kind, error, traceback: print(kind, error)\n"
    "raise ValueError(3)\n",
}


@pytest.mark.every
@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("way", ["script", "module", "folder"])
def test_runs_as_under_python(name, way, tmp_path):
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__init__.py").touch()
    file = {"folder": "__main__.py"}.get(way, f"{name}.py")
    (tmp_path / "package" / file).write_text(PROGRAMS[name])
    program = {
        "script": [f"package/{name}.py"],
        "module": ["-m", f"package.{name}"],
        "folder": ["package"],
    }[way]
    arguments = [*program, "a b", "--verbose", "--only", "x", "--", "-m"]
    expected = run(arguments, tmp_path)
    received = run([*COMMAND, *arguments], tmp_path)
    assert expected.stderr or expected.stdout
    assert name != "shows" or expected.returncode == 0, expected.stderr
    assert received.stdout == expected.stdout
    assert received.returncode == expected.returncode

    said = received.stderr.splitlines()
    ours = [line for line in said if line.startswith("tf_optim: ")]
    # Of a module Python shows runpy's frames, too.
    wanted = [s for s in expected.stderr.splitlines() if "<frozen runpy>" not in s]
    assert [line for line in said if line not in ours] == wanted
    if name != "is_no_python":
        assert len(ours) == 1
        assert "neither Keras nor TensorFlow was imported" in ours[0]


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        ([], 2, "expected a script, or -m and a module. Received: neither"),
        (["-m"], 2, "expected a script, or -m and a module. Received: neither"),
        (["no.py"], 2, "expected a script. Received: 'no.py', and there is no such"),
        (["-m", "no.such"], 1, "expected a module. Received: 'no.such'"),
        (["-m", "broken.such"], 1, "'broken.such' (No module named 'not_there')"),
        (["-m", "broken"], 1, "'broken.__main__' (not found)"),
        (["--sparse-update", "lax", "no.py"], 2, "invalid choice: 'lax'"),
        (["--only", "Foo", "imports.py"], 2, "--only must be of"),
        (["--fast", "no.py"], 2, "unrecognized arguments: --fast"),
    ],
)
def test_wrong_command_line(arguments, status, said, tmp_path):
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "__init__.py").write_text(
        "import sys\nif sys.argv[0].endswith('such'):\n    import not_there\n"
    )
    (tmp_path / "imports.py").write_text("import tensorflow as tf\ntf.keras.Model\n")
    ended = run([*COMMAND, *arguments], tmp_path)
    assert (ended.returncode, said in ended.stderr) == (status, True), ended.stderr
    assert "nothing was replaced" not in ended.stderr


def test_help_names_every_option(tmp_path):
    said = run([*COMMAND, "--help"], tmp_path)
    assert said.returncode == 0
    for part in ("script.py", "-m module", "--sparse-update", "--only", "--verbose"):
        assert part in said.stdout


# --- programs with Keras

TRAINS = """
import os, sys
path, argv = [*sys.path], [*sys.argv]
{choice}
import numpy as np
{imports}
assert (sys.path, sys.argv) == (path, argv)

keras.utils.set_random_seed(1)
model = keras.Sequential([
    keras.layers.Input((3,)),
    keras.layers.Embedding(30, 4),
    keras.layers.Flatten(),
    keras.layers.Dense(1),
])
ids = np.random.default_rng(2).permutation(30)[:24].reshape(8, 3)
model.compile(optimizer="adam", loss="mse")
model.fit(ids, np.ones([8, 1]), batch_size=4, epochs=3, verbose=0)
assert isinstance(model.optimizer, keras.optimizers.Adam)
other = RMSprop(0.1)
variable = tf.Variable([1.0, 2.0])
other.apply_gradients([(tf.constant([1.0, -1.0]), variable)])
print(type(model.optimizer).__mro__[1].__module__.partition(".")[0])
np.savez(sys.argv[1], variable.numpy(), *model.get_weights())
"""
CHOICES = {
    "keras": ("", "import keras\nimport tensorflow as tf"),
    "tf.keras": ("", "import tensorflow as tf\nfrom tensorflow import keras"),
    "tf_keras": (
        "os.environ['TF_USE_LEGACY_KERAS'] = '1'",
        "import tf_keras as keras\nimport tensorflow as tf",
    ),
}


@pytest.mark.parametrize("choice", CHOICES)
def test_trains_as_stock_does(choice, tmp_path):
    """The script chooses its Keras, and the weights are stock's."""
    choice, imports = CHOICES[choice]
    imports += "\nfrom {}.optimizers import RMSprop".format(
        "tf_keras" if choice else "keras"
    )
    (tmp_path / "train.py").write_text(TRAINS.format(choice=choice, imports=imports))
    results = {}
    for name, command in {"stock": [], "ours": [*COMMAND, "--verbose"]}.items():
        ended = run([*command, "train.py", f"{name}.npz"], tmp_path)
        assert ended.returncode == 0, ended.stderr
        with np.load(tmp_path / f"{name}.npz") as file:
            results[name] = [file[key] for key in file]
    (line,) = [s for s in ended.stderr.splitlines() if s.startswith("tf_optim: ")]
    assert "replaced Adam (1), RMSprop (1); 7 steps" in line
    assert "1 call outside of a tf.function took" in line
    assert "inside a tf.function is not known" in line
    assert "optimizers.Adam is made by tf_optim" in ended.stderr
    assert ended.stdout.split() == ["tf_optim"]
    for ours, stock in zip(results["ours"], results["stock"], strict=True):
        np.testing.assert_allclose(ours, stock, rtol=1e-5, atol=1e-6)


def test_a_module_of_the_programs_own_that_is_called_keras(tmp_path):
    (tmp_path / "keras.py").write_text("name = 'mine'\n")
    (tmp_path / "uses.py").write_text("import keras\nprint(keras.name)\n")
    ended = run([*COMMAND, "uses.py"], tmp_path)
    assert (ended.returncode, ended.stdout) == (0, "mine\n"), ended.stderr
    assert "neither Keras nor TensorFlow was imported" in ended.stderr


def test_choices_of_the_command_line(tmp_path):
    (tmp_path / "makes.py").write_text(
        "import keras\n"
        "print(keras.optimizers.get('sgd').sparse_update)\n"
        "print(hasattr(keras.optimizers.get('adam'), 'sparse_update'))\n"
    )
    options = ["--only", "SGD", "--sparse-update", "lazy"]
    ended = run([*COMMAND, *options, "makes.py"], tmp_path)
    assert ended.stdout.split() == ["lazy", "False"], ended.stderr
    ended = run([*COMMAND, "--only", "SGD,Adamant", "makes.py"], tmp_path)
    assert ended.returncode == 2
    assert "--only must be of" in ended.stderr
    assert "Received: ['SGD', 'Adamant']" in ended.stderr
