"""Keras is imported without the packages that it offers wrappers for.

Python runs this file when it starts, for tests/conftest.py has its folder in
PYTHONPATH: scikit-learn and matplotlib are a third of what a process needs to import
TensorFlow, and many processes of the suite do. Who imports them outside of Keras
gets them. `--exhaustive` imports all that there is.
"""

import sys


class _Without:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name in ("sklearn", "matplotlib"):
            keras = getattr(sys.modules.get("keras"), "__spec__", None)
            if getattr(keras, "_initializing", False):
                raise ModuleNotFoundError(f"Keras does not need {name}", name=name)


sys.meta_path.insert(0, _Without)
