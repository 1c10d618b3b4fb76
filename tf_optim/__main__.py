"""`python -m tf_optim script.py ARGS`."""

from tf_optim.runner import main

main()
