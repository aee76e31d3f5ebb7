"""Steps of velocity Verlet of many replicas of a molecule: `forgefield md`, SchNetPack's MD, torch-sim's, and a plain loop.

All have the same weights, start, time step and threads. Energies and forces of all are compared before anything is timed. Then they
take turns, round after round, and the median over the rounds counts. Of a box of water the share of `md`'s time that is not the
model's is asked of `md` itself.
"""

import argparse
import datetime
import importlib.metadata
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter

HERE = Path(__file__).resolve()
YARDSTICKS = HERE.parents[4] / "shared" / "yardsticks"


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="folder of results.json")
    parser.add_argument("--forgefield", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=100, help="of a peer in a round; forgefield takes ten times as many")
    parser.add_argument("--replicas", type=int, default=64)
    parser.add_argument("--model", type=Path, default=YARDSTICKS / "ethanol_painn.safetensors", help="PaiNN or SchNet")
    parser.add_argument("--structure", type=Path, default=YARDSTICKS / "ethanol_painn.extxyz", help="its first frame is taken")
    parser.add_argument("--no-water", action="store_true", help="leave out the integrator's share")
    return parser.parse_args()


args = arguments()
for path in (args.model, args.structure):
    if not path.exists():
        raise SystemExit(f"{path.name} is not beside this repository: --model and --structure name others")
os.environ["RAYON_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = str(args.threads)

import io  # noqa: E402

import ase.build  # noqa: E402
import ase.io  # noqa: E402
import numpy as np  # noqa: E402
import schnetpack as spk  # noqa: E402
import schnetpack.md  # noqa: E402
import torch  # noqa: E402
from ase import Atoms, units  # noqa: E402
from ase.md.velocitydistribution import thermalize_momenta  # noqa: E402
from schnetpack import properties  # noqa: E402
from schnetpack.md.calculators import SchNetPackCalculator  # noqa: E402
from schnetpack.md.integrators import VelocityVerlet  # noqa: E402
from schnetpack.md.neighborlist_md import NeighborListMD  # noqa: E402
from schnetpack.transform import MatScipyNeighborList  # noqa: E402

try:
    import torch_sim as ts
    from torch_sim.models.interface import ModelInterface
except ImportError:
    ts = None

sys.path.append(str(HERE.parents[3] / "python" / "tools"))
import schnetpack_golden as golden  # noqa: E402

torch.set_num_threads(args.threads)
FEMTOSECONDS = 0.5
# Two programs that both round to f32: energies of replicas beside each other, eV, and forces in eV/Å.
ENERGY_TOLERANCE, FORCE_TOLERANCE = 1e-4, 1e-4
SKIN = 0.5


def start():
    """The replicas, each with positions and with velocities at 300 K of its own, in the digits of a file."""
    text = args.structure.read_text().replace("name= ", "")
    molecule = ase.io.read(io.StringIO(text), 0, format="extxyz")
    rng = np.random.default_rng(1)
    replicas = []
    for _ in range(args.replicas):
        atoms = Atoms(molecule.numbers, molecule.positions + rng.normal(scale=0.02, size=molecule.positions.shape))
        thermalize_momenta(atoms, 300, rng=rng)
        replicas.append(atoms)
    file = io.StringIO()
    ase.io.write(file, replicas, format="extxyz")
    file.seek(0)
    return ase.io.read(file, ":", format="extxyz")


# ------------------------------------------------------------------ forgefield


def md(folder, structure, steps, model, *more, timestep=FEMTOSECONDS):
    """The report of a run of `forgefield md`, with a trajectory, a log and a restart file as often as by default."""
    command = [args.forgefield.resolve(), "md", structure, "--model", model, "--steps", str(steps), "--timestep-fs", timestep]
    command += ["-o", "run.extxyz", "--log", "run.csv", "--restart", "run.json", "--json", *more]
    for name in ("run.extxyz", "run.csv", "run.json"):
        (folder / name).unlink(missing_ok=True)
    done = subprocess.run([str(word) for word in command], cwd=folder, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout)


class Forgefield:
    """A process of its own in each round; what it takes to start is not of a step."""

    name = "forgefield"

    def __init__(self, replicas, folder):
        self.folder, self.model = folder, args.model.resolve()
        ase.io.write(folder / "start.extxyz", replicas)

    def results(self):
        md(self.folder, "start.extxyz", 0, self.model, "--velocities", "file")
        frames = ase.io.read(self.folder / "run.extxyz", ":")
        return np.array([f.get_potential_energy() for f in frames]), np.concatenate([f.get_forces() for f in frames])

    def seconds(self, steps):
        report = md(self.folder, "start.extxyz", 10 * steps, self.model, "--velocities", "file")
        return 1.0 / report["steps_per_s"]


# ------------------------------------------------------------------ SchNetPack


class Simulator:
    """SchNetPack's own MD of a batch, with its list with a skin."""

    name = "schnetpack md"

    def __init__(self, replicas, folder):
        model = golden.rebuild(*golden.read(args.model))
        # Its MD leaves offsets out, and fails where it says which.
        model.postprocessors = torch.nn.ModuleList()
        torch.save(model, folder / "best_model")
        cutoff = float(model.representation.cutoff_fn.cutoff)
        neighbors = NeighborListMD(cutoff, SKIN, MatScipyNeighborList)
        self.calculator = SchNetPackCalculator(str(folder / "best_model"), "forces", "eV", "Angstrom", neighbors, energy_key="energy")
        self.system = spk.md.System()
        self.system.load_molecules(replicas, 1, position_unit_input="Angstrom")
        # From Å/fs to its own units.
        unit = spk.units.unit2internal("Angstrom") / VelocityVerlet(1.0).time_step
        velocity = torch.from_numpy(np.concatenate([atoms.get_velocities() for atoms in replicas]) * units.fs * unit)
        self.system.momenta = (velocity * self.system.masses.view(-1, 1)).view_as(self.system.momenta).to(self.system.momenta)
        integrator = VelocityVerlet(FEMTOSECONDS)
        self.simulator = spk.md.Simulator(self.system, integrator, self.calculator, simulator_hooks=[], progress=False)

    def results(self):
        self.calculator.calculate(self.system)
        results = self.calculator.results
        return results["energy"].detach().double().numpy(), results["forces"].detach().double().numpy()

    def seconds(self, steps):
        begun = perf_counter()
        self.simulator.simulate(steps)
        return (perf_counter() - begun) / steps


class Batch:
    """A batch as SchNetPack's model takes it, of all pairs of a molecule: those within the cutoff of a small one in any case."""

    def __init__(self, replicas):
        n, m = len(replicas[0]), len(replicas)
        self.model = golden.rebuild(*golden.read(args.model))
        self.model.do_postprocessing = False
        i, j = (index.reshape(-1) for index in np.nonzero(~np.eye(n, dtype=bool)))
        firsts = np.repeat(np.arange(m) * n, len(i))
        tensor = torch.from_numpy
        self.inputs = {
            properties.Z: tensor(np.concatenate([atoms.numbers for atoms in replicas])),
            properties.n_atoms: torch.full((m,), n),
            properties.idx_m: torch.arange(m).repeat_interleave(n),
            properties.idx_i: tensor(np.tile(i, m) + firsts),
            properties.idx_j: tensor(np.tile(j, m) + firsts),
            properties.offsets: torch.zeros((m * len(i), 3)),
            properties.cell: torch.zeros((m, 3, 3)),
            properties.pbc: torch.zeros(3 * m, dtype=torch.bool),
        }

    def __call__(self, positions, **pairs):
        found = self.model({**self.inputs, **pairs, properties.R: positions.float()})
        return found["energy"].detach(), found["forces"].detach()


class Loop:
    """A loop of velocity Verlet around SchNetPack's model, in which lists are made once: no MD of PyTorch does less."""

    name = "plain loop"

    def __init__(self, replicas, _):
        self.batch = Batch(replicas)
        tensor = lambda get: torch.from_numpy(np.concatenate([get(atoms) for atoms in replicas]))
        self.positions, self.velocities = tensor(lambda a: a.positions), tensor(lambda a: a.get_velocities())
        self.masses = tensor(lambda a: a.get_masses()).unsqueeze(1)
        self.forces = self.batch(self.positions)[1].double()

    def results(self):
        energy, forces = self.batch(self.positions)
        return energy.double().numpy(), forces.double().numpy()

    def seconds(self, steps):
        dt = FEMTOSECONDS * units.fs
        begun = perf_counter()
        for _ in range(steps):
            self.velocities += 0.5 * dt * self.forces / self.masses
            self.positions += dt * self.velocities
            self.forces = self.batch(self.positions)[1].double()
            self.velocities += 0.5 * dt * self.forces / self.masses
        return (perf_counter() - begun) / steps


# ------------------------------------------------------------------ torch-sim


class TorchSim:
    """torch-sim's integrator and its neighbour list, which its models make anew each step, around SchNetPack's model."""

    name = "torch-sim"

    def __init__(self, replicas, _):
        batch = Batch(replicas)
        cutoff = torch.tensor(float(batch.model.representation.cutoff_fn.cutoff))
        system = batch.inputs[properties.idx_m]
        # It wants cells of molecules too.
        open_cells = (torch.eye(3).repeat(len(replicas), 1) * 100.0, torch.zeros((len(replicas), 3), dtype=torch.bool))

        class Model(ModelInterface):
            def __init__(self):
                super().__init__()
                self._device, self._dtype = torch.device("cpu"), torch.float32
                self._compute_forces, self._compute_stress = True, False
                self._memory_scales_with = "n_atoms"

            def forward(self, state, **_):
                positions = state["positions"] if isinstance(state, dict) else state.positions
                (i, j), _, _ = ts.neighbors.torch_nl_n2(cutoff, positions, *open_cells, system)
                pairs = {properties.idx_i: i, properties.idx_j: j, properties.offsets: torch.zeros((len(i), 3))}
                energy, forces = batch(positions, **pairs)
                return {"energy": energy, "forces": forces}

        self.model = Model()
        state = ts.io.atoms_to_state(replicas, self.model.device, torch.float32)
        # Its unit of time is that of eV, Å and amu.
        self.dt = torch.tensor(FEMTOSECONDS * units.fs)
        init, self.step = ts.nve(self.model, dt=self.dt, kT=torch.tensor(300 * units.kB))
        self.state = init(state, seed=1)
        momenta = np.concatenate([atoms.get_momenta() for atoms in replicas])
        self.state.momenta = torch.from_numpy(momenta).float()

    def results(self):
        found = self.model(self.state)
        return found["energy"].double().numpy(), found["forces"].double().numpy()

    def seconds(self, steps):
        begun = perf_counter()
        for _ in range(steps):
            self.state = self.step(self.state, dt=self.dt)
        return (perf_counter() - begun) / steps


# ------------------------------------------------------------------ the integrator's share


def waters(side):
    """side³ waters at 1 g/cm³ on a grid, each turned at random."""
    rng = np.random.default_rng(1)
    molecule = ase.build.molecule("H2O")
    molecule.positions -= molecule.get_center_of_mass()
    spacing = (18.015 / 0.602214076) ** (1 / 3)
    box = Atoms(cell=[side * spacing] * 3, pbc=True)
    for place in np.ndindex(side, side, side):
        q, r = np.linalg.qr(rng.normal(size=(3, 3)))
        turned = molecule.copy()
        turned.positions = molecule.positions @ (q * np.sign(np.diag(r))).T + (np.array(place) + 0.5) * spacing
        box += turned
    return box


def shares(folder):
    """Of a box of 648 atoms what `md` spends outside of the model, with files as often as by default and with every step in them."""
    ase.io.write(folder / "water.extxyz", waters(6))
    rows = []
    small = HERE.parents[3] / "models" / "ethanol-painn-small.safetensors"
    for model in (YARDSTICKS / "painn_gaussian.safetensors", small):
        for every in (100, 1):
            # Neither model knows liquid water: atoms barely move, so that whatever the forces are no run breaks.
            more = ["--every", every, "--log-every", every, "--temperature", 1, "--max-force", 1e6]
            reports = [md(folder, "water.extxyz", 200, model, *more, timestep=1e-3) for _ in range(3)]
            report = sorted(reports, key=lambda report: report["model_share"])[1]
            rows.append({"model": model.name, "every": every, "steps_per_s": report["steps_per_s"], "rest": 1 - report["model_share"]})
            print({key: round(value, 4) if isinstance(value, float) else value for key, value in rows[-1].items()}, flush=True)
    return rows


def main():
    replicas = start()
    loads = [os.getloadavg()[0]]
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        kinds = [Forgefield, Simulator, Loop] + [TorchSim] * (ts is not None)
        contestants = [kind(replicas, folder) for kind in kinds]
        energies, forces = zip(*(each.results() for each in contestants))
        for each, energy, force in zip(contestants[1:], energies[1:], forces[1:]):
            # Offsets of atoms are the same in all replicas; SchNetPack's MD leaves them out, and so do the others of PyTorch.
            difference = abs((energy - energies[0]) - (energy - energies[0]).mean()).max()
            assert difference <= ENERGY_TOLERANCE < 0.01 * np.ptp(energies[0]), (each.name, difference)
            difference = abs(force - forces[0]).max()
            assert difference <= FORCE_TOLERANCE * max(1.0, abs(forces[0]).max()), (each.name, difference)
        times = {each.name: [] for each in contestants}
        for _ in range(args.rounds):
            for each in contestants:
                times[each.name].append(1e3 * each.seconds(args.steps))
            loads.append(os.getloadavg()[0])
        rows = [{"program": name, "ms": statistics.median(each), "of": sorted(each)} for name, each in times.items()]
        for row in rows:
            row["ratio"] = row["ms"] / rows[0]["ms"]
            print({key: round(value, 3) if isinstance(value, float) else value for key, value in row.items() if key != "of"}, flush=True)
        water = [] if args.no_water else shares(folder)
    args.out.mkdir(parents=True, exist_ok=True)
    about = {"date": datetime.date.today().isoformat(), "model": args.model.name, "threads": args.threads, "rounds": args.rounds}
    about |= {"replicas": args.replicas, "torch": torch.__version__, "schnetpack": "2.1.1", "load": [round(x, 2) for x in loads]}
    about |= {"torch_sim": ts and importlib.metadata.version("torch-sim-atomistic"), "unit": "ms of a step of all replicas"}
    (args.out / "results.json").write_text(json.dumps(about | {"rows": rows, "water": water}, indent=1) + "\n")


main()
