"""A model for torch-sim; needs `torch-sim-atomistic`."""

from __future__ import annotations

import numpy as np
import torch
import torch_sim as ts
from torch_sim.models.interface import ModelInterface

from ._forgefield import Model, Neighbors


class ForgefieldModel(ModelInterface):
    """Energies, forces and stress of a model for torch-sim's states of many systems.

    model: the path of a model's file, or a `Model`. dtype: of the tensors that are returned; a file is computed in it too.
    Models run on the host: states of another device are copied there and back.

    Stress is zero of systems that have none: those where nothing repeats.
    """

    def __init__(self, model, device=None, dtype=None, compute_forces=True, compute_stress=True):
        super().__init__()
        if not isinstance(model, Model):
            model = Model.load(model, dtype="f64" if dtype == torch.float64 else "f32")
        self.model = model
        self.neighbors = Neighbors()
        self._device = torch.device(device or "cpu")
        self._dtype = dtype or (torch.float64 if model.dtype == "f64" else torch.float32)
        self._compute_forces = compute_forces
        self._compute_stress = compute_stress
        self._memory_scales_with = "n_atoms_x_density"

    @property
    def compute_forces(self):
        """Whether forces are computed."""
        return self._compute_forces

    @compute_forces.setter
    def compute_forces(self, compute_forces):
        self._compute_forces = compute_forces

    @property
    def compute_stress(self):
        """Whether stress is computed."""
        return self._compute_stress

    @compute_stress.setter
    def compute_stress(self, compute_stress):
        self._compute_stress = compute_stress

    def forward(self, state, **kwargs):
        """`energy` [n_systems] in eV, and where wanted `forces` [n_atoms, 3] in eV/Å and `stress` [n_systems, 3, 3] in eV/Å³."""
        if isinstance(state, dict):
            state = ts.SimState(**{"masses": torch.ones_like(state["positions"][:, 0]), **state})
        # The lattice vectors are the columns of torch-sim's cells.
        cell = _array(state.row_vector_cell, np.float64)
        n_systems = len(cell)
        repeats = _array(torch.as_tensor(state.pbc), bool)
        system = _array(state.system_idx, np.int64)
        found = self.model.compute(
            _array(state.positions, np.float64),
            _array(state.atomic_numbers, np.int64),
            cell,
            np.broadcast_to(repeats, (n_systems, 3)),
            system,
            forces=self._compute_forces,
            stress=self._compute_stress,
            neighbors=self.neighbors,
        )
        names = ["energy"] + ["forces"] * self._compute_forces + ["stress"] * self._compute_stress
        if self._compute_stress:
            np.nan_to_num(found["stress"], copy=False)
        return {name: torch.from_numpy(found[name]).to(device=self._device, dtype=self._dtype) for name in names}


def _array(tensor, dtype):
    return np.ascontiguousarray(tensor.detach().cpu().numpy(), dtype=dtype)
