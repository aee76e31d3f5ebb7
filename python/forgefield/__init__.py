"""Models of SchNet and PaiNN on the host's kernels of forgefield, from Python.

Lengths are in Å, energies in eV, forces in eV/Å, stress in eV/Å³ (tension positive). Arrays may be of anything that NumPy makes
arrays of. Contiguous ones of float64 are read where they are; others (float32, strided, lists) are converted to float64 first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._forgefield import Model, Neighbors, __version__
from ._forgefield import neighbor_list as _neighbor_list

if TYPE_CHECKING:
    from .calculator import Calculator
    from .training import train

__all__ = ["Calculator", "Model", "Neighbors", "__version__", "neighbor_list", "train"]


def neighbor_list(quantities, atoms, cutoff, cell=None, pbc=None):
    """Pairs of atoms that are nearer than a cutoff, as `ase.neighborlist.neighbor_list` has them.

    quantities: letters of `i`, `j` (first and second atom), `S` (the image of the second: D = x_j − x_i + S·cell), `d`
    (distance, Å), `D` (vector from i to j, Å). One letter gives an array, several a tuple of them.
    atoms: an ASE `Atoms`, or positions [n, 3] in Å with `cell` [3, 3] (lattice vectors as rows) and `pbc`.
    cutoff: a radius in Å for all pairs; a radius for each atom, of which a pair has the sum; or a dict of radii by pairs of
    elements, such as `{("H", "C"): 1.2}` or `{(1, 6): 1.2}`, where other pairs are none.

    Pairs come in both directions, sorted by `i`; an atom is its own neighbour only through an image of itself.
    """
    import numpy as np

    numbers = None
    if hasattr(atoms, "get_positions"):
        if cell is not None or pbc is not None:
            raise TypeError("`atoms` has its own cell and pbc, expected neither beside it")
        numbers = atoms.numbers
        positions, cell, pbc = atoms.positions, atoms.cell.array, atoms.pbc
    else:
        positions = atoms
        if cell is not None and pbc is None:
            raise TypeError("`cell` is given without `pbc`, expected which of its directions repeat")
    cell = np.zeros((3, 3)) if cell is None else cell
    pbc = np.broadcast_to(np.asarray(False if pbc is None else pbc, dtype=bool), 3)

    def of(radius, letters):
        found = _neighbor_list(letters, positions, cell, pbc, float(radius))
        return found[0] if len(found) == 1 else tuple(found)

    if isinstance(cutoff, dict):
        if numbers is None:
            raise TypeError("radii by elements need an ASE Atoms, found positions")
        from ase.data import atomic_numbers

        radii = np.zeros((256, 256))
        for pair, radius in cutoff.items():
            a, b = (atomic_numbers[z] if isinstance(z, str) else z for z in pair)
            radii[a, b] = radii[b, a] = radius
        largest, radius = radii.max(), lambda i, j: radii[numbers[i], numbers[j]]
    elif np.ndim(cutoff) == 0:
        return of(cutoff, quantities)
    else:
        own = np.asarray(cutoff, dtype=float)
        if own.shape != (len(positions),):
            raise ValueError(f"`cutoff`: expected a radius for each of {len(positions)} atoms, found shape {own.shape}")
        largest, radius = 2.0 * own.max(initial=0.0), lambda i, j: own[i] + own[j]
    # Of the pairs within the largest radius those within their own.
    i, j, d, *rest = of(largest, "ijd" + quantities)
    within = d < radius(i, j)
    found = tuple(array[within] for array in rest)
    return found[0] if len(found) == 1 else found


def __getattr__(name):
    # ASE is wanted by the calculator alone, and takes a while to import.
    if name == "Calculator":
        from .calculator import Calculator

        return Calculator
    if name == "train":
        from .training import train

        return train
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
