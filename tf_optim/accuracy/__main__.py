"""`python -m tf_optim.accuracy`."""

import sys

from tf_optim.accuracy.cli import main

sys.exit(main())
