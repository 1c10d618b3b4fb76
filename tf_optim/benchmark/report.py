"""What the terminal and the JSON file show."""

import datetime
import json
import os
import platform
import subprocess

from tf_optim.benchmark import subjects

_COLUMNS = (
    ("subject", 27),
    ("ms", 9),
    ("spread", 8),
    ("GB/s", 8),
    ("of limit", 9),
    ("x ours", 8),
    ("extra MB", 9),
)
_WIDTH = 130


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
    if row["note"]:
        line += "  " + row["note"]
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
            lines.append(f"-- {row['optimizer']} ".ljust(78, "-"))
        lines.append(_row(row))
    return "\n".join(lines)


def explanation(rows):
    """What the column "x ours" of `rows` compares with what."""
    bases = dict.fromkeys(row["base"] for row in rows if row["base"])
    ways = {
        subjects.OURS: "steps in a loop inside of one function",
        subjects.OURS_DENSE: "the same, of Keras' result on the whole table",
        subjects.OURS_FUNCTION: "a call from Python for each step",
        subjects.OURS_DENSE_FUNCTION: "a call, of Keras' result on the whole table",
        subjects.OURS_LOOKUP: "a call for each step, the rows having been looked up",
    }
    lines = [
        '"x ours": as many times as long as the same step of ours, made the same way:'
    ]
    for base in bases:
        peers = dict.fromkeys(
            r["subject"] for r in rows if r["base"] == base and r["subject"] != base
        )
        lines.append(f"  {base} ({ways[base]}): {', '.join(peers) or 'nobody'}")
    return "\n".join(lines) if bases else ""


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
        if kind == "missing" and reason.startswith(("torch", "fbgemm")):
            line = f"{subject}: not installed (pip install tf_optim[bench])"
        elif kind == "failed":
            line = f"{subject} HAS NO TIME: {reason} [{', '.join(where)}]"
        lines.append("  " + line)
    return "\n".join(["Not measured:", *dict.fromkeys(lines)]) if lines else ""


# Of lscpu's answer.
_TOPOLOGY = {
    "Thread(s) per core": "threads_per_core",
    "Core(s) per socket": "cores_per_socket",
    "Socket(s)": "sockets",
    "NUMA node(s)": "numa_nodes",
    "L1d cache": "l1d",
    "L2 cache": "l2",
    "L3 cache": "l3",
    "Hypervisor vendor": "hypervisor",
}


def topology(text):
    """What lscpu says of cores and caches.

    Args:
        text: its output.
    """
    pairs = (line.split(":", 1) for line in text.splitlines() if ":" in line)
    said = {key.strip(): value.strip() for key, value in pairs}
    return {name: said[key] for key, name in _TOPOLOGY.items() if key in said}


def _lscpu():
    try:
        run = subprocess.run(
            ["lscpu"],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "LC_ALL": "C"},
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
    return run.stdout


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
        **topology(_lscpu()),
        "cores": os.cpu_count(),
        "threads": threads,
        "system": f"{platform.system()} {platform.release()}",
        "libc": " ".join(platform.libc_ver()),
        "allocator": subjects.ALLOCATOR or "none",
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
