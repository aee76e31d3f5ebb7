"""The cells of the notebook of this experiment; `experiments/draw` runs them for its README."""

# %% tags=["parameters"]
results = "results.jsonl"

# %%
import pandas as pd
from matplotlib import pyplot as plt

lines = pd.read_json(results, lines=True)
words = pd.json_normalize(lines["row"])[["strategy", "repeat"]]
rows = pd.concat([lines.drop(columns=["row", "metrics"]), words, pd.json_normalize(lines["metrics"])], axis=1)
rows["device"] = [device["slug"] for device in rows["device"]]
rows["search"] = rows["variant"] + " on " + [problem["name"] for problem in rows["problem"]]
rows = rows[rows["verdict"] == "correct"]
rows = rows.drop_duplicates(["device", "search", "strategy", "repeat"], keep="last")

# %% [markdown]
# Where the default is within 5 % of the best, every strategy is done before it begins: only spaces in which there is something
# to find tell strategies apart.

# %%
worth = rows[rows["default_over_best"] >= 1.05]
order = ["random", "genetic", "bayesian", "annealing", "local", "cost-model"]
courses = [name for name in rows.columns if name.startswith("best_so_far_") and name.endswith("_median")]

# %% figure="course"
figure, (course, until) = plt.subplots(1, 2, figsize=(9.6, 3.9), layout="constrained")
for strategy in order:
    part = worth[worth["strategy"] == strategy]
    # A space with fewer configurations has found its best by its end.
    best = part[sorted(courses)].ffill(axis=1).mean()
    if len(part):
        course.plot(range(1, len(best) + 1), best.to_numpy(float), label=f"{strategy} ({len(part)})", drawstyle="steps-post")
course.set(xlabel="evaluations", ylabel="best so far / best, mean over spaces", xlim=(1, 24))
course.legend(title="strategy (spaces)")
course.grid(alpha=0.3)
shown = [strategy for strategy in order if (worth["strategy"] == strategy).any()]
until.boxplot([worth.loc[worth["strategy"] == strategy, "evaluations_until_near_median"].dropna() for strategy in shown], tick_labels=shown)
until.set(ylabel="evaluations until within 5 % of the best")
until.tick_params(axis="x", rotation=30)
until.grid(alpha=0.3, axis="y")

# %% table="strategies"
near = worth.groupby("strategy")["evaluations_until_near_median"]
after = lambda n: worth.groupby("strategy")[f"best_so_far_{n:03}_median"].median()
table = pd.DataFrame(
    {
        "spaces": near.size(),
        "median": near.median().map(lambda x: f"{x:g}"),
        "mean": near.mean().map(lambda x: f"{x:.1f}"),
        "most": near.max().map(lambda x: f"{x:g}"),
        "best so far after 4": after(4).map(lambda x: f"{x:.2f}"),
        "after 8": after(8).map(lambda x: f"{x:.2f}"),
    }
).reindex(shown)
table
