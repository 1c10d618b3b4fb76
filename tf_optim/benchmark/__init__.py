"""How fast is an optimizer step on this machine, and how fast could it be?

    python -m tf_optim.benchmark [--quick] [--case NAME] [--json FILE] [--plot PNG]
    python -m tf_optim.benchmark --model FILE.keras | --shapes FILE

docs/benchmark.md says how it measures, and what is compared with what. In short:

- Subjects that cannot share a process (Keras 3, tf_keras, torch) each live in a
  worker process of the command's process group. The parent drives them over
  pipes, in rounds: within a round every subject in turn is timed while all
  others sleep, so that whatever else the machine does meets all of them alike.
  The order is another permutation in each round.
- `ms` is the median over the rounds and `spread` its quartiles. `ratio_to_ours` is
  the median of the ratios within each round, to `base`: the subject of ours that
  makes the same step in the same way (in a loop, called, after a lookup).
- What is chosen is chosen by functions that a test looks at (rules.py).
- `bytes` is what the update has to move at the least (traffic.py). The limit is
  what the memory does with as many bytes in the same places, timed in the same
  rounds (limits.py); `limit_fraction` is a subject's rate over the limit's.
- `extra_mb` is the peak of memory that one step takes beyond what it holds
  between steps (memory.py).
- Before it is timed, a subject's first steps are compared with the float64
  reference (check.py). Ours get no time if they differ; a peer's row says so.
"""
