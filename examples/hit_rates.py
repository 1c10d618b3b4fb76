"""What came out of `examples.ncf`: a table, how the optimizers compare, a plot."""

import numpy as np

from examples import feedback

_COLORS = {
    "stock": "#9aa0a6",
    "lazy": "#d93025",
    "eventual": "#188038",
    "exact": "#1a73e8",
    "exact-nudged": "#a142f4",
    "dense": "#f29900",
}


def show(data, settings, contenders):
    """Prints the table and what it says."""
    from tf_optim.demo import report

    epochs = range(1, settings.epochs + 1)
    header = ["Adam", *(f"HR@10 {i}" for i in epochs), "loss", "s/epoch", "steps/s"]
    first = contenders[0]
    rows = [
        [
            each.name,
            *(f"{rate:.4f}" for rate in each.hit_rates[1:]),
            f"{each.losses[-1]:.4f}",
            f"{each.seconds_per_epoch:.2f}",
            f"{np.median(each.rates):.1f}",
            f"{first.seconds_per_epoch / each.seconds_per_epoch:.1f}x",
        ]
        for each in contenders
    ]
    print()
    print(report.table([*header, "faster"], rows), end="\n\n")
    print("\n".join(notes(data, settings, contenders)))


def notes(data, settings, contenders):
    """Lines that say what the figures are, and how the optimizers compare."""
    users, items = data.questions(settings.asked, seed=settings.seed)
    popularity = np.bincount(data.train[:, 1], minlength=data.items)
    # Parts those of equal popularity: ties are lost.
    chance = np.random.default_rng(settings.seed).random(items.shape) / 2
    rate = feedback.hit_rate(popularity[items] + chance)
    known = [f"by chance {10 / items.shape[1]:.4f}", f"by popularity {rate:.4f}"]
    if data.affinity is not None:
        likely = data.affinity(users, items) + np.log(popularity[items] + 0.5)
        known.append(f"by what was planted {feedback.hit_rate(likely):.4f}")
    last = contenders[0].hit_rates[-1]
    error = np.sqrt(last * (1 - last) / len(users))
    return [
        f"HR@10 n: hit rate after epoch n, of {len(users):,} users; its standard error "
        f"is about {error:.4f}.",
        f"Without training: {', '.join(known)}.",
        "Loss: the mean of the last epoch. Times: medians of epochs, without their "
        "first step and evaluation.",
        "The optimizers take turns, epoch by epoch, from the same start on the same "
        "batches.",
        "",
        *_compared(contenders),
    ]


def _compared(contenders):
    first, *others = contenders
    if not others:
        return []
    ends = {each.name: each.hit_rates[-1] - first.hit_rates[-1] for each in others}
    apart = {
        each.name: np.abs(np.subtract(each.hit_rates, first.hit_rates)).max()
        for each in others
    }
    lines = [
        f"Against {first.name}, hit rate after the last epoch (and the farthest apart "
        "after any):"
    ]
    lines += [f"  {name:<15} {ends[name]:+.4f}  ({apart[name]:.4f})" for name in ends]
    by_mode = {each.mode: each.hit_rates for each in contenders}
    if {"exact", "exact-nudged"} <= by_mode.keys():
        moved = np.abs(np.subtract(by_mode["exact"], by_mode["exact-nudged"])).max()
        lines.append(
            f'Rounding alone takes "exact" and "exact", nudged as far as {moved:.4f} '
            "apart."
        )
    goal = first.hit_rates[-1]
    lines.append(f"Training time to {first.name}'s last hit rate, {goal:.4f}:")
    for each in contenders:
        reached = np.flatnonzero(np.array(each.hit_rates[1:]) >= goal)
        if reached.size:
            when, epoch = each.seconds[reached[0]], reached[0] + 1
            lines.append(f"  {each.name:<15} {when:.1f} s, in epoch {epoch}")
        else:
            lines.append(f"  {each.name:<15} not reached in {each.seconds[-1]:.1f} s")
    return lines


def plot(contenders, path):
    """Draws hit rate against epoch and against time into a PNG file."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, 2, figsize=(12, 4.6), sharey=True)
    # "exact" lies on "eventual" and "dense": wide lines below narrow ones.
    widths = np.linspace(4.5, 1.5, len(contenders))
    for each, width in zip(contenders, widths, strict=True):
        along = range(len(each.hit_rates)), [0.0, *each.seconds]
        for axes, x in zip(panels, along, strict=True):
            axes.plot(
                x,
                each.hit_rates,
                "o-",
                color=_COLORS[each.mode],
                label=f"Adam, {each.name}",
                linewidth=width,
                markersize=width + 2,
            )
    for axes, label in zip(panels, ["epoch", "training time [s]"], strict=True):
        axes.set_xlabel(label)
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
    panels[0].set_ylabel("hit rate@10")
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
