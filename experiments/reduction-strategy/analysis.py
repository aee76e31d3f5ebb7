"""The cells of the notebook of this experiment; `experiments/draw` runs them for its README."""

# %% tags=["parameters"]
results = "results.jsonl"

# %%
import numpy as np
import pandas as pd
from matplotlib import pyplot as plt

lines = pd.read_json(results, lines=True)
rows = pd.concat([lines.drop(columns="row"), pd.json_normalize(lines["row"])[["degree", "skew", "features", "repeat"]]], axis=1)
rows["runtime"] = [device["runtime"] for device in rows["device"]]
rows["max_degree"] = [problem["max_degree"] for problem in rows["problem"]]
# The time of a software adapter says nothing about speed.
rows = rows[[not device["software"] for device in rows["device"]]]
rows = rows.drop_duplicates(["variant", "degree", "skew", "features", "repeat", "runtime"], keep="last")
rows["reduction"] = rows["variant"].str.extract("(receiver|edge_atomic)$")
rows["median_ms"] = [pd.Series(samples, dtype=float).median() / 1e6 for samples in rows["samples_ns"]]

# %% [markdown]
# The time of `edge_atomic` over that of `receiver`, on the same random graph in turns: above 1 the owner of a row wins.

# %%
keys = ["runtime", "features", "degree", "skew"]
ratio = rows.pivot_table(index=keys, columns="reduction", values="median_ms")
ratio["ratio"] = ratio["edge_atomic"] / ratio["receiver"]
ratio = ratio.reset_index()

# %% figure="ratio"
runtimes, widths = sorted(ratio["runtime"].unique()), sorted(ratio["features"].unique())
figure, grid = plt.subplots(len(runtimes), len(widths), figsize=(3.4 * len(widths), 3.1 * len(runtimes)), layout="constrained", squeeze=False, sharey=True)
# A half and a double are as far from 1.
span = np.log2(ratio["ratio"].astype(float)).abs().max()
span = max(span, 0.1)
for row, runtime in zip(grid, runtimes):
    for axes, width in zip(row, widths):
        part = ratio[(ratio["runtime"] == runtime) & (ratio["features"] == width)]
        field = part.pivot(index="skew", columns="degree", values="ratio")
        image = axes.imshow(np.log2(field.to_numpy(float)), cmap="RdBu_r", vmin=-span, vmax=span, origin="lower", aspect="auto")
        axes.set_xticks(range(len(field.columns)), [f"{degree:g}" for degree in field.columns])
        axes.set_yticks(range(len(field.index)), [f"{skew:g}" for skew in field.index])
        axes.set(title=f"{runtime}, F = {width}", xlabel="mean degree")
        for y, values in enumerate(field.to_numpy(float)):
            for x, value in enumerate(values):
                dark = abs(np.log2(value)) > 0.6 * span
                axes.text(x, y, f"{value:.2f}", ha="center", va="center", fontsize=8, color="white" if dark else "black")
    row[0].set_ylabel("skew of degrees")
figure.colorbar(image, ax=grid, label="log₂(time edge_atomic / receiver)")

# %% table="ratios"
table = ratio.groupby(["runtime", "features", "skew"])["ratio"].agg(["min", "median", "max"]).map(lambda r: f"{r:.2f}")
table = table.rename(columns={"min": "least", "max": "most"}).reset_index().set_index("runtime")
table
