"""The cells of the notebook of this experiment; `experiments/draw` runs them for its README."""

# %% tags=["parameters"]
results = "results.jsonl"

# %%
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.ticker import NullFormatter

lines = pd.read_json(results, lines=True)
words = pd.json_normalize(lines["row"])[["table_tolerance", "table_order", "repeat"]]
rows = pd.concat([lines.drop(columns=["row", "metrics"]), words, pd.json_normalize(lines["metrics"])], axis=1)
rows["runtime"] = [device["runtime"] for device in rows["device"]]
# The time of a software adapter says nothing about speed.
rows = rows[[not device["software"] for device in rows["device"]]]
rows = rows.drop_duplicates(["variant", "table_tolerance", "table_order", "repeat", "runtime"], keep="last")
rows["median_ms"] = [pd.Series(samples, dtype=float).median() / 1e6 for samples in rows["samples_ns"]]
exact = rows[rows["table_tolerance"].isna()].set_index("runtime")["median_ms"]
tables = rows[rows["table_tolerance"].notna()].copy()
tables["speed_up"] = [exact[runtime] / ms for runtime, ms in tables[["runtime", "median_ms"]].itertuples(index=False)]
tables["segments"] = tables["table_order"].map({2: "cubic", 3: "quintic"})

# %% [markdown]
# Errors are those of a small potential (two message steps, a readout that is not linear) in f64 with the table in place of the
# exact filter, over all atoms: what the table does, without rounding. Times are of one message step in f32.

# %% figure="tolerance"
figure, (errors, times) = plt.subplots(1, 2, figsize=(9.6, 3.9), layout="constrained")
for (segments, colour) in [("cubic", "C0"), ("quintic", "C1")]:
    part = tables[tables["segments"] == segments].sort_values("table_tolerance").drop_duplicates("table_tolerance")
    errors.plot(part["table_tolerance"], part["force_rel_error"], color=colour, marker="o", ms=4, label=f"forces, {segments}")
    errors.plot(part["table_tolerance"], part["energy_rel_error"], color=colour, marker="s", ms=4, ls="--", label=f"energies, {segments}")
    for runtime, part in tables[tables["segments"] == segments].groupby("runtime"):
        part = part.sort_values("table_tolerance")
        label = segments if runtime == "host" else f"{segments} ({runtime})"
        times.plot(part["table_bytes"] / 1024, part["speed_up"], color=colour, marker={"host": "o", "cuda": "s"}.get(runtime, "^"), ms=4, label=label)
bound = sorted(tables["table_tolerance"].unique())
errors.plot(bound, bound, color="grey", lw=0.8, label="the tolerance itself")
errors.set(xscale="log", yscale="log", xlabel="tolerance of the filter", ylabel="relative error, ‖Δ‖/‖reference‖")
times.set(xscale="log", xlabel="table, KiB", ylabel="time exact mlp filter / table")
times.xaxis.set_minor_formatter(NullFormatter())
times.set_ylim(bottom=0)
for axes in (errors, times):
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)

# %% table="tolerances"
shown = tables.sort_values(["runtime", "segments", "table_tolerance"], ascending=[True, True, False])
number = lambda x: f"{x:.0e}"
table = pd.DataFrame(
    {
        "runtime": shown["runtime"],
        "segments": shown["segments"],
        "tolerance": shown["table_tolerance"].map(number),
        "nodes": shown["table_nodes"].astype(int),
        "KiB": (shown["table_bytes"] / 1024).map(lambda x: f"{x:.0f}"),
        "energy error": shown["energy_rel_error"].map(number),
        "force error": shown["force_rel_error"].map(number),
        "ms": shown["median_ms"].map(lambda x: f"{x:.2f}"),
        "× exact": shown["speed_up"].map(lambda x: f"{x:.1f}"),
    }
).set_index("runtime")
table
