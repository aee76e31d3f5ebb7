"""forgefield's gradients of a message step against PyTorch's autograd, in one run, on the same inputs and threads.

forgefield writes the inputs of each case, the gradients in the outputs and its own results; PyTorch's results are compared with
those before anything is timed. The contenders then take turns, round after round, and the median over all rounds counts.

Three quantities per case: the backward alone, forward and backward together (what an energy with forces, or a training step
without forces, needs), and the second backward alone (what a loss on forces needs besides). PyTorch's backwards alone are
timed on a graph that is kept; `torch.compile` compiles forward and backward together and has no second backward.
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

# Case -> (the case whose forward it differentiates, the case whose function PyTorch computes).
CASES = {
    "painn-linear-forces": ("painn-linear", "painn-linear-forces"),
    "painn-tabulated-forces": ("painn-tabulated", "painn-linear-forces"),
    "painn-linear-gradients": ("painn-linear", "painn-linear-gradients"),
    "painn-linear-double": ("painn-linear", "painn-linear-double"),
    "schnet-mlp-forces": ("schnet-mlp", "schnet-mlp-forces"),
    "schnet-tabulated-forces": ("schnet-tabulated", "schnet-mlp-forces"),
    "schnet-mlp-gradients": ("schnet-mlp", "schnet-mlp-gradients"),
    "schnet-mlp-double": ("schnet-mlp", "schnet-mlp-double"),
}
# ‖out − ref‖/‖ref‖ between two programs that both round to f32.
TOLERANCE = 1e-4


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="where results.json and results.md go")
    parser.add_argument("--forgefield", default="target/release/forgefield")
    parser.add_argument("--runtime", default="host", help="forgefield's; with cuda, PyTorch runs there too")
    parser.add_argument("--tables", help="tuning tables that forgefield reads")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.0, help="of samples per contender and round")
    parser.add_argument("--case", nargs="*", help="only these")
    args = parser.parse_args()
    args.structure = []
    args.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(args.threads)
    device = "cuda" if args.runtime == "cuda" else "cpu"
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for case, (forward, same) in CASES.items():
            if args.case and case not in args.case:
                continue
            host = bench(args, sorted({case, same}), "--seconds", "0.1", "--export", folder)
            rows.append(measure(args, folder, case, forward, same, device))
            print(json.dumps(rows[-1]), flush=True)
            result = {
                "threads": args.threads,
                "device": host["device"],
                "forgefield": host["forgefield"],
                "torch": torch.__version__,
                "python": platform.python_version(),
                "rows": rows,
            }
            (args.out / "results.json").write_text(json.dumps(result, indent=2) + "\n")
            (args.out / "results.md").write_text(table(result))


def measure(args, folder, case, forward, same, device):
    tensors = load(f"{folder}/{same}.in.safetensors", device)
    expected = load(f"{folder}/{case}.out.safetensors", device)
    row_ptr = tensors["row_ptr"].long()
    receiver = torch.arange(len(row_ptr) - 1, device=device).repeat_interleave(row_ptr.diff())
    tensors["sender"] = tensors["sender"].long()
    tensors["r_cut"] = float(tensors["r_cut"][0])
    is_painn = "mu" in tensors
    step = painn if is_painn else cfconv
    outputs = ("dq", "dmu") if is_painn else ("y",)
    nodes = "s" if is_painn else "x"
    # By the names of forgefield's results.
    wanted = {"nodes": nodes, "vectors": "mu", "edge_vec": "edge_vec"} | {n: n for n in ("A", "b", "A1", "b1", "A2", "b2")}
    second = "tangent.edge_vec" in tensors
    names = [wanted[n] for n in expected if n in wanted and expected[n].numel()]
    leaves = [tensors[n].requires_grad_() for n in names]
    grad = [tensors[f"grad.{n}"].requires_grad_(second) for n in outputs]

    def gradients(function, keep=False):
        return torch.autograd.grad(function(tensors, receiver), leaves, grad, create_graph=keep)

    def eager():
        return gradients(step)

    if second:
        inputs = [nodes] + (["mu"] if is_painn else []) + ["edge_vec"]
        first = dict(zip(names, gradients(step, keep=True), strict=True))
        along = [tensors[f"tangent.{n}"] for n in inputs]
        of = [first[n] for n in inputs]

        def alone():
            return torch.autograd.grad(of, grad + leaves, along, retain_graph=True, materialize_grads=True)

        found = dict(zip([f"grad.{n}" for n in ("nodes", "vectors")[: len(grad)]] + names, alone(), strict=True))
        expected = {n: e for n, e in expected.items() if e.numel()}
        # The rate of an output is known to be right; what is compared is what both computed.
    else:
        kept = step(tensors, receiver)

        def alone():
            return torch.autograd.grad(kept, leaves, grad, retain_graph=True)

        found = dict(zip(names, alone(), strict=True))
        expected = {n: e for n, e in expected.items() if e.numel()}
    error = 0.0
    for name, values in expected.items():
        other = found[wanted.get(name, name)].flatten()
        error = max(error, float((other - values).norm() / values.norm()))
    if not error <= TOLERANCE:
        raise SystemExit(f"{case}: PyTorch and forgefield differ by {error:.2e}; nothing is timed")

    contenders = {"eager_alone": alone}
    if not second:
        compiled_step = torch.compile(step)
        contenders |= {"eager": eager, "compiled": lambda: gradients(compiled_step)}
    for function in contenders.values():
        for _ in range(2):
            function()
    samples = {name: [] for name in ("forward", "backward", *contenders)}
    for _ in range(args.rounds):
        report = bench(args, [forward, case], "--seconds", str(args.seconds))
        times = {row["case"]: row["timing"]["median_ns"] / 1e6 for row in report["rows"]}
        samples["forward"].append(times[forward])
        samples["backward"].append(times[case])
        for name, function in contenders.items():
            samples[name].append(median_ms(function, args.seconds, device))
    ms = {name: statistics.median(values) for name, values in samples.items()}
    row = next(row for row in report["rows"] if row["case"] == case)
    both = ms["forward"] + ms["backward"]
    return {
        "case": case,
        "n_atoms": row["problem"]["n_atoms"],
        "n_edges": row["problem"]["n_edges"],
        "ms": ms,
        "rounds_ms": samples,
        "memory": row["memory"],
        "difference": error,
        "over_forward": ms["backward"] / ms["forward"],
        "ratio_alone": ms["eager_alone"] / ms["backward"],
        "ratio_eager": None if second else ms["eager"] / both,
        "ratio_compiled": None if second else ms["compiled"] / both,
    }


def table(result):
    lines = [
        f"{result['device']['name']}, {result['device']['arch']}, {result['threads']} threads; PyTorch {result['torch']}. "
        "Times in ms; `both` is forward and backward.",
        "",
        "| case | forward | backward | ÷ forward | eager backward | ÷ | both | eager both | ÷ | compiled both | ÷ |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for r in result["rows"]:
        ms = r["ms"]
        line = (
            f"| {r['case']} | {ms['forward']:.1f} | {ms['backward']:.1f} | {r['over_forward']:.2f} | "
            f"{ms['eager_alone']:.0f} | {r['ratio_alone']:.1f} |"
        )
        if r["ratio_eager"] is None:
            lines.append(line + " - | - | - | - | - |")
        else:
            both = ms["forward"] + ms["backward"]
            lines.append(
                line + f" {both:.1f} | {ms['eager']:.0f} | {r['ratio_eager']:.1f} | {ms['compiled']:.0f} | {r['ratio_compiled']:.1f} |"
            )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
