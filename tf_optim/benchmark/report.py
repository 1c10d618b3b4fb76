"""What the terminal and the JSON file show."""

import datetime
import json
import os
import platform

_COLUMNS = (
    ("subject", 20),
    ("ms", 10),
    ("spread", 8),
    ("GB/s", 8),
    ("of limit", 9),
    ("x ours", 8),
    ("extra MB", 10),
)
_WIDTH = 120


def number(value, digits=3):
    """`digits` significant digits, but all of those before the point."""
    if value is None:
        return "-"
    if value == 0:
        return "0"
    magnitude = len(str(int(abs(value)))) if abs(value) >= 1 else 0
    if magnitude:
        return f"{value:,.{max(0, digits - magnitude)}f}"
    return f"{value:.{digits}g}"


def _percent(value):
    return "-" if value is None else f"{100 * value:.0f} %"


def _row(row):
    low, high = row["spread"]
    cells = (
        row["subject"],
        number(row["ms"]),
        "±" + _percent((high - low) / 2 / row["ms"]),
        number(row["gbps"]),
        _percent(row["limit_fraction"]),
        number(row["ratio_to_ours"]),
        number(row["extra_mb"]),
    )
    (_, first), *others = _COLUMNS
    line = cells[0].ljust(first)
    for cell, (_, width) in zip(cells[1:], others, strict=True):
        line += cell.rjust(width)
    note = row["note"]
    if note:
        line += "  " + note
    return line if len(line) <= _WIDTH else line[: _WIDTH - 1] + "…"


def _header():
    (first, width), *others = _COLUMNS
    return first.ljust(width) + "".join(n.rjust(w) for n, w in others)


def _group_key(row):
    return row["case"], row["optimizer"]


def table(rows, titles):
    """The rows as text, one block per case and optimizer.

    Args:
      rows: JSON records, those of a case and optimizer next to each other.
      titles: case name -> what it is.
    """
    lines = []
    case = group = None
    for row in rows:
        if row["case"] != case:
            case = row["case"]
            lines += ["", f"{case}: {titles[case]}", "=" * (len(case) + 2), _header()]
        if _group_key(row) != group:
            group = _group_key(row)
            lines.append(f"-- {row['optimizer']} ".ljust(73, "-"))
        lines.append(_row(row))
    return "\n".join(lines)


def footnotes(not_measured):
    """What has no row, and why, each reason once."""
    reasons = {}
    for miss in not_measured:
        reasons.setdefault((miss["kind"], miss["subject"], miss["reason"]), []).append(
            f"{miss['case']} {miss['optimizer']}"
        )
    lines = []
    for (kind, subject, reason), where in sorted(reasons.items()):
        line = f"{subject}: {reason}"
        if kind == "missing":
            line = f"{subject}: not installed (pip install tf_optim[bench])"
            if subject == "limit":
                line = f"{subject}: {reason}"
        elif kind == "failed":
            line = f"{subject} HAS NO TIME: {reason} [{', '.join(where)}]"
        lines.append("  " + line)
    return "\n".join(["Not measured:", *dict.fromkeys(lines)]) if lines else ""


def machine(versions, threads):
    """What the figures were taken on."""
    processor = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as cpuinfo:
            names = [line for line in cpuinfo if line.startswith("model name")]
        processor = names[0].split(":", 1)[1].strip()
    except (OSError, IndexError):
        pass
    return {
        "processor": processor,
        "cores": os.cpu_count(),
        "threads": threads,
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        **versions,
    }


def write_json(path, rows, not_measured, about):
    """Writes everything that was found to `path`."""
    with open(path, "w", encoding="utf-8") as file:
        record = {
            "date": datetime.date.today().isoformat(),
            "machine": about,
            "rows": rows,
            "not_measured": not_measured,
        }
        json.dump(record, file, indent=1)
        file.write("\n")
