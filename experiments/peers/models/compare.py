"""PaiNN in forgefield against SchNetPack's, in one run, with the same weights, structures and threads.

Energies and forces of both are compared before anything is timed. The contenders then take turns, round after round, and the
median over all rounds counts. Neighbour lists are timed apart, on both sides.
"""

import argparse
import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import ase.build
import ase.io
import numpy as np
import schnetpack as spk
import torch
from ase import Atoms
from schnetpack import atomistic, transform

HERE = Path(__file__).resolve()
sys.path += [str(HERE.parents[1]), str(HERE.parents[3] / "python" / "tools")]
import schnetpack_golden as golden  # noqa: E402
from common import median_ms  # noqa: E402

YARDSTICK = HERE.parents[4] / "shared" / "yardsticks" / "painn_gaussian.safetensors"
MODEL = {"features": 128, "layers": 3, "n_rbf": 20, "cutoff": 5.0}
# Two programs that both round to f32: relative to the sum of |energies| of atoms, of which some cancel, and in eV/Å.
ENERGY_TOLERANCE, FORCE_TOLERANCE = 2e-5, 1e-4
QUANTITIES = ("energy", "energy_forces", "neighbours")


def benzenes(n, rng):
    def one():
        atoms = ase.build.molecule("C6H6")
        atoms.positions += rng.normal(scale=0.02, size=atoms.positions.shape)
        return atoms

    return [one() for _ in range(n)]


def water_box(rng, side=6):
    """side³ waters at 1 g/cm³ on a grid, each moved and turned at random."""
    molecule = ase.build.molecule("H2O")
    molecule.positions -= molecule.get_center_of_mass()
    # 18.015 g/mol at 1 g/cm³ are 29.915 Å³ a molecule.
    spacing = (18.015 / 0.602214076) ** (1 / 3)
    box = Atoms(cell=[side * spacing] * 3, pbc=True)
    for place in np.ndindex(side, side, side):
        q, r = np.linalg.qr(rng.normal(size=(3, 3)))
        turned = molecule.copy()
        turned.positions = molecule.positions @ (q * np.sign(np.diag(r))).T
        turned.positions += (np.array(place) + 0.5) * spacing + rng.uniform(-0.15, 0.15, size=3)
        box += turned
    return [box]


def structures(seed):
    rng = np.random.default_rng(seed)
    cases = {"benzene": benzenes(1, rng), "benzene-16": benzenes(16, rng), "benzene-64": benzenes(64, rng)}
    cases["water-648"] = water_box(rng)
    for frames in cases.values():
        for atoms in frames:
            # As they are written, so that both read the same.
            atoms.positions = np.round(atoms.positions, 8)
    return cases


def weights(folder, given):
    """The model file, the model, and where its weights are from."""
    if given or YARDSTICK.exists():
        path = Path(given) if given else YARDSTICK
        return path, golden.rebuild(*golden.read(path)), path.name
    print("no shared/yardsticks/painn_gaussian.safetensors beside the checkout: random weights", flush=True)
    model, path = golden.build(1, **MODEL), Path(folder) / "random.safetensors"
    torch.save(model, path.with_suffix(".model"))
    golden.convert(path.with_suffix(".model"), path)
    return path, model, "random, seed 1"


class SchNetPack:
    def __init__(self, model):
        rep, head = model.representation, model.output_modules[0]
        # Offsets are added in float64 on both sides.
        post = [transform.CastTo64(), *list(model.postprocessors)[1:]]
        self.with_forces = self.potential(rep, [head, atomistic.Forces()], post)
        self.without = self.potential(rep, [head], post)
        cutoff = float(rep.cutoff_fn.cutoff)
        self.converter = spk.interfaces.AtomsConverter(transform.MatScipyNeighborList(cutoff=cutoff), dtype=torch.float32)
        self.grad = False

    @staticmethod
    def potential(rep, outputs, post):
        return spk.model.NeuralNetworkPotential(rep, [atomistic.PairwiseDistances()], outputs, post).eval()

    def set(self, frames):
        self.frames = frames
        self.batch = self.converter(frames)

    def inputs(self):
        """Of one call: a model writes into the dictionary that it is given, and marks its positions."""
        return {name: tensor.detach() for name, tensor in self.batch.items()}

    def energy_forces(self):
        return self.with_forces(self.inputs())

    def energy(self):
        with torch.set_grad_enabled(self.grad):
            return self.without(self.inputs())

    def neighbours(self):
        return self.converter(self.frames)

    def choose(self, seconds):
        """Energy alone with or without the record that a gradient needs: whichever is faster here."""
        times = {}
        for self.grad in (True, False):
            times[self.grad] = median_ms(self.energy, seconds, "cpu")
        self.grad = min(times, key=times.get)

    def results(self):
        found = self.energy_forces()
        return found["energy"].detach().double().numpy().reshape(-1), found["forces"].detach().double().numpy()


def forgefield(args, *words):
    command = [args.forgefield, *map(str, words), "--runtime", "host"]
    environment = os.environ | {"RAYON_NUM_THREADS": str(args.threads)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)}: exit code {done.returncode}\n{done.stderr}")
    return done.stdout


def profile(args, file, model, copies):
    """forgefield's median times in ms by quantity, of as many copies of the first frame. Its evaluations include their lists."""
    options = ("--model", model, "--repeat", copies, "--seconds", args.seconds, "--json")
    report = json.loads(forgefield(args, "profile", file, *options))
    lists = sum(part["ms"] for part in report["parts"] if part["part"] == "neighbors")
    return {"energy": report["energy_ms"], "energy_forces": report["energy_forces_ms"], "neighbours": lists}


def predict(args, file, model, folder):
    """forgefield's energies [n_systems] in eV and forces [n_atoms, 3] in eV/Å."""
    out = Path(folder) / "predicted.extxyz"
    forgefield(args, "predict", file, "--model", model, "-o", out)
    frames = ase.io.read(out, ":")
    return np.array([a.get_potential_energy() for a in frames]), np.concatenate([a.get_forces() for a in frames])


def agreement(case, peer, args, file, model, folder):
    """How far the two are apart; ends where that is too far."""
    energies, forces = peer.results()
    other_energies, other_forces = predict(args, file, model, folder)
    if energies.shape != other_energies.shape or forces.shape != other_forces.shape:
        raise SystemExit(f"{case}: expected {forces.shape} forces, found {other_forces.shape}; nothing is timed")
    scale = np.maximum(np.abs(energies), [len(atoms) for atoms in peer.frames])
    apart = {
        "energy_relative": float(np.max(np.abs(energies - other_energies) / scale)),
        "forces_ev_per_a": float(np.max(np.abs(forces - other_forces))),
    }
    if not (apart["energy_relative"] <= ENERGY_TOLERANCE and apart["forces_ev_per_a"] <= FORCE_TOLERANCE):
        raise SystemExit(f"{case}: SchNetPack and forgefield differ by {apart}; nothing is timed")
    return apart


def measure(args, case, frames, peer, model, folder):
    file = Path(folder) / f"{case}.extxyz"
    ase.io.write(file, frames, format="extxyz")
    peer.set(frames)
    apart = agreement(case, peer, args, file, model, folder)
    contenders = {quantity: getattr(peer, quantity) for quantity in QUANTITIES}
    for function in contenders.values():
        for _ in range(3):
            function()
    peer.choose(args.seconds / 4)
    samples = {"forgefield": {q: [] for q in QUANTITIES}, "schnetpack": {q: [] for q in QUANTITIES}}
    for _ in range(args.rounds):
        for quantity, ms in profile(args, file, model, len(frames)).items():
            samples["forgefield"][quantity].append(ms)
        for quantity, function in contenders.items():
            samples["schnetpack"][quantity].append(median_ms(function, args.seconds, "cpu"))
    ms = {side: {q: statistics.median(values) for q, values in by.items()} for side, by in samples.items()}
    return {
        "case": case,
        "n_systems": len(frames),
        "n_atoms": sum(map(len, frames)),
        "n_edges": len(peer.batch[spk.properties.idx_i]),
        "ms": ms,
        "ratio": {q: ms["schnetpack"][q] / ms["forgefield"][q] for q in QUANTITIES},
        "rounds_ms": samples,
        "energy_without_grad": not peer.grad,
        "difference": apart,
    }


def table(result):
    lines = [
        f"{result['device']['name']}, {result['device']['arch']}, {result['threads']} threads, {result['date']}; forgefield "
        f"{result['forgefield']}, SchNetPack {result['schnetpack']}, PyTorch {result['torch']}. Times in ms; ÷ is SchNetPack's "
        f"over forgefield's. Weights: {result['weights']}.",
        "",
        "| case | atoms | edges | energy | SchNetPack | ÷ | energy and forces | SchNetPack | ÷ | list | SchNetPack | ÷ |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for r in result["rows"]:
        line = f"| {r['case']} | {r['n_atoms']} | {r['n_edges']} |"
        for q in QUANTITIES:
            line += f" {r['ms']['forgefield'][q]:.3f} | {r['ms']['schnetpack'][q]:.2f} | {r['ratio'][q]:.1f} |"
        lines.append(line)
    return "\n".join(lines) + "\n"


def host(args):
    """forgefield's version and its description of this machine."""

    def said(*words):
        return subprocess.run([args.forgefield, *words], check=True, capture_output=True, text=True).stdout

    devices = json.loads(said("devices", "--json"))["devices"]
    return said("--version").split()[-1], next(d for d in devices if d["runtime"] == "host")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="where results.json and results.md go")
    parser.add_argument("--forgefield", default="target/release/forgefield")
    parser.add_argument("--model", help="a PaiNN's file, instead of the yardstick")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="of samples per contender, quantity and round")
    parser.add_argument("--seed", type=int, default=1, help="of the structures")
    parser.add_argument("--case", nargs="*", help="only these")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(args.threads)
    cases = structures(args.seed)
    unknown = sorted(set(args.case or []) - set(cases))
    if unknown:
        raise SystemExit(f"--case: expected some of {', '.join(cases)}, found {', '.join(unknown)}")
    version, device = host(args)
    load = os.getloadavg()[0]
    if load > 0.5:
        # PyTorch's threads wait for each other at the end of each operation, by seconds where others hold the cores.
        print(f"the load of this machine is {load:.1f}, expected at most 0.5: these times are none to keep", file=sys.stderr)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        path, model, source = weights(folder, args.model)
        peer = SchNetPack(model)
        for case, frames in cases.items():
            if args.case and case not in args.case:
                continue
            rows.append(measure(args, case, frames, peer, path, folder))
            print(json.dumps(rows[-1]), flush=True)
            result = {
                "threads": args.threads,
                "device": device,
                "forgefield": version,
                "schnetpack": spk.__version__,
                "torch": torch.__version__,
                "python": platform.python_version(),
                "date": datetime.date.today().isoformat(),
                "weights": source,
                "load_before": load,
                "rows": rows,
            }
            (args.out / "results.json").write_text(json.dumps(result, indent=2) + "\n")
            (args.out / "results.md").write_text(table(result))


if __name__ == "__main__":
    main()
