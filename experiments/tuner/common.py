"""What the experiments with the tuner share: searches, and configurations timed side by side in one more search."""

import json
import statistics
import subprocess
import time
from pathlib import Path


def tune(forgefield, out, *words):
    """Runs one search; its outcome, and the seconds it took from start to end."""
    begin = time.monotonic()
    command = [forgefield, "tune", "--runtime", "host", "--quiet", "--json", "--out", str(out), *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}: {done.stderr.strip()}")
    return json.loads(done.stdout), time.monotonic() - begin


def records(out):
    return [json.loads(line) for line in (Path(out) / "records.jsonl").read_text().splitlines()]


def key(config):
    return tuple(sorted(config.items()))


def space_of(configs, default):
    """A space that holds these configurations and nothing else."""
    names = sorted(default)
    every = [dict(pairs) for pairs in {key(c) for c in [*configs, default]}]
    values = {name: sorted({config[name] for config in every}) for name in names}
    point = lambda config: "(" + " && ".join(f"{name} == {config[name]}" for name in names) + ")"
    spaces = []
    for reduction in ("receiver", "edge_atomic"):
        lines = ["[[space]]", 'target = "host"', f'reduction = "{reduction}"']
        lines += ["constraints = [", f'  "{" || ".join(map(point, every))}",', "]", "", "[space.parameters]"]
        lines += [f"{name} = {values[name]}" for name in names]
        lines += ["", "[space.defaults]"] + [f"{name} = {default[name]}" for name in names]
        spaces.append("\n".join(lines))
    return 'op = "fused_message"\n\n' + "\n\n".join(spaces) + "\n"


def side_by_side(forgefield, out, configs, default, *words):
    """Medians in ns of these configurations and the default in finals of their own, by `key`: gated, in turns, nothing dropped."""
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    (out / "space.toml").write_text(space_of(configs, default))
    wanted = {key(c) for c in [*configs, default]}
    if len(wanted) == 1:
        return {key(default): 1.0}
    tune(
        forgefield, out, "--space", out / "space.toml", "--budget", "all", "--no-eliminate",
        "--finalists", len(wanted), *words,
    )
    finals = {key(r["config"]): r for r in records(out) if r["stage"] == "final"}
    if set(finals) != wanted or any(r["verdict"] != "correct" for r in finals.values()):
        raise SystemExit(f"{out}: {len(finals)} of {len(wanted)} configurations reached the finals")
    return {config: statistics.median(r["samples_ns"]) for config, r in finals.items()}
