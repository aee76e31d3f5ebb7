"""torch-sim's own conformance test, and its states beside the calculator."""

import numpy as np
import pytest
from ase.build import bulk

from conftest import MODEL

torch = pytest.importorskip("torch", reason="PyTorch is not installed here")
ts = pytest.importorskip("torch_sim", reason="torch-sim is not installed here")

from torch_sim.models.interface import validate_model_outputs  # noqa: E402

from forgefield import Calculator  # noqa: E402
from forgefield.torchsim import ForgefieldModel  # noqa: E402

CPU = torch.device("cpu")


@pytest.mark.filterwarnings("ignore:the model was trained on")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_torch_sim_accepts_it(dtype):
    validate_model_outputs(ForgefieldModel(MODEL, dtype=dtype), CPU, dtype)


def test_states_are_the_same_atoms(f64, crystal):
    other = crystal.copy()
    other.rattle(0.1, seed=1)
    other.set_cell(crystal.cell.array @ [[1.0, 0.1, 0.2], [0.0, 1.1, -0.1], [0.0, 0.0, 0.9]])
    images = [crystal, other]
    model = ForgefieldModel(f64)
    found = model(ts.io.atoms_to_state(images, CPU, torch.float64))
    results = Calculator(f64).calculate_batch(images)
    assert not any(tensor.requires_grad for tensor in found.values())
    # Cells go there and back through columns, exactly.
    np.testing.assert_array_equal(found["energy"], [result["energy"] for result in results])
    np.testing.assert_array_equal(found["forces"], np.concatenate([result["forces"] for result in results]))
    voigt = found["stress"].numpy()[:, [0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]
    np.testing.assert_array_equal(voigt, [result["stress"] for result in results])


def test_a_molecule_in_a_dummy_cell_is_not_periodic(f64, ethanol):
    ethanol.set_cell(np.eye(3) * 3.0)
    found = ForgefieldModel(f64)(ts.io.atoms_to_state([ethanol], CPU, torch.float64))
    assert found["energy"][0] == Calculator(f64).get_potential_energy(ethanol)
    assert not found["stress"].any()


def test_an_integrator_of_torch_sim(f64, ethanol):
    model = ForgefieldModel(f64)
    final = ts.integrate(ethanol, model, n_steps=20, timestep=0.0005, temperature=300, integrator=ts.Integrator.nve)
    assert torch.isfinite(final.energy).all()
