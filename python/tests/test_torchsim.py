"""torch-sim's own conformance test, and its states beside the calculator."""

import json
import struct

import numpy as np
import pytest
from conftest import MODEL

torch = pytest.importorskip("torch", reason="PyTorch is not installed here")
ts = pytest.importorskip("torch_sim", reason="torch-sim is not installed here")

from torch_sim.models.interface import validate_model_outputs  # noqa: E402

from forgefield import Calculator, Model  # noqa: E402
from forgefield.torchsim import ForgefieldModel  # noqa: E402

CPU = torch.device("cpu")


def with_all_elements(path):
    """A model's file with the embeddings of its elements repeated for those that it does not know."""
    data = path.read_bytes()
    start = 8 + struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:start])
    last = max(entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__")
    entry = header["representation.embedding.weight"]
    begin, end = (start + offset for offset in entry["data_offsets"])
    row = (end - begin) // entry["shape"][0]
    rows = data[begin + row : end] * 20
    header["representation.embedding.weight"] = {
        **entry,
        "shape": [1 + len(rows) // row, entry["shape"][1]],
        "data_offsets": [begin - start, begin - start + row + len(rows)],
    }
    grown = row + len(rows) - (end - begin)
    for name, other in header.items():
        if name not in ("__metadata__", "representation.embedding.weight") and other["data_offsets"][0] >= end - start:
            other["data_offsets"] = [offset + grown for offset in other["data_offsets"]]
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data[start : begin + row] + rows + data[end : start + last]


@pytest.mark.filterwarnings("ignore:the model was trained on")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_torch_sim_accepts_it(dtype):
    # Its systems are of silicon and iron.
    model = Model.from_bytes(with_all_elements(MODEL), dtype=str(dtype).replace("torch.float", "f"))
    validate_model_outputs(ForgefieldModel(model), CPU, dtype)


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
    # Of versions for Python 3.11 it is a function, later one of an enumeration.
    nve = ts.Integrator.nve if hasattr(ts, "Integrator") else ts.nve
    final = ts.integrate(ethanol, model, n_steps=20, timestep=0.0005, temperature=300, integrator=nve)
    assert torch.isfinite(final.energy).all()
    assert model.neighbors.reused > 15
