"""The cells of the notebook of this experiment; `experiments/draw` runs them for its README."""

# %% tags=["parameters"]
results = "results.jsonl"

# %%
import pandas as pd
from matplotlib import pyplot as plt

lines = pd.read_json(results, lines=True)
rows = pd.concat([lines.drop(columns="row"), pd.json_normalize(lines["row"])[["implementation", "repeat"]]], axis=1)
rows["n_atoms"] = [problem["n_atoms"] for problem in rows["problem"]]
rows["runtime"] = [device["runtime"] for device in rows["device"]]
# The time of a software adapter says nothing about speed.
rows = rows[[not device["software"] for device in rows["device"]]]
# Of two lines on the same thing the later one counts.
rows = rows.drop_duplicates(["variant", "order", "n_atoms", "implementation", "repeat", "runtime"], keep="last")
rows["median_ms"] = [pd.Series(samples, dtype=float).median() / 1e6 for samples in rows["samples_ns"]]
rows["peak_mib"] = rows["peak_bytes"] / 2**20
rows["message"] = rows["variant"].str.split("_").str[0].map({"painn": "PaiNN, linear filter", "cfconv": "SchNet, mlp filter"})

# %% [markdown]
# Times and memory of both, side by side; a row without a time was too large, and its reason stands in the results.

# %%
keys = ["runtime", "message", "order", "n_atoms"]
both = rows.pivot_table(index=keys, columns="implementation", values=["median_ms", "peak_mib"]).reset_index()
both["speed_up"] = both[("median_ms", "unfused")] / both[("median_ms", "fused")]
both["memory"] = both[("peak_mib", "unfused")] / both[("peak_mib", "fused")]

# %% figure="speed-up"
names = {0: "forward", 1: "forward + backward"}
figure, (times, memory) = plt.subplots(1, 2, figsize=(9.6, 3.9), layout="constrained")
styles = {(m, o): (c, s) for m, c in zip(sorted(rows["message"].unique()), ["C0", "C1"]) for o, s in [(0, "-"), (1, "--")]}
for (runtime, message, order), part in both.groupby(["runtime", "message", "order"]):
    colour, style = styles[message, order]
    label = f"{message}, {names[order]}" + ("" if runtime == "host" else f" ({runtime})")
    marker = {"host": "o", "cuda": "s"}.get(runtime, "^")
    times.plot(part["n_atoms"], part["speed_up"], color=colour, ls=style, marker=marker, ms=4, label=label)
    memory.plot(part["n_atoms"], part["memory"], color=colour, ls=style, marker=marker, ms=4)
for axes, what in [(times, "time unfused / fused"), (memory, "peak memory unfused / fused")]:
    axes.set(xscale="log", yscale="log", xlabel="atoms", ylabel=what)
    axes.axhline(1, color="grey", lw=0.8)
    axes.grid(alpha=0.3, which="both")
figure.legend(loc="outside upper center", ncols=2, frameon=False)

# %% table="times"
shown = rows.pivot_table(index=keys, columns="implementation", values="median_ms", aggfunc="median", dropna=False)
peaks = rows.pivot_table(index=keys, columns="implementation", values="peak_mib", aggfunc="median", dropna=False)
number = lambda value, digits: "–" if pd.isna(value) else f"{value:.{digits}f}"
table = pd.DataFrame(
    {
        "fused ms": shown["fused"].map(lambda x: number(x, 2)),
        "unfused ms": shown["unfused"].map(lambda x: number(x, 1)),
        "ratio": (shown["unfused"] / shown["fused"]).map(lambda x: number(x, 1)),
        "fused MiB": peaks["fused"].map(lambda x: number(x, 1)),
        "unfused MiB": peaks["unfused"].map(lambda x: number(x, 0)),
    }
).reset_index()
table["order"] = table["order"].map(names)
# Combinations that nobody asked for, which a pivot table makes, have neither.
table = table[table["fused ms"] != "–"].rename(columns={"n_atoms": "atoms", "order": "what"}).set_index("runtime")
table

# %%
# What was not measured, and why.
rows.loc[rows["verdict"] != "correct", ["message", "order", "n_atoms", "implementation", "verdict", "reason"]]
