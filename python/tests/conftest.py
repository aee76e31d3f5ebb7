"""Models and structures that the tests share."""

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule

import forgefield

ROOT = Path(__file__).resolve().parents[2]
MODEL = ROOT / "models/ethanol-painn-small.safetensors"
YARDSTICKS = ROOT.parent / "shared/yardsticks"


@pytest.fixture(scope="session")
def f32():
    return forgefield.Model.load(MODEL)


@pytest.fixture(scope="session")
def f64():
    return forgefield.Model.load(MODEL, dtype="f64")


@pytest.fixture
def ethanol():
    atoms = molecule("CH3CH2OH")
    atoms.rattle(0.05, seed=3)
    return atoms


@pytest.fixture
def crystal():
    """Ethanol in a triclinic cell that is small enough for images to see each other, across its boundary."""
    atoms = molecule("CH3CH2OH")
    atoms.set_cell([[7.6, 0.0, 0.0], [1.4, 6.9, 0.0], [-1.1, 0.9, 6.8]])
    atoms.pbc = True
    atoms.rattle(0.05, seed=4)
    return atoms


@pytest.fixture
def slab(crystal):
    crystal.pbc = [True, True, False]
    return crystal


def compute(model, atoms, **wanted):
    return model.compute(atoms.positions, atoms.numbers, atoms.cell.array, atoms.pbc, **wanted)


def random_atoms(rng, n=6, pbc=(True, True, True), cell=None):
    """Hydrogen, carbon and oxygen without close contacts."""
    cell = np.diag([7.0, 8.0, 9.0]) if cell is None else cell
    positions = []
    while len(positions) < n:
        new = rng.random(3) @ cell
        if all(np.linalg.norm(new - old) > 1.0 for old in positions):
            positions.append(new)
    return Atoms(rng.choice([1, 6, 8], n), positions, cell=cell, pbc=pbc)
