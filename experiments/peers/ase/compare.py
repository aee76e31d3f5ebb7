"""Steps of velocity Verlet in ASE with forgefield's calculator and with SchNetPack's, in one run, with the same weights and threads.

Energies, forces and stress of both are compared before anything is timed. The calculators then take turns, round after round, and
the median over all rounds counts. What ASE takes itself is timed with a calculator that computes nothing.
"""

import argparse
import datetime
import json
import os
import statistics
import sys
import tempfile
from pathlib import Path
from time import perf_counter

HERE = Path(__file__).resolve()
YARDSTICK = HERE.parents[4] / "shared" / "yardsticks" / "painn_gaussian.safetensors"


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="folder of results.json")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="of a calculator in a round")
    parser.add_argument("--model", type=Path, default=YARDSTICK, help="PaiNN or SchNet, as safetensors")
    return parser.parse_args()


args = arguments()
if not args.model.exists():
    raise SystemExit(f"{args.model.name} is not beside this repository: --model FILE names another")
# Both read it as they start.
os.environ["RAYON_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = str(args.threads)

import ase.build  # noqa: E402
import numpy as np  # noqa: E402
import schnetpack as spk  # noqa: E402
import torch  # noqa: E402
from ase import Atoms, units  # noqa: E402
from ase.calculators.calculator import Calculator as Base  # noqa: E402
from ase.calculators.calculator import all_changes  # noqa: E402
from ase.md.verlet import VelocityVerlet  # noqa: E402
from schnetpack.transform import MatScipyNeighborList  # noqa: E402

import forgefield  # noqa: E402

sys.path.append(str(HERE.parents[3] / "python" / "tools"))
import schnetpack_golden as golden  # noqa: E402

torch.set_num_threads(args.threads)
# Two programs that both round to f32: relative to the sum of |energies| of atoms, and in eV/Å.
ENERGY_TOLERANCE, FORCE_TOLERANCE = 2e-5, 1e-4


class Nothing(Base):
    implemented_properties = ["energy", "forces"]

    def calculate(self, atoms=None, properties=None, system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        self.results = {"energy": 0.0, "forces": np.zeros((len(atoms), 3))}


def waters(side, rng):
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
    return box


def schnetpack(model, folder):
    path = Path(folder) / "best_model"
    torch.save(model, path)
    cutoff = float(model.representation.cutoff_fn.cutoff)
    keys = {"energy_key": "energy", "force_key": "forces", "energy_unit": "eV", "position_unit": "Ang"}
    return spk.interfaces.SpkCalculator(str(path), MatScipyNeighborList(cutoff=cutoff), **keys)


def microseconds(atoms, calc):
    """Of a step of molecular dynamics; atoms do not move from where they are."""
    atoms = atoms.copy()
    atoms.calc = calc
    # Untrained weights push atoms anywhere: steps so small that nothing moves by more than rounding.
    dynamics = VelocityVerlet(atoms, 1e-6 * units.fs)
    dynamics.run(1)
    steps, begun = 0, perf_counter()
    while perf_counter() - begun < args.seconds:
        dynamics.run(1)
        steps += 1
    return (perf_counter() - begun) / steps * 1e6


def alone(atoms, model):
    """Of the model alone, on the same arrays, with its lists kept as the calculator keeps them."""
    kept = forgefield.Neighbors()
    given = atoms.positions, atoms.numbers, atoms.cell.array, atoms.pbc
    steps, begun = 0, perf_counter()
    while perf_counter() - begun < args.seconds:
        for _ in range(5):
            model.compute(*given, per_atom=True, neighbors=kept)
        steps += 5
    return (perf_counter() - begun) / steps * 1e6


def main():
    rng = np.random.default_rng(1)
    cases = {
        "benzene": ase.build.molecule("C6H6"),
        "ethanol": ase.build.molecule("CH3CH2OH"),
        "water-192": waters(4, rng),
        "water-648": waters(6, rng),
    }
    model = forgefield.Model.load(args.model)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        theirs = schnetpack(golden.rebuild(*golden.read(args.model)), folder)
        ours, nothing = forgefield.Calculator(model), Nothing()
        for name, atoms in cases.items():
            scale = abs(model.compute(atoms.positions, atoms.numbers, atoms.cell.array, atoms.pbc, per_atom=True)["energies"]).sum()
            energies = [calc.get_potential_energy(atoms) for calc in (ours, theirs)]
            forces = [calc.get_forces(atoms) for calc in (ours, theirs)]
            assert abs(energies[0] - energies[1]) <= ENERGY_TOLERANCE * scale, (name, energies)
            assert abs(forces[0] - forces[1]).max() <= FORCE_TOLERANCE * max(1.0, abs(forces[1]).max()), name
            times = {"ase": [], "forgefield": [], "schnetpack": [], "model": []}
            for _ in range(args.rounds):
                for key, calc in [("ase", nothing), ("forgefield", ours), ("schnetpack", theirs)]:
                    times[key].append(microseconds(atoms, calc))
                times["model"].append(alone(atoms, model))
            row = {"case": name, "atoms": len(atoms)} | {key: statistics.median(each) for key, each in times.items()}
            row["ratio"] = row["schnetpack"] / row["forgefield"]
            row["overhead"] = row["forgefield"] - row["model"] - row["ase"]
            rows.append(row)
            print({key: round(value, 1) if isinstance(value, float) else value for key, value in row.items()}, flush=True)
    args.out.mkdir(parents=True, exist_ok=True)
    about = {"date": datetime.date.today().isoformat(), "model": args.model.name, "threads": args.threads}
    about |= {"rounds": args.rounds, "torch": torch.__version__, "schnetpack": "2.1.1", "unit": "microseconds of a step"}
    (args.out / "results.json").write_text(json.dumps(about | {"rows": rows}, indent=1) + "\n")


main()
