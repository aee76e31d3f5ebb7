"""`forgefield.neighbor_list` beside ASE's."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.neighborlist import neighbor_list as of_ase

import forgefield

CELLS = {
    "cubic": np.eye(3) * 6.0,
    "thin": np.diag([1.3, 9.0, 2.2]),
    "triclinic": np.array([[5.0, 0.0, 0.0], [2.4, 4.1, 0.0], [-1.9, 2.2, 3.7]]),
    "flat": np.array([[3.0, 0.0, 0.0], [2.9, 0.7, 0.0], [0.2, 0.1, 4.0]]),
    "left-handed": np.array([[0.0, 4.0, 0.3], [4.5, 0.0, 0.0], [0.0, 0.2, 5.0]]),
}


def same(atoms, cutoff):
    """Every quantity of every pair, whatever order the second atoms of a first come in."""
    expected = of_ase("ijSdD", atoms, cutoff)
    found = forgefield.neighbor_list("ijSdD", atoms, cutoff)
    assert len(found[0]) == len(expected[0])
    assert (np.diff(found[0]) >= 0).all()
    orders = [np.lexsort((*S.T, j, i)) for i, j, S, _, _ in (found, expected)]
    for letter, ours, theirs in zip("ijSdD", found, expected):
        assert ours.dtype.kind == theirs.dtype.kind and ours.shape == theirs.shape
        np.testing.assert_allclose(ours[orders[0]], theirs[orders[1]], atol=1e-10, err_msg=letter)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("pbc", [(1, 1, 1), (1, 0, 1), (0, 0, 1), (0, 0, 0)], ids=str)
def test_random_cells(cell, pbc):
    rng = np.random.default_rng(sum(map(ord, cell)) + sum(pbc))
    for n in [1, 2, 9]:
        # Some of them far outside.
        positions = (rng.random((n, 3)) * 3.0 - 1.0) @ CELLS[cell]
        same(Atoms(f"H{n}", positions, cell=CELLS[cell], pbc=pbc), 3.1)


def test_slab_and_chain_without_a_whole_cell():
    same(Atoms("HO", [[0, 0, 0], [1.0, 0.5, 0.2]], cell=[[3, 0, 0], [1, 3, 0], [0, 0, 0]], pbc=[1, 1, 0]), 4.0)
    same(Atoms("HO", [[0, 0, 0], [1.0, 0.5, 0.2]], cell=[[0, 0, 0], [0, 0, 0], [0, 0, 2]], pbc=[0, 0, 1]), 4.0)


def test_radii_of_atoms_and_of_elements():
    atoms = molecule("CH3CH2OH")
    same(atoms, [0.4 + 0.1 * k for k in range(9)])
    same(atoms, {("H", "C"): 1.3, (8, 6): 1.6})


def test_letters():
    atoms = bulk("Cu")
    assert forgefield.neighbor_list("d", atoms, 3.0).shape == (12,)
    D, i = forgefield.neighbor_list("Di", atoms, 3.0)
    assert D.shape == (12, 3) and (i == 0).all()
    d = forgefield.neighbor_list("d", atoms.positions, 3.0, cell=atoms.cell, pbc=True)
    np.testing.assert_array_equal(d, forgefield.neighbor_list("d", atoms, 3.0))
    with pytest.raises(ValueError, match="`quantities`: expected letters of ijSdD, found x"):
        forgefield.neighbor_list("ix", atoms, 3.0)
    with pytest.raises(ValueError, match="cutoff is -1, expected a positive radius"):
        forgefield.neighbor_list("i", atoms, -1.0)
    with pytest.raises(TypeError, match="`cell` is given without `pbc`"):
        forgefield.neighbor_list("i", atoms.positions, 3.0, cell=atoms.cell)
