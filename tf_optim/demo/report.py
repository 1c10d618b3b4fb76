"""What the parts of the demo hand back, as tables on the terminal and as a plot."""

import dataclasses

import numpy as np

# Whose a curve or row is.
STOCK, OURS, OURS_DENSE, OURS_EXACT = "stock", "ours", "ours, dense", "ours, exact"
_COLORS = {
    STOCK: "#9aa0a6",
    OURS: "#1a73e8",
    OURS_DENSE: "#f29900",
    OURS_EXACT: "#188038",
}


@dataclasses.dataclass
class Curve:
    """The loss of one optimizer after each step, the first step left out.

    Attributes:
      owner: STOCK, OURS, OURS_DENSE or OURS_EXACT.
      name: The optimizer's name, for the legend.
      seconds: Training time up to each step; grows.
      losses: The loss of each step's batch.
    """

    owner: str
    name: str
    seconds: list[float] = dataclasses.field(default_factory=list)
    losses: list[float] = dataclasses.field(default_factory=list)

    def add(self, seconds, loss):
        """Appends a step that took `seconds`."""
        self.seconds.append(seconds + (self.seconds[-1] if self.seconds else 0.0))
        self.losses.append(loss)

    @property
    def step_ms(self) -> np.ndarray:
        """The milliseconds that each step took."""
        return np.diff(self.seconds, prepend=0.0) * 1e3

    def means(self, width) -> np.ndarray:
        """Returns the mean of each loss and up to `width` - 1 losses before it."""
        sums = np.concatenate([[0.0], np.cumsum(self.losses)])
        ends = np.arange(1, len(sums))
        starts = np.maximum(0, ends - width)
        return (sums[ends] - sums[starts]) / (ends - starts)

    def loss_at(self, step, mean_of) -> float:
        """Returns the mean of up to `mean_of` losses up to a step."""
        return float(self.means(mean_of)[step - 1])


@dataclasses.dataclass
class Part:
    """The outcome of one part of the demo.

    Attributes:
      title: The heading of its table and of its panel in the plot.
      header: The names of the table's columns, with units.
      rows: The cells of the table.
      notes: Lines to print below the table.
      curves: What to draw.
      loss: What the loss is, for the plot's axis.
      same_step: The step at which the optimizers are compared; marked in the plot.
      smooth: Each point of the plot is the mean of up to this many steps.
    """

    title: str
    header: list[str]
    rows: list[list[str]]
    notes: list[str]
    curves: list[Curve]
    loss: str
    same_step: int
    smooth: int = 1


def table(header, rows) -> str:
    """Returns an aligned table; all columns but the first are set to the right."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    lines = []
    for cells in [header, ["-" * width for width in widths], *rows]:
        first, *others = [
            cell.rjust(width) if i else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        lines.append("  ".join([first, *others]).rstrip())
    return "\n".join(lines)


def median_and_spread(milliseconds) -> str:
    """Returns "median (lower quartile-upper quartile)"."""
    low, middle, high = np.percentile(milliseconds, [25, 50, 75])
    return f"{middle:.3g} ({low:.3g}-{high:.3g})"


def ratio(stock, ours) -> str:
    """Returns how many times faster `ours` is, by the medians."""
    return f"{np.median(stock) / np.median(ours):.1f}x"


def text(part: Part) -> str:
    """Returns a part's table and notes for the terminal."""
    heading = f"{part.title}\n{'=' * len(part.title)}"
    return "\n".join([heading, table(part.header, part.rows), "", *part.notes])


def plot(parts, path):
    """Draws loss against training time, one panel for each part, into a PNG file."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(
        1, len(parts), figsize=(6.4 * len(parts), 4.8), squeeze=False
    )
    for axes, part in zip(panels[0], parts, strict=True):
        _draw(axes, part)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def _draw(axes, part):
    for curve in part.curves:
        seconds = np.array(curve.seconds)
        losses = curve.means(part.smooth)
        axes.plot(
            seconds, losses, color=_COLORS[curve.owner], label=curve.name, linewidth=1.8
        )
        last = min(part.same_step, len(seconds)) - 1
        axes.plot(seconds[last], losses[last], "o", color=_COLORS[curve.owner])
    axes.plot([], [], "o", color="#5f6368", label=f"step {part.same_step:,}")
    axes.set_title(part.title, fontsize=11)
    axes.set_xlabel("training time [s], without tracing")
    axes.set_ylabel(part.loss)
    axes.set_xlim(left=0)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
