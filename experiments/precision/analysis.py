"""The cells of the notebook of this experiment; `experiments/draw` runs them for its README."""

# %% tags=["parameters"]
results = "results.jsonl"

# %%
import json

import pandas as pd
from matplotlib import pyplot as plt

with open(results) as file:
    rows = [json.loads(line) for line in file]
modes = [mode for mode in rows[0]["beside_f32"] if mode != "f32"]


def signed(value):
    return f"{value:.3f}".replace("-", "−")


# %% [markdown]
# Left, errors of forces beside the same model in f32; the limit is that of `forgefield validate`. Right, times of energies and forces
# over those of f32 of the same turn.

# %% figure="precision"
figure, (errors, times) = plt.subplots(1, 2, figsize=(9.6, 3.9), layout="constrained")
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

# %% [markdown]
# Beside the same model in f32 with exact filters.

# %% table="errors"
table = pd.DataFrame(
    {
        "model": row["case"],
        "stored in": mode,
        "energy MAE, meV/atom": f"{error['energy_mae_mev_per_atom']:.4f}",
        "forces RMSE, meV/Å": f"{error['force_rmse_mev_per_a']:.3f}",
        "cosine": f"{error['force_cosine']:.6f}",
        "stress RMSE, GPa": "–" if error["stress_rmse_gpa"] is None else f"{error['stress_rmse_gpa']:.4f}",
        "holds": "yes" if error["within_limits"] else "no",
    }
    for row in rows
    for mode, error in row["beside_f32"].items()
    if mode != "f32"
).set_index("model")
table

# %% [markdown]
# Beside labels.

# %% table="labels"
table = pd.DataFrame(
    {
        "model": row["case"],
        "stored in": mode,
        "energy MAE, meV/atom": f"{error['energy_mae_mev_per_atom']:.3f}",
        "force MAE, meV/Å": f"{error['force_mae_mev_per_a']:.2f}",
        "force RMSE": f"{error['force_rmse_mev_per_a']:.2f}",
    }
    for row in rows
    for mode, error in row["beside_labels"].items()
).set_index("model")
table

# %% [markdown]
# How energy drifts in dynamics without a thermostat, in the mean of the replicas.

# %% table="drift"
table = pd.DataFrame(
    {
        "model": row["case"],
        "stored in": mode,
        "drift, meV/atom/ps": f"{signed(drift['drift'])} ± {drift['drift_error']:.3f}",
        "largest of one": signed(drift["largest_drift"]),
        "mean temperature, K": f"{drift['mean_temperature_k']:.1f}",
    }
    for row in rows
    for mode, drift in row["nve"].items()
).set_index("model")
table

# %% [markdown]
# Times of f32, and of the others over it, with the least and the most of the turns.

# %% table="times"
def beside(timing):
    least, most = timing["beside_f32_from_to"]
    return f"{timing['beside_f32']:.2f} ({least:.2f}–{most:.2f})"


table = pd.DataFrame(
    {"model": row["case"], "atoms": timing["atoms"], "f32": f"{timing['modes']['f32']['ms']:.3g} ms"}
    | {mode: beside(timing["modes"][mode]) for mode in modes}
    for row in rows
    for timing in row["times"]
).set_index("model")
table

# %% [markdown]
# Memory of packed weights.

# %% table="memory"
table = pd.DataFrame(
    {"model": row["case"]}
    | {mode: f"{timing['weight_bytes'] / 1e3:.0f} kB" for mode, timing in row["times"][0]["modes"].items()}
    for row in rows
).set_index("model")
table
