"""`python -m tf_optim.benchmark`: see the package's docstring."""

import sys

from tf_optim.benchmark.cli import main

if __name__ == "__main__":
    sys.exit(main())
