"""Structures of small organic molecules as GFN2-xTB moves them: structures.py OUT

The closed-shell molecules of H, C, N and O of ASE's G2 collection, each along Langevin dynamics at 300 and at 900 K from seeds of their
own. The last fifth of each trajectory goes to OUT/test_structures-<temperature>.extxyz, what is before it to OUT/structures.extxyz.
Needs ase and tblite."""

import sys
from pathlib import Path

import numpy as np
from ase import units
from ase.build import molecule
from ase.collections import g2
from ase.io import write
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution
from tblite.ase import TBLite

# fs, steps between frames, frames of a trajectory.
STEP, EVERY, FRAMES = 0.5, 20, 25
TEMPERATURES = (300, 900)


def molecules():
    for name in g2.names:
        atoms = molecule(name)
        symbols = set(atoms.get_chemical_symbols())
        if "H" in symbols and symbols <= set("HCNO") and not atoms.get_initial_magnetic_moments().any():
            yield name, atoms


def trajectory(name, atoms, temperature, seed):
    rng = np.random.default_rng(seed)
    atoms.calc = TBLite(method="GFN2-xTB", verbosity=0)
    MaxwellBoltzmannDistribution(atoms, temperature_K=2 * temperature, rng=rng)
    dynamics = Langevin(atoms, STEP * units.fs, temperature_K=temperature, friction=0.02 / units.fs, rng=rng)
    frames = []
    for _ in range(FRAMES):
        dynamics.run(EVERY)
        frame = atoms.copy()
        frame.set_velocities(np.zeros((len(frame), 3)))
        del frame.arrays["momenta"]
        frame.info = {"name": name, "temperature_k": temperature}
        frames.append(frame)
    return frames


def main():
    out = Path(sys.argv[1])
    train, test = [], {temperature: [] for temperature in TEMPERATURES}
    for number, (name, atoms) in enumerate(molecules()):
        for k, temperature in enumerate(TEMPERATURES):
            frames = trajectory(name, atoms.copy(), temperature, 2 * number + k)
            train += frames[: -FRAMES // 5]
            test[temperature] += frames[-FRAMES // 5 :]
        print(number, name, len(atoms), flush=True)
    write(out / "structures.extxyz", train)
    for temperature, frames in test.items():
        write(out / f"test_structures-{temperature}.extxyz", frames)


main()
