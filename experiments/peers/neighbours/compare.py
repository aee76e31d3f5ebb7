"""forgefield's neighbour lists against those of vesin, matscipy and ASE, in one run, on the same atoms.

forgefield writes the atoms of each case and its own list; the peers' pairs are compared with those, as exact sets of
(i, j, S), before anything is timed. The contenders then take turns, round after round, and the median over all rounds counts.
Everyone makes full lists with indices, shifts and vectors, into memory of its own.
"""

import argparse
import importlib.metadata
import json
import platform
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import ase
import numpy as np
from ase.neighborlist import primitive_neighbor_list
from matscipy.neighbours import neighbour_list
from vesin import NeighborList

CASES = [
    "list-3000-atoms",
    "list-30000-atoms",
    "list-100000-atoms",
    "list-64-atoms",
    "list-512-systems-of-64",
]
# More atoms than this take ASE minutes.
MOST_FOR_ASE = 3_000


def load(path):
    """A safetensors file as numpy arrays."""
    data = Path(path).read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    dtypes = {"F64": np.float64, "U32": np.uint32, "I32": np.int32}
    arrays = {}
    for name, entry in json.loads(data[8:start]).items():
        if name != "__metadata__":
            begin, end = entry["data_offsets"]
            flat = np.frombuffer(data[start + begin : start + end], dtype=dtypes[entry["dtype"]])
            arrays[name] = flat.reshape(entry["shape"])
    return arrays


def vesin(cutoff, atoms):
    list_ = NeighborList(cutoff=cutoff, full_list=True)
    return list_.compute(points=atoms.positions, box=np.asarray(atoms.cell), periodic=True, quantities="ijSD")


def matscipy(cutoff, atoms):
    return neighbour_list("ijSD", atoms=atoms, cutoff=cutoff)


def ase_(cutoff, atoms):
    # ASE's vectors are x_j + S·H − x_i as well.
    return primitive_neighbor_list("ijSD", atoms.pbc, np.asarray(atoms.cell), atoms.positions, cutoff)


PEERS = {"vesin": vesin, "matscipy": matscipy, "ase": ase_}


def keys(i, j, shift):
    """Pairs in one order, one row each."""
    rows = np.column_stack([np.asarray(i, np.int64), np.asarray(j, np.int64), np.asarray(shift, np.int64)])
    return rows[np.lexsort(rows.T[::-1])]


def expected(arrays, system):
    """forgefield's pairs of one system, counted from its first atom."""
    first, last = arrays["system_ptr"][system : system + 2].astype(np.int64)
    row_ptr = arrays["row_ptr"].astype(np.int64)[first : last + 1]
    edges = slice(row_ptr[0], row_ptr[-1])
    i = np.repeat(np.arange(last - first), np.diff(row_ptr))
    return keys(i, arrays["sender"][edges].astype(np.int64) - first, arrays["shift"][edges])


def systems(arrays):
    for system, (first, last) in enumerate(zip(arrays["system_ptr"][:-1], arrays["system_ptr"][1:], strict=True)):
        atoms = ase.Atoms(positions=arrays["positions"][first:last], cell=arrays["cell"][system], pbc=True)
        yield atoms


def bench(args, case, seconds, *more):
    command = [args.forgefield, "bench", "--quiet", "--runtime", "host", "--threads", str(args.threads)]
    command += ["--case", case, "--seconds", str(seconds), "--json", *more]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def median_ms(function, seconds):
    samples = []
    begin = time.perf_counter()
    while len(samples) < 3 or time.perf_counter() - begin < seconds:
        start = time.perf_counter()
        function()
        samples.append(1e3 * (time.perf_counter() - start))
    return statistics.median(samples)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="where results.json and results.md go")
    parser.add_argument("--forgefield", default="target/release/forgefield")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1.0, help="of samples per contender and round")
    parser.add_argument("--case", nargs="*", default=CASES, help="only these")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    versions = {name: importlib.metadata.version(name) for name in PEERS}
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for case in args.case:
            bench(args, case, 0.1, "--export", folder)
            arrays = load(f"{folder}/{case}.safetensors")
            cutoff = float(arrays["cutoff"][0])
            batch = list(systems(arrays))
            peers = {n: f for n, f in PEERS.items() if n != "ase" or len(arrays["positions"]) <= MOST_FOR_ASE}
            for name, peer in peers.items():
                for system, atoms in enumerate(batch):
                    i, j, shift, vectors = peer(cutoff, atoms)
                    if not np.array_equal(keys(i, j, shift), expected(arrays, system)):
                        raise SystemExit(f"{case}: {name} and forgefield list other pairs of system {system}; nothing is timed")
                    moved = atoms.positions[j] - atoms.positions[i] + shift @ np.asarray(atoms.cell)
                    if not np.allclose(vectors, moved, atol=1e-9):
                        raise SystemExit(f"{case}: the vectors of {name} are of another convention; nothing is timed")
            samples = {name: [] for name in ["forgefield", *peers]}
            for _ in range(args.rounds):
                report = bench(args, case, args.seconds)
                samples["forgefield"].append(report["rows"][0]["timing"]["median_ns"] / 1e6)
                for name, peer in peers.items():
                    samples[name].append(median_ms(lambda: [peer(cutoff, atoms) for atoms in batch], args.seconds))
            row = report["rows"][0]
            ms = {name: statistics.median(values) for name, values in samples.items()}
            rows.append(
                {
                    "case": case,
                    "n_atoms": row["problem"]["n_atoms"],
                    "n_systems": row["problem"]["n_systems"],
                    "n_edges": row["problem"]["n_edges"],
                    "ms": ms,
                    "rounds_ms": samples,
                    "floor_ms": row["floor_ns"] and row["floor_ns"] / 1e6,
                    "memory": row["memory"],
                    "ratio": {name: ms[name] / ms["forgefield"] for name in peers},
                }
            )
            print(json.dumps(rows[-1]), flush=True)
            result = {
                "threads": args.threads,
                "device": report["device"],
                "peak": report["peak"],
                "forgefield": report["forgefield"],
                "peers": versions,
                "python": platform.python_version(),
                "rows": rows,
            }
            (args.out / "results.json").write_text(json.dumps(result, indent=2) + "\n")
            (args.out / "results.md").write_text(table(result))


def table(result):
    peers = ", ".join(f"{name} {version}" for name, version in result["peers"].items())
    lines = [
        f"{result['device']['name']}, {result['device']['arch']}, {result['threads']} threads for forgefield, one for the "
        f"others, which have no more; {peers}. Copied: {result['peak'][2] / 1e9:.1f} GB/s.",
        "",
        "| case | atoms | edges | forgefield ms | × floor | memory | vesin ms | matscipy ms | ASE ms | vesin ÷ | matscipy ÷ |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for r in result["rows"]:
        ms = r["ms"]
        floor = f"{ms['forgefield'] / r['floor_ms']:.2f}" if r["floor_ms"] else "-"
        ase_ms = f"{ms['ase']:.2f}" if "ase" in ms else "-"
        memory = "-" if r["memory"] is None else f"{r['memory']:.2f}"
        lines.append(
            f"| {r['case']} | {r['n_atoms']} | {r['n_edges']} | {ms['forgefield']:.3f} | {floor} | {memory} | "
            f"{ms['vesin']:.3f} | {ms['matscipy']:.3f} | {ase_ms} | {r['ratio']['vesin']:.1f} | {r['ratio']['matscipy']:.1f} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
