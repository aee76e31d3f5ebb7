"""Draws results.json as precision.svg, beside it: plot.py FOLDER."""

import json
import sys
from pathlib import Path

import matplotlib

matplotlib.use("svg")
matplotlib.rcParams["svg.hashsalt"] = "precision"
from matplotlib import pyplot  # noqa: E402

folder = Path(sys.argv[1])
rows = json.loads((folder / "results.json").read_text())["rows"]
modes = [mode for mode in rows[0]["beside_f32"] if mode != "f32"]
figure, (errors, times) = pyplot.subplots(1, 2, figsize=(9.6, 3.9), layout="constrained")
for k, row in enumerate(rows):
    at = [m + 0.15 * (k - (len(rows) - 1) / 2) for m in range(len(modes))]
    errors.plot(at, [row["beside_f32"][mode]["force_rmse_mev_per_a"] for mode in modes], "o", ms=5, label=row["case"])
    for timing in row["times"]:
        filled = "o" if timing["atoms"] > 100 or len(row["times"]) == 1 else "s"
        ratios = [timing["modes"][mode]["beside_f32"] for mode in modes]
        label = f"{row['case']}, {timing['atoms']} atoms"
        times.plot(at, ratios, filled, ms=5, color=f"C{k}", label=label, fillstyle="full" if filled == "o" else "none")
errors.axhline(50, color="grey", lw=0.8, label="limit")
times.axhline(1, color="grey", lw=0.8)
errors.set(yscale="log", ylabel="force RMSE beside f32, meV/Å")
times.set(ylabel="time of energy and forces / that of f32")
times.set_ylim(bottom=0)
for axes in (errors, times):
    axes.set_xticks(range(len(modes)), modes)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7)
figure.savefig(folder / "precision.svg", metadata={"Date": None})
