"""Steps of training a PaiNN in forgefield against SchNetPack's, in one run, on the same frames, batches and threads.

A step is energies and forces of a batch, the gradient of their loss in all weights, and AdamW. SchNetPack's batches are tensors with
their neighbour lists before anything is timed; forgefield's steps are those of `forgefield train`, everything included.
"""

import argparse
import datetime
import json
import os
import platform
import resource
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import ase.io
import numpy as np
import schnetpack as spk
import torch
from schnetpack import atomistic, transform

CASES = {"ethanol": 10, "silicon": 4}


def read(path, frames):
    """Frames with their energies and forces in eV and Å."""
    found = ase.io.read(path, f":{frames}")
    for atoms in found:
        atoms.info["E"], atoms.arrays["F"] = atoms.get_potential_energy(), atoms.get_forces()
        atoms.calc = None
    return found


class SchNetPack:
    def __init__(self, args, frames, batch):
        torch.manual_seed(0)
        radial = spk.nn.GaussianRBF(n_rbf=20, cutoff=args.cutoff)
        painn = spk.representation.PaiNN(
            n_atom_basis=args.features, n_interactions=args.layers, radial_basis=radial,
            cutoff_fn=spk.nn.CosineCutoff(args.cutoff),
        )
        outputs = [atomistic.Atomwise(n_in=args.features, output_key="energy"), atomistic.Forces()]
        self.model = spk.model.NeuralNetworkPotential(painn, [atomistic.PairwiseDistances()], outputs).train()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-4)
        lists = transform.MatScipyNeighborList(cutoff=args.cutoff)
        converter = spk.interfaces.AtomsConverter(lists, dtype=torch.float32)
        mean = np.mean([atoms.info["E"] / len(atoms) for atoms in frames])
        self.batches = []
        for first in range(0, len(frames) - batch + 1, batch):
            part = frames[first : first + batch]
            sizes = torch.tensor([len(atoms) for atoms in part], dtype=torch.float32)
            energies = torch.tensor([atoms.info["E"] - mean * len(atoms) for atoms in part], dtype=torch.float32)
            forces = torch.tensor(np.concatenate([atoms.arrays["F"] for atoms in part]), dtype=torch.float32)
            self.batches.append((converter(part), sizes, energies, forces))
        self.at = 0

    def step(self):
        inputs, sizes, energies, forces = self.batches[self.at % len(self.batches)]
        self.at += 1
        self.optimizer.zero_grad()
        found = self.model({name: tensor.detach() for name, tensor in inputs.items()})
        per_atom = (found["energy"].reshape(-1) - energies) / sizes
        loss = 100.0 * (per_atom**2).mean() + ((found["forces"] - forces) ** 2).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 10.0)
        self.optimizer.step()

    def steps_per_s(self, seconds):
        begin, steps = time.perf_counter(), 0
        while steps < 3 or time.perf_counter() - begin < seconds:
            self.step()
            steps += 1
        return steps / (time.perf_counter() - begin)


def forgefield(args, file, batch, seconds, rate):
    """Steps per second of so long a training, and its peak memory in MiB."""
    with tempfile.TemporaryDirectory() as folder:
        frames = len(ase.io.read(file, ":"))
        epochs = max(1, round(seconds * rate / (frames / batch)))
        words = [args.forgefield, "train", "--train", file, "--energy-unit", "eV", "--features", args.features]
        words += ["--layers", args.layers, "--cutoff", args.cutoff, "--batch", batch, "--epochs", epochs]
        words += ["--threads", args.threads, "-o", f"{folder}/model.safetensors", "--json"]
        environment = os.environ | {"RAYON_NUM_THREADS": str(args.threads)}
        with open(f"{folder}/out", "w+") as out, open(f"{folder}/err", "w+") as err:
            process = subprocess.Popen([str(word) for word in words], stdout=out, stderr=err, env=environment)
            # What the system keeps of a child that has ended counts the memory of this process, of which it was a copy.
            peak = 0.0
            while process.poll() is None:
                peak = max(peak, high_water(process.pid))
                time.sleep(0.02)
            if process.returncode != 0:
                err.seek(0)
                raise SystemExit(f"{words}: exit code {process.returncode}\n{err.read()}")
            out.seek(0)
            return json.loads(out.read())["steps_per_s"], peak


def high_water(pid):
    """The most memory that a process had so far, MiB."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    found = [line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:")]
    name = next((line.split()[1] for line in status.splitlines() if line.startswith("Name:")), "")
    # Before it is another program it is a copy of this one.
    return int(found[0]) / 1024 if found and name.startswith("forgefield") else 0.0


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="where results.json goes")
    parser.add_argument("--data", type=Path, required=True, help="folder of ethanol_train.extxyz and silicon_train.extxyz")
    parser.add_argument("--forgefield", default="target/release/forgefield")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each side in a round")
    parser.add_argument("--features", type=int, default=128)
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--cutoff", type=float, default=5.0)
    parser.add_argument("--case", nargs="*", default=list(CASES), choices=list(CASES))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(args.threads)
    load, rows = os.getloadavg()[0], []
    for case in args.case:
        file, batch = args.data / f"{case}_train.extxyz", CASES[case]
        peer = SchNetPack(args, read(file, 100), batch)
        peer.steps_per_s(1.0)
        samples = {"forgefield": [], "schnetpack": []}
        guess = 20.0
        for _ in range(args.rounds):
            guess, memory = forgefield(args, file, batch, args.seconds, guess)
            samples["forgefield"].append(guess)
            samples["schnetpack"].append(peer.steps_per_s(args.seconds))
        medians = {side: statistics.median(values) for side, values in samples.items()}
        rows.append({
            "case": case,
            "batch": batch,
            "steps_per_s": medians,
            "ratio": medians["forgefield"] / medians["schnetpack"],
            "rounds": samples,
            "forgefield_peak_mib": memory,
            "schnetpack_peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        })
        print(json.dumps(rows[-1]), flush=True)
    result = {
        "threads": args.threads,
        "features": args.features,
        "layers": args.layers,
        "schnetpack": spk.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "machine": platform.processor() or platform.machine(),
        "date": datetime.date.today().isoformat(),
        "load_before": load,
        "rows": rows,
    }
    (args.out / "results.json").write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
