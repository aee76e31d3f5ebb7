"""forgefield's message step against the same step in PyTorch, in one run, on the same inputs and threads.

forgefield writes the inputs of each case and its own outputs; PyTorch's outputs are compared with those before anything is
timed. The contenders then take turns, round after round, and the median over all rounds counts.
"""

import argparse
import json
import platform
import statistics
import sys
import tempfile
from pathlib import Path

import torch

sys.path.append(str(Path(__file__).resolve().parent.parent))
from common import bench, cfconv, load, median_ms, painn  # noqa: E402

# Case -> the case whose function PyTorch computes: a table is forgefield's own way to the same filter.
CASES = {
    "painn-linear": "painn-linear",
    "painn-tabulated": "painn-linear",
    "painn-linear-f64": "painn-linear-f64",
    "painn-linear-64-features": "painn-linear-64-features",
    "painn-linear-256-features": "painn-linear-256-features",
    "painn-linear-degree-12": "painn-linear-degree-12",
    "painn-linear-degree-120": "painn-linear-degree-120",
    "painn-linear-benzene": "painn-linear-benzene",
    "painn-tabulated-benzene": "painn-linear-benzene",
    "schnet-mlp": "schnet-mlp",
    "schnet-tabulated": "schnet-mlp",
}
# ‖out − ref‖/‖ref‖ between two programs that both round to this type.
TOLERANCE = {torch.float32: 2e-5, torch.float64: 1e-11}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="where results.json and results.md go")
    parser.add_argument("--forgefield", default="target/release/forgefield")
    parser.add_argument("--runtime", default="host", help="forgefield's; with cuda, PyTorch runs there too")
    parser.add_argument("--tables", help="tuning tables that forgefield reads")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.0, help="of samples per contender and round")
    parser.add_argument("--structure", nargs="*", default=[], help="molecules whose latency is compared too")
    parser.add_argument("--case", nargs="*", help="only these")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(args.threads)
    device = "cuda" if args.runtime == "cuda" else "cpu"

    cases = dict(CASES)
    for structure in args.structure:
        name = Path(structure).stem
        cases |= {f"painn-linear-{name}": f"painn-linear-{name}", f"painn-tabulated-{name}": f"painn-linear-{name}"}
    cases = {case: same for case, same in cases.items() if not args.case or case in args.case}

    rows, host = [], {}
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        for case, same in cases.items():
            names = sorted({case, same})
            host = bench(args, names, "--seconds", "0.1", "--export", folder)
            tensors = load(f"{folder}/{same}.in.safetensors", device)
            expected = list(load(f"{folder}/{case}.out.safetensors", device).items())
            row_ptr = tensors["row_ptr"].long()
            receiver = torch.arange(len(row_ptr) - 1, device=device).repeat_interleave(row_ptr.diff())
            tensors["sender"] = tensors["sender"].long()
            tensors["r_cut"] = float(tensors["r_cut"][0])
            step = painn if "mu" in tensors else cfconv
            # On a GPU with CUDA graphs: the most that PyTorch has against the cost of launches.
            compiled = torch.compile(step, mode="reduce-overhead" if device == "cuda" else "default")
            outputs = dict(zip(("dq", "dmu") if step is painn else ("y",), step(tensors, receiver), strict=True))
            error = max(float((outputs[n] - e).norm() / e.norm()) for n, e in expected)
            if not error <= TOLERANCE[expected[0][1].dtype]:
                raise SystemExit(f"{case}: PyTorch and forgefield differ by {error:.2e}; nothing is timed")
            for function in (step, compiled):
                for _ in range(3):
                    function(tensors, receiver)
            samples = {"forgefield": [], "eager": [], "compiled": []}
            for _ in range(args.rounds):
                report = bench(args, [case], "--seconds", str(args.seconds))
                samples["forgefield"].append(report["rows"][0]["timing"]["median_ns"] / 1e6)
                samples["eager"].append(median_ms(lambda: step(tensors, receiver), args.seconds, device))
                samples["compiled"].append(median_ms(lambda: compiled(tensors, receiver), args.seconds, device))
            row = report["rows"][0]
            ms = {name: statistics.median(values) for name, values in samples.items()}
            rows.append(
                {
                    "case": case,
                    "n_atoms": row["problem"]["n_atoms"],
                    "n_edges": row["problem"]["n_edges"],
                    "dtype": row["dtype"],
                    "ms": ms,
                    "rounds_ms": samples,
                    "floor_ms": row["floor_ns"] and row["floor_ns"] / 1e6,
                    "bound": row["bound"],
                    "memory": row["memory"],
                    "difference": error,
                    "ratio_eager": ms["eager"] / ms["forgefield"],
                    "ratio_compiled": ms["compiled"] / ms["forgefield"],
                }
            )
            print(json.dumps(rows[-1]), flush=True)
            result = {
                "threads": args.threads,
                "device": host["device"],
                "peak": host["peak"],
                "forgefield": host["forgefield"],
                "torch": torch.__version__,
                "python": platform.python_version(),
                "rows": rows,
            }
            (args.out / "results.json").write_text(json.dumps(result, indent=2) + "\n")
            (args.out / "results.md").write_text(table(result))


def table(result):
    peak = "" if result["peak"] is None else " Measured peak: {:.0f} GFLOP/s in f32, {:.0f} in f64, {:.1f} GB/s copied.".format(
        *(rate / 1e9 for rate in result["peak"])
    )
    lines = [
        f"{result['device']['name']}, {result['device']['arch']}, {result['threads']} threads; PyTorch {result['torch']}.{peak}",
        "",
        "| case | atoms | edges | forgefield ms | × floor | PyTorch eager ms | compiled ms | eager ÷ | compiled ÷ |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for r in result["rows"]:
        ms = r["ms"]
        floor = f"{ms['forgefield'] / r['floor_ms']:.2f} ({r['bound']})" if r["floor_ms"] else "-"
        lines.append(
            f"| {r['case']} | {r['n_atoms']} | {r['n_edges']} | {ms['forgefield']:.3f} | {floor} | "
            f"{ms['eager']:.3f} | {ms['compiled']:.3f} | {r['ratio_eager']:.1f} | {r['ratio_compiled']:.1f} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
