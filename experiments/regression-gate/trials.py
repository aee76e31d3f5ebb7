#!/usr/bin/env python3
"""How often the regression gate catches a planted slow-down, and how often it sees one where nothing has changed.

    experiments/regression-gate/build FOLDER
    experiments/regression-gate/trials.py FOLDER OUT.json [--mode paired|stored] [--kind both|planted|unchanged] [--trials 40]

A trial is one run of `forgefield bench` as a CI job would do it. Unchanged: the binary against itself, another file of the same
bytes. Planted: `slower` against it. The two take turns. OUT.json is rewritten after every trial.
"""

import argparse
import json
import math
import os
import shutil
import statistics
import subprocess
import time
from pathlib import Path


def bounds(hits, trials):
    """The 95 % interval of a share (Clopper and Pearson 1934)."""

    def at_most(p, k):
        return sum(math.comb(trials, i) * p**i * (1 - p) ** (trials - i) for i in range(k + 1))

    def root(holds):
        low, high = 0.0, 1.0
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if holds(middle) else (low, middle)
        return round(low, 4)

    lower = 0.0 if hits == 0 else root(lambda p: 1 - at_most(p, hits - 1) < 0.025)
    upper = 1.0 if hits == trials else root(lambda p: at_most(p, hits) > 0.025)
    return [lower, upper]


def bench(binary, args, *more):
    """One run of the gate: its exit code, its JSON, its seconds."""
    command = [binary, "bench", "--quiet", "--runtime", "host", "--threads", str(args.threads), "--case", args.case]
    begin = time.monotonic()
    done = subprocess.run([*command, "--json", *more], capture_output=True, text=True)
    seconds = time.monotonic() - begin
    if done.returncode not in (0, 1):
        raise SystemExit(f"{' '.join(map(str, command))} ended with {done.returncode}: {done.stderr.strip()}")
    return done.returncode, json.loads(done.stdout), seconds


def trial(binary, planted, args, *more):
    code, report, seconds = bench(binary, args, "--fail-over", args.fail_over, *more)
    [comparison] = report["comparisons"]
    # What the job sees is the exit code.
    assert (code == 1) == (comparison["verdict"] == "slower"), comparison
    keys = ("verdict", "ratio", "low", "high", "processes")
    load = os.getloadavg()[0]
    return {"planted": planted, **{key: comparison[key] for key in keys}, "seconds": round(seconds, 2), "load": load}


def summary(trials, args, machine):
    def of(planted):
        those = [t for t in trials if t["planted"] == planted]
        flagged = sum(t["verdict"] == "slower" for t in those)
        if not those:
            return None
        return {
            "trials": len(those),
            "flagged": flagged,
            "share": round(flagged / len(those), 4),
            "interval": bounds(flagged, len(those)),
            "undecided": sum(t["verdict"] == "undecided" for t in those),
            "median_ratio": round(statistics.median(t["ratio"] for t in those), 4),
            "spread_of_ratios": round(statistics.pstdev(t["ratio"] for t in those), 4),
            "median_seconds": round(statistics.median(t["seconds"] for t in those), 1),
        }

    settings = {key: getattr(args, key) for key in ("mode", "case", "threads", "fail_over")}
    loads = [t["load"] for t in trials]
    return {
        **settings,
        "machine": machine,
        "load": [round(x, 2) for x in (min(loads), statistics.median(loads), max(loads))],
        "planted": of(True),
        "unchanged": of(False),
        "trials": trials,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--mode", choices=["paired", "stored"], default="paired")
    parser.add_argument("--kind", choices=["both", "planted", "unchanged"], default="both")
    parser.add_argument("--trials", type=int, default=40, help="of each kind")
    parser.add_argument("--case", default="painn-linear-999-atoms")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--fail-over", default="5%")
    parser.add_argument("--every", type=int, default=10, help="trials of each kind to one stored baseline")
    args = parser.parse_args()
    same, slower = args.folder / "forgefield", args.folder / "slower"
    baseline = args.folder / "baseline"
    shutil.copy2(same, baseline)
    stored = args.folder / "baseline.json"
    _, report, _ = bench(same, args, "--seconds", "0.01", "--processes", "1")
    machine, trials = report["machine"], []
    for number in range(args.trials):
        if args.mode == "stored" and number % args.every == 0:
            bench(baseline, args, "--save", stored)
        earlier = ("--baseline-binary", baseline) if args.mode == "paired" else ("--compare", stored)
        # Which comes first changes from trial to trial.
        for planted in (True, False) if number % 2 else (False, True):
            if args.kind not in ("both", "planted" if planted else "unchanged"):
                continue
            trials.append(trial(slower if planted else same, planted, args, *earlier))
            args.out.write_text(json.dumps(summary(trials, args, machine), indent=1) + "\n")
            print(json.dumps(trials[-1]), flush=True)
    for kind in ("planted", "unchanged"):
        print(kind, json.dumps(json.loads(args.out.read_text())[kind]))


if __name__ == "__main__":
    main()
