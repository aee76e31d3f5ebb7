"""A calculator of ASE on a model."""

from __future__ import annotations

from time import perf_counter

import numpy as np
from ase.calculators.calculator import Calculator as AseCalculator
from ase.calculators.calculator import all_changes

from ._forgefield import Model, Neighbors

# Voigt's order of xx, yy, zz, yz, xz, xy.
_VOIGT = ([0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1])


class Calculator(AseCalculator):
    """Energies, forces and stress of a model for ASE.

    model: the path of a model's file, or a `Model`, which calculators may share.
    dtype: what a file is computed in, `f32` (by default) or `f64`; a `Model` has its own.
    enable_timing: whether to add up in `timing` how often the model was asked (`calls`) and how long that took, s: of the model
    alone (`model`) and with what is around it here (`calculate`).

    A calculation gives everything at once: `energy` and `free_energy`, which are one, `energies` of atoms, `forces`, and
    `stress` (Voigt order xx, yy, zz, yz, xz, xy) where a cell with a volume repeats in at least one direction. Of a slab or
    a chain it is the stress along its periodic directions. Elsewhere asking for it raises `PropertyNotImplementedError`.
    """

    name = "forgefield"
    implemented_properties = ["energy", "free_energy", "energies", "forces", "stress"]

    def __init__(self, model, dtype=None, enable_timing=False, **kwargs):
        super().__init__(**kwargs)
        if not isinstance(model, Model):
            model = Model.load(model, dtype=dtype or "f32")
        elif dtype is not None and {"float32": "f32", "float64": "f64"}.get(dtype, dtype) != model.dtype:
            raise ValueError(f"`dtype`: the model was loaded in {model.dtype}, found {dtype}")
        self.model = model
        # Dynamics and relaxations move atoms a little at a time.
        self.neighbors = Neighbors()
        self.timing = {"calls": 0, "model": 0.0, "calculate": 0.0} if enable_timing else None

    def check_state(self, atoms, tol=1e-15):
        """What changed since the last calculation, by bits: ASE's own comparison takes as long as the model of a small molecule."""
        kept = self.atoms
        if kept is None:
            return list(all_changes)
        pairs = {
            "positions": (kept.arrays["positions"], atoms.arrays["positions"]),
            "numbers": (kept.arrays["numbers"], atoms.arrays["numbers"]),
            "cell": (kept.cell.array, atoms.cell.array),
            "pbc": (kept.pbc, atoms.pbc),
        }
        for name in ("initial_charges", "initial_magmoms"):
            if name in kept.arrays or name in atoms.arrays:
                pairs[name] = tuple(getattr(a, f"get_{name}")() for a in (kept, atoms))
        changed = [name for name, (a, b) in pairs.items() if a.shape != b.shape or (a != b).any()]
        return [name for name in changed if name not in self.ignored_changes]

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        begun = perf_counter()
        super().calculate(atoms, properties, system_changes)
        self.results = {}
        atoms = self.atoms
        asked = perf_counter()
        given = atoms.positions, atoms.numbers, atoms.cell.array, atoms.pbc
        found = self.model.compute(*given, per_atom=True, neighbors=self.neighbors)
        answered = perf_counter()
        self.results = _results(found)
        if self.timing is not None:
            self.timing["calls"] += 1
            self.timing["model"] += answered - asked
            self.timing["calculate"] += perf_counter() - begun

    def calculate_batch(self, images):
        """The results of many `Atoms` in one call, each a dict as `results` is; what this calculator holds stays as it is."""
        images = list(images)
        if not images:
            return []
        sizes = [len(atoms) for atoms in images]
        found = self.model.compute(
            np.concatenate([atoms.positions for atoms in images]),
            np.concatenate([atoms.numbers for atoms in images]),
            np.array([atoms.cell.array for atoms in images]),
            np.array([atoms.pbc for atoms in images]),
            np.repeat(np.arange(len(images)), sizes),
            per_atom=True,
        )
        parts = np.cumsum(sizes)[:-1]
        results = []
        for energy, energies, forces, stress in zip(
            found["energy"].tolist(),
            np.split(found["energies"], parts),
            np.split(found["forces"], parts),
            found["stress"],
        ):
            own = {"energy": energy, "energies": energies.copy(), "forces": forces.copy()}
            if not np.isnan(stress).any():
                own["stress"] = stress
            results.append(_results(own))
        return results


def _results(found):
    """What ASE calls what a model says of one system."""
    results = {"energy": found["energy"], "free_energy": found["energy"]}
    results["energies"] = found["energies"]
    results["forces"] = found["forces"]
    if "stress" in found:
        results["stress"] = found["stress"][_VOIGT]
    return results
