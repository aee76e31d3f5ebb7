"""The cells of the notebook of this experiment; `experiments/draw` runs them for its README."""

# %% tags=["parameters"]
results = "results.jsonl"

# %%
import pandas as pd
from matplotlib import pyplot as plt

rows = pd.read_json(results, lines=True)
rows["kind"] = ["pruned" if "keep" in name or "sparse" in name else "shared" if "shared" in name else "trained" for name in rows["student"]]
base = rows.iloc[0]

# %% [markdown]
# Errors on 1,000 frames that were neither fitted nor watched, against the time of energies and forces beside that of the largest
# student: those to the left of and below all others are worth their size.

# %% figure="pareto"
figure, axes = plt.subplots(figsize=(7.2, 4.4), layout="constrained")
for (kind, part), marker in zip(rows.groupby("kind"), "os^"):
    axes.plot(part["time_ratio"], part["force_mae_mev_per_a"], marker, label=kind)
for row in rows.itertuples():
    axes.annotate(row.student.removeprefix("F128-L3-K20-") if row.kind == "pruned" else row.student, (row.time_ratio, row.force_mae_mev_per_a), xytext=(4, 4), textcoords="offset points", fontsize=7)
front, least = [], float("inf")
for row in rows.sort_values("time_ratio").itertuples():
    if row.force_mae_mev_per_a < least:
        least = row.force_mae_mev_per_a
        front.append((row.time_ratio, least))
axes.plot(*zip(*front), color="grey", lw=0.8, zorder=0)
axes.set(xlabel=f"time over that of {base['student']}", ylabel="mean absolute error of forces, meV/Å")
axes.grid(alpha=0.3)
axes.legend(frameon=False)

# %% table="students"
table = pd.DataFrame(
    {
        "student": rows["student"],
        "parameters": rows["parameters"].map("{:,}".format),
        "energy, meV/atom": rows["energy_mae_mev_per_atom"].map("{:.2f}".format),
        "forces, meV/Å": rows["force_mae_mev_per_a"].map("{:.1f}".format),
        "error × base": (rows["force_mae_mev_per_a"] / base["force_mae_mev_per_a"]).map("{:.2f}".format),
        "time / base": rows["time_ratio"].map("{:.2f}".format),
    }
).set_index("student")
table
