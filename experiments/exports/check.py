"""Opens what `forgefield export` writes with the tools that it is for, and compares what they find with the records.

Kernel Tuner searches the cache in its simulation mode, the T4 results are validated against the schema that it ships, and
polars and pandas read the tables. A package that is absent is said and costs its own checks; nothing checked is a failure.
"""

import argparse
import importlib.util
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path


def searches(records):
    """The result of every configuration by search: its last final, else its last screening."""
    found = {}
    for record in records:
        if record["stage"] == "anchor":
            continue
        device = record["device"]
        search = json.dumps(
            [record["kernel_hash"], record["variant"], record["dtype"], record["problem"], record["compiler"]]
            + [device["runtime"], device["slug"], device["threads"], device["driver"]]
        )
        results = found.setdefault(search, {})
        key = ",".join(str(value) for value in record["config"].values())
        if not (key in results and results[key]["stage"] == "final" and record["stage"] == "screen"):
            results[key] = record
    return list(found.values())


def timed(record):
    return record["verdict"] in ("correct", "eliminated")


def milliseconds(record):
    return statistics.median(record["samples_ns"]) / 1e6


def check_kernel_tuner(cache, results):
    import kernel_tuner
    from kernel_tuner import util

    data = util.read_cache(str(cache), open_cache=False)
    arguments = util.infer_args_from_cache(data)
    present = set(data["cache"])
    # What is not recorded is no part of the space.
    names = data["tune_params_keys"]
    restrictions = util.FunctionConstraint(lambda *values: ",".join(map(str, values)) in present)
    for strategy in ["brute_force", "simulated_annealing"]:
        found, _ = kernel_tuner.tune_kernel(
            **arguments, lang="C", restrictions=restrictions, cache=str(cache), simulation_mode=True, quiet=True, verbose=False,
            strategy=strategy, strategy_options={} if strategy == "brute_force" else {"max_fevals": 10_000},
        )
        assert found, f"{strategy} found nothing in {cache}"
        if strategy != "brute_force":
            continue
        assert len(found) == len(results), f"{len(found)} of {len(results)} configurations"
        best = util.get_best_config(found, "time")
        least = min(milliseconds(r) for r in results.values() if timed(r))
        # On calls of microseconds several may share the least median, and each of them is the best.
        ours = [r["config"] for r in results.values() if timed(r) and milliseconds(r) == least]
        assert {name: best[name] for name in names} in ours, f"{best} is none of {ours}"
        assert abs(best["time"] - least) < 1e-9
        failed = sum("__error__" in r for r in found)
        assert failed == sum(not timed(r) for r in results.values())


def check_t4(path, results):
    import jsonschema
    import kernel_tuner.file_utils

    document = json.loads(path.read_text())
    version, schema = kernel_tuner.file_utils.output_file_schema("results")
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(document, schema)
    assert version == document["schema_version"] and len(document["results"]) == len(results)
    # A validator that lets anything through would pass the lines above.
    document["results"][0]["invalidity"] = "fine"
    try:
        jsonschema.validate(document, schema)
    except jsonschema.ValidationError:
        return
    raise AssertionError("the schema accepts anything")


def check_tables(parquet, csv, records):
    rows = sum(max(1, len(r["samples_ns"])) for r in records)
    total = sum(sum(r["samples_ns"]) for r in records)
    checked = []
    if importlib.util.find_spec("polars"):
        import polars

        for frame in (polars.read_parquet(parquet), polars.read_csv(csv, infer_schema_length=None)):
            assert (frame.height, frame["time_ns"].sum()) == (rows, total), f"{frame.height} rows"
            assert set(frame["verdict"]) == {r["verdict"] for r in records}
            assert frame["time_ns"].null_count() == sum(not r["samples_ns"] for r in records)
        checked.append("polars")
    if importlib.util.find_spec("pandas") and importlib.util.find_spec("pyarrow"):
        import pandas

        for frame in (pandas.read_parquet(parquet), pandas.read_csv(csv)):
            assert (len(frame), frame["time_ns"].sum()) == (rows, total), f"{len(frame)} rows"
        checked.append("pandas")
    return checked


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--forgefield", required=True, help="the binary")
    parser.add_argument("--records", required=True, help="records of any searches")
    args = parser.parse_args()
    records = [json.loads(line) for line in Path(args.records).read_text().splitlines()]
    expected = searches(records)
    checked = []
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)

        def export(what, to):
            subprocess.run([args.forgefield, "export", what, args.records, "-o", out / to], check=True, capture_output=True)
            return out / to

        # One search is written to the path itself.
        of = lambda path: [path] if path.is_file() else sorted(path.iterdir())
        keyed = {}
        for results in expected:
            for key, record in results.items():
                keyed.setdefault(
                    (record["variant"], record["dtype"], record["problem"]["n_atoms"], record["problem"]["n_edges"]), []
                ).append(results)
                break
        if importlib.util.find_spec("kernel_tuner"):
            caches = of(export("kernel-tuner", "caches"))
            assert len(caches) == len(expected), f"{len(caches)} caches of {len(expected)} searches"
            for cache in caches:
                data = json.loads(cache.read_text())
                keys = set(data["cache"])
                alike = [
                    results
                    for (variant, dtype, n_atoms, n_edges), group in keyed.items()
                    for results in group
                    if data["kernel_name"] == f"{variant}_{dtype}"
                    and data["problem_size"][:2] == [n_atoms, n_edges]
                    and set(results) == keys
                ]
                times = {key: entry["time"] for key, entry in data["cache"].items()}
                alike = [r for r in alike if all(times[k] == milliseconds(v) for k, v in r.items() if timed(v))]
                assert alike, f"{cache} is of no search of the records"
                if any(timed(r) for r in alike[0].values()):
                    check_kernel_tuner(cache, alike[0])
            checked.append(f"kernel_tuner ({len(caches)} caches)")
        else:
            print("kernel_tuner is absent: its simulation mode was not tried")
        if importlib.util.find_spec("kernel_tuner") and importlib.util.find_spec("jsonschema"):
            documents = of(export("t4", "t4"))
            assert len(documents) == len(expected)
            for document in documents:
                configs = [json.dumps(r["configuration"]) for r in json.loads(document.read_text())["results"]]
                alike = [r for r in expected if {json.dumps(v["config"]) for v in r.values()} == set(configs)]
                check_t4(document, alike[0])
            checked.append(f"T4's schema ({len(documents)} documents)")
        else:
            print("kernel_tuner or jsonschema is absent: T4 results were not validated")
        tables = check_tables(export("parquet", "samples.parquet"), export("csv", "samples.csv"), records)
        if not tables:
            print("polars and pandas with pyarrow are absent: the tables were not opened")
        checked += tables
    if not checked:
        sys.exit("nothing was checked")
    print(f"opened by {', '.join(checked)}: {len(expected)} searches, {len(records)} records")


if __name__ == "__main__":
    main()
