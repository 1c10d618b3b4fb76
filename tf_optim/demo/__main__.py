"""`python -m tf_optim.demo`."""

import sys

from tf_optim.demo.cli import main

sys.exit(main())
