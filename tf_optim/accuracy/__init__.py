"""What slots in fewer bits cost in accuracy: `python -m tf_optim.accuracy`."""
