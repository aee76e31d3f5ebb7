"""Draws the held-out errors of results.json as curve.svg, beside it: plot.py FOLDER."""

import json
import sys
from pathlib import Path

import matplotlib

matplotlib.use("svg")
matplotlib.rcParams["svg.hashsalt"] = "curve"
from matplotlib import pyplot  # noqa: E402

folder = Path(sys.argv[1])
results = json.loads((folder / "results.json").read_text())
points = results["held_out"]
steps = [point["step"] for point in points]
figure, axes = pyplot.subplots(figsize=(6, 3.6), layout="constrained")
axes.semilogy(steps, [1e3 * point["force_rmse"] for point in points], label="forces, meV/Å")
axes.semilogy(steps, [1e3 * point["energy_rmse"] for point in points], label="energy, meV per atom")
axes.set_xlabel("optimiser step")
axes.set_ylabel("root mean square error, held-out frames")
axes.legend()
axes.grid(alpha=0.3)
figure.savefig(folder / "curve.svg", metadata={"Date": None})
