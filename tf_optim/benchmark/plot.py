"""A picture of the rows: one panel per case and optimizer, one bar per subject."""

from tf_optim.benchmark import report, subjects

_OURS_COLOR, _PEER_COLOR, _LIMIT_COLOR = "#1a73e8", "#b8bec7", "#202124"
_COLUMNS = 2


def _panels(rows):
    """Rows of each panel, in the order of the table."""
    panels = {}
    for row in rows:
        panels.setdefault((row["case"], row["optimizer"]), []).append(row)
    return panels


def _draw(axes, title, rows):
    """Bars of the milliseconds, and a line where the memory's limit is."""
    bars = [row for row in rows if row["subject"] != subjects.LIMIT]
    limits = [row["ms"] for row in rows if row["subject"] == subjects.LIMIT]
    names = [row["subject"] for row in bars]
    times = [row["ms"] for row in bars]
    colors = [
        _OURS_COLOR if name.startswith(subjects.OURS) else _PEER_COLOR for name in names
    ]
    errors = [
        [max(0.0, row["ms"] - row["spread"][0]) for row in bars],
        [max(0.0, row["spread"][1] - row["ms"]) for row in bars],
    ]
    axes.barh(names, times, color=colors, height=0.7)
    axes.errorbar(times, names, xerr=errors, fmt="none", ecolor="#5f6368", lw=1)
    for row in bars:
        ratio = row["ratio_to_ours"]
        text = f" {report.number(row['ms'])} ms"
        if ratio is not None and row["subject"] != subjects.OURS:
            text += f"  ({report.number(ratio)} x ours)"
        axes.text(
            max(row["ms"], row["spread"][1]), row["subject"], text, va="center", size=8
        )
    for limit in limits:
        axes.axvline(limit, color=_LIMIT_COLOR, ls="--", lw=1)
        axes.text(limit, -0.75, "limit", size=7, ha="center", color=_LIMIT_COLOR)
    every = times + limits
    axes.set_xscale("log")
    # Room at the right for the longest label.
    axes.set_xlim(min(every) / 2, max(every) * 6)
    axes.set_ylim(len(bars) - 0.4, -0.6)
    axes.set_title(title, size=9, loc="left", weight="bold", pad=14)
    axes.tick_params(labelsize=8)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def write_plot(path, rows, about):
    """Draws `rows` into the file `path`; what they were taken on goes on top."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    panels = _panels(rows)
    lines = -(-len(panels) // _COLUMNS)
    most = max(len(panel) for panel in panels.values())
    height = lines * (0.9 + 0.24 * most) + 0.8
    figure, grid = pyplot.subplots(
        lines, _COLUMNS, figsize=(12, height), squeeze=False, layout="constrained"
    )
    flat = grid.ravel()
    for axes, ((case, optimizer), panel) in zip(flat, panels.items(), strict=False):
        _draw(axes, f"{case}: {optimizer}", panel)
    for axes in flat[len(panels) :]:
        axes.set_visible(False)
    figure.suptitle(
        "Milliseconds of one optimizer step (log scale; less is better), "
        f"{about['processor']}, {about['threads']} threads",
        size=10,
    )
    figure.savefig(path, dpi=80)
    pyplot.close(figure)
