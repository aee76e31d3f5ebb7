"""SchNetPack models for tests: built, rebuilt from a model file alone, evaluated in float64, and written as golden files.

Runs where schnetpack is installed; `test_schnetpack_to_safetensors.py` brings that about.
"""

import contextlib
import io
import json
from pathlib import Path

import ase.build
import numpy as np
import schnetpack as spk
import schnetpack_to_safetensors
import torch
from ase import Atoms
from schnetpack import atomistic, nn, representation, transform

ACTIVATIONS = {"silu": torch.nn.functional.silu, "shifted_softplus": nn.shifted_softplus, "tanh": torch.tanh}
BASES = {"gaussian": nn.GaussianRBF, "gaussian_centered": nn.GaussianRBFCentered, "bessel": nn.BesselRBF}
CUTOFFS = {"cosine": nn.CosineCutoff, "mollifier": nn.MollifierCutoff}
MODELS = {"painn": representation.PaiNN, "schnet": representation.SchNet}
# In eV and Å: exact by the SI of 2019, atomic units by CODATA 2018.
ENERGIES = {
    "eV": 1.0,
    "Ha": 27.211386245988,
    "kcal/mol": 4184.0 / (6.02214076e23 * 1.602176634e-19),
    "kJ/mol": 1000.0 / (6.02214076e23 * 1.602176634e-19),
}
LENGTHS = {"Ang": 1.0, "Bohr": 0.529177210903, "nm": 10.0}
# Rows of the embedding tables, the first of no element: as far as chlorine.
ROWS = 18

DEFAULTS = {
    "model": "painn",
    "features": 16,
    "layers": 2,
    "n_rbf": 8,
    "basis": "gaussian",
    "cutoff": 5.0,
    "cutoff_fn": "cosine",
    "activation": "silu",
    "head": {"n_layers": 2, "n_hidden": None, "activation": "silu"},
    "aggregation": "sum",
    "energy_unit": "eV",
    "length_unit": "Ang",
    "mean": None,
    "atomref": False,
    "more": {},
}
SCHNET = {"model": "schnet", "activation": "shifted_softplus"}


def head(n_layers, n_hidden=None, activation="silu"):
    return {"n_layers": n_layers, "n_hidden": n_hidden, "activation": activation}


# The golden files: what each differs in from the defaults.
CASES = {
    "painn_bessel": {"basis": "bessel"},
    "painn_gaussian_centered": {"basis": "gaussian_centered"},
    "painn_mollifier": {"cutoff_fn": "mollifier", "cutoff": 4.5},
    "painn_shifted_softplus": {"activation": "shifted_softplus", "head": head(2, activation="shifted_softplus")},
    "painn_tanh": {"activation": "tanh", "head": head(2, activation="tanh"), "features": 8},
    "painn_shared_filters": {"more": {"shared_filters": True}, "features": 8, "layers": 3},
    "painn_shared_interactions": {"more": {"shared_interactions": True}, "features": 8},
    "painn_shared_both": {"more": {"shared_filters": True, "shared_interactions": True}, "features": 8, "basis": "bessel"},
    "painn_epsilon": {"more": {"epsilon": 1e-3}, "features": 8},
    "painn_avg": {"aggregation": "avg", "features": 8},
    "painn_head_pyramid": {"head": head(3)},
    "painn_head_rectangle": {"head": head(3, n_hidden=12)},
    "painn_head_linear": {"head": head(1), "features": 8},
    "painn_energy_offset": {"mean": -3.75, "features": 8},
    "painn_atomref": {"atomref": True, "mean": 0.625, "features": 8},
    "painn_kcal": {"energy_unit": "kcal/mol", "mean": -70.5},
    "painn_atomic_units": {"energy_unit": "Ha", "length_unit": "Bohr", "cutoff": 9.0, "features": 8, "atomref": True},
    "painn_nm": {"energy_unit": "kJ/mol", "length_unit": "nm", "cutoff": 0.5, "features": 8, "basis": "bessel"},
    "schnet_filters": SCHNET | {"more": {"n_filters": 24}},
    "schnet_bessel": SCHNET | {"basis": "bessel", "cutoff_fn": "mollifier", "features": 8},
    "schnet_shared_interactions": SCHNET | {"more": {"shared_interactions": True}, "layers": 3, "features": 8},
    "schnet_silu": SCHNET | {"activation": "silu", "basis": "gaussian_centered", "features": 8},
}


def potential(rep, atomwise, offsets=()):
    postprocessors = [transform.CastTo64(), *offsets]
    inputs = [atomistic.PairwiseDistances()]
    model = spk.model.NeuralNetworkPotential(rep, inputs, [atomwise, atomistic.Forces()], postprocessors)
    return model.eval()


def offsets_of(mean, atomref):
    """As a datamodule leaves them; the class takes no tensor of several numbers itself (its `or` raises)."""
    if mean is None and atomref is None:
        return []
    module = transform.AddOffsets("energy", add_mean=mean is not None, add_atomrefs=atomref is not None)
    module.mean = torch.tensor([mean or 0.0], dtype=torch.float64)
    module.atomref = module.atomref if atomref is None else atomref
    return [module]


def basis_of(kind, n_rbf, cutoff):
    # SchNetPack's default of the first width is 1 in whatever unit, in nm beyond the cutoff.
    more = {"start": cutoff / 4} if kind == "gaussian_centered" else {}
    return BASES[kind](n_rbf, cutoff, **more)


def build(seed=0, **differences):
    """A model of random weights, biases too, in float32."""
    s = DEFAULTS | differences
    torch.manual_seed(seed)
    arguments = {
        "n_atom_basis": s["features"],
        "n_interactions": s["layers"],
        "radial_basis": basis_of(s["basis"], s["n_rbf"], s["cutoff"]),
        "cutoff_fn": CUTOFFS[s["cutoff_fn"]](s["cutoff"]),
        "activation": ACTIVATIONS[s["activation"]],
        "nuclear_embedding": torch.nn.Embedding(ROWS, s["features"]),
    }
    rep = MODELS[s["model"]](**arguments | s["more"])
    atomwise = atomistic.Atomwise(
        s["features"],
        n_layers=s["head"]["n_layers"],
        n_hidden=s["head"]["n_hidden"],
        activation=ACTIVATIONS[s["head"]["activation"]],
        aggregation_mode=s["aggregation"],
        output_key="energy",
    )
    with torch.no_grad():
        for name, parameter in [*rep.named_parameters(), *atomwise.named_parameters()]:
            if name.endswith("bias"):
                parameter.normal_(std=0.3)
    atomref = torch.randn(ROWS, dtype=torch.float64) if s["atomref"] else None
    return potential(rep, atomwise, offsets_of(s["mean"], atomref))


def read(path):
    """Metadata and tensors of a safetensors file; read here, so that what is written is not read by what wrote it."""
    data = Path(path).read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    meta, tensors, end = header.pop("__metadata__"), {}, 0
    for name, entry in header.items():
        begin, after = entry["data_offsets"]
        assert begin == end, f"{name}: expected to begin at {end}, found {begin}"
        end = after
        values = np.frombuffer(data[start + begin : start + after], dtype={"F32": "<f4", "F64": "<f8"}[entry["dtype"]])
        tensors[name] = torch.tensor(values).reshape(entry["shape"])
    assert start + end == len(data), f"expected {start + end} bytes, found {len(data)}"
    return meta, tensors


def rebuild(meta, tensors):
    """A model from what its file says, and nothing else."""
    features, cutoff, kind = int(meta["n_atom_basis"]), float(meta["cutoff"]), meta["model"]
    more = {"shared_interactions": meta.get("shared_interactions") == "true"}
    if kind == "painn":
        more |= {"shared_filters": meta["shared_filters"] == "true", "epsilon": float(meta.get("epsilon", 1e-8))}
    else:
        more |= {"n_filters": int(meta.get("n_filters", features))}
    rep = MODELS[kind](
        n_atom_basis=features,
        n_interactions=int(meta["n_interactions"]),
        radial_basis=basis_of(meta["basis"], int(meta["n_rbf"]), cutoff),
        cutoff_fn=CUTOFFS[meta["cutoff_fn"]](cutoff),
        activation=ACTIVATIONS[meta["activation"]],
        nuclear_embedding=torch.nn.Embedding(*tensors["representation.embedding.weight"].shape),
        **more,
    )
    if meta["head"].startswith("{"):
        layers, activation = (json.loads(meta["head"])[key] for key in ("layers", "activation"))
    else:  # The yardsticks say it in words.
        layers, activation = [features, features // 2, 1], "silu"
    atomwise = atomistic.Atomwise(
        layers[0],
        n_layers=len(layers) - 1,
        n_hidden=layers[1:-1],
        activation=ACTIVATIONS[activation],
        aggregation_mode=meta.get("aggregation", "sum"),
        output_key="energy",
    )
    dtype = tensors["representation.embedding.weight"].dtype
    for prefix, module in (("representation.", rep), ("head.", atomwise)):
        state = {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
        if meta["cutoff_fn"] == "mollifier" and module is rep:
            state["cutoff_fn.eps"] = rep.cutoff_fn.eps
        module.to(dtype).load_state_dict(state, strict=True)
    mean = float(meta["energy_offset_per_atom"]) if "energy_offset_per_atom" in meta else None
    return potential(rep, atomwise, offsets_of(mean, tensors.get("atomref")))


def frames():
    """What golden files hold: molecules, an atom without neighbours, a thin primitive cell, a triclinic cell.

    Coordinates have the eight decimals that are written.
    """
    rng = np.random.default_rng(7)
    water = ase.build.molecule("H2O")
    ethanol = ase.build.molecule("CH3CH2OH")
    apart = Atoms("OH", [[0, 0, 0], [7.5, 0, 0]])
    salt = ase.build.bulk("NaCl", "rocksalt", a=5.64)
    cell = [[6.0, 0.0, 0.0], [1.2, 5.5, 0.0], [-0.8, 1.1, 6.3]]
    fractions = [[0.1, 0.1, 0.1], [0.6, 0.5, 0.4], [0.3, 0.4, 0.2], [0.8, 0.7, 0.6], [0.2, 0.8, 0.7], [0.5, 0.1, 0.8]]
    triclinic = Atoms("Si2O3NH", scaled_positions=[*fractions, [0.85, 0.2, 0.35]], cell=cell, pbc=True)
    named = {"water": water, "ethanol": ethanol, "apart": apart, "NaCl_primitive": salt, "triclinic": triclinic}
    for atoms in named.values():
        atoms.positions = np.round(atoms.positions + rng.normal(scale=0.05, size=atoms.positions.shape), 8)
    return named


def exact_frequencies(representation):
    """Those of Bessel functions in float64: the files say them by the cutoff alone, so that nothing else has to round."""
    basis = representation.radial_basis
    if hasattr(basis, "freqs"):
        cutoff = representation.cutoff_fn.cutoff.double()
        basis.freqs = torch.arange(1, len(basis.freqs) + 1, dtype=torch.float64) * torch.pi / cutoff


def evaluate(model, atoms, length_unit="Ang"):
    """Energy, forces, and stress where every direction is periodic, by SchNetPack in float64, in the model's own units.

    The model is changed to float64 in place: float32 weights are widened, and what they were rounded to is kept.
    """
    scaled = atoms.copy()
    scaled.set_cell(atoms.cell / LENGTHS[length_unit])
    scaled.positions = atoms.positions / LENGTHS[length_unit]
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)  # PaiNN's vectors begin as zeros of this type.
    try:
        model = model.double()
        exact_frequencies(model.representation)
        periodic = bool(all(atoms.pbc))
        rep, atomwise = model.representation, model.output_modules[0]
        inputs = [atomistic.PairwiseDistances()]
        inputs = [atomistic.Strain(), *inputs] if periodic else inputs
        forces = atomistic.Forces(calc_stress=periodic)
        whole = spk.model.NeuralNetworkPotential(rep, inputs, [atomwise, forces], list(model.postprocessors)).eval()
        lists = transform.ASENeighborList(cutoff=float(rep.cutoff_fn.cutoff))
        batch = spk.interfaces.AtomsConverter(neighbor_list=lists, dtype=torch.float64)(scaled)
        result = whole(batch)
    finally:
        torch.set_default_dtype(before)
    stress = result["stress"][0].detach().numpy() if periodic else None
    return float(result["energy"]), result["forces"].detach().numpy(), stress


def convert(source, output, *more, energy_unit="eV", length_unit="Ang", expected=0):
    """The tool as a user calls it, but in this process, since imports take seconds; returns what it said."""
    arguments = [source, "-o", output, "--energy-unit", energy_unit, "--length-unit", length_unit, *more]
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        code = schnetpack_to_safetensors.main([str(word) for word in arguments])
    assert code == expected, f"expected exit code {expected}, found {code}: {said.getvalue()}"
    return said.getvalue()


def extxyz(name, atoms, energy, forces, stress, model_energy):
    """One frame in eV and Å."""

    def numbers(values):
        return " ".join(repr(float(v)) for v in np.ravel(values))

    line = f'Lattice="{numbers(atoms.cell.array)}" ' if any(atoms.pbc) else ""
    line += f"Properties=species:S:1:pos:R:3:ref_forces:R:3 name={name} ref_energy={energy!r} model_energy={model_energy!r}"
    line += "" if stress is None else f' ref_stress="{numbers(stress)}"'
    line += ' pbc="{}"'.format(" ".join("T" if p else "F" for p in atoms.pbc))
    rows = [
        f"{symbol:2}" + "".join(f"{x:15.8f}" for x in position) + "".join(f"{x:17.10f}" for x in force)
        for symbol, position, force in zip(atoms.symbols, atoms.positions, forces)
    ]
    return "\n".join([str(len(atoms)), line, *rows]) + "\n"


def golden(folder):
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for seed, (case, differences) in enumerate(CASES.items()):
        s = DEFAULTS | differences
        model = build(seed, **differences)
        pickle = folder / "best_model"
        torch.save(model, pickle)
        units = {"energy_unit": s["energy_unit"], "length_unit": s["length_unit"]}
        try:
            more = ("--elements", "H,C,N,O,Na,Si,Cl", "--license", "MIT OR Apache-2.0")
            convert(pickle, folder / f"{case}.safetensors", *more, **units)
        finally:
            pickle.unlink()
        energy_factor, length_factor = ENERGIES[s["energy_unit"]], LENGTHS[s["length_unit"]]
        text = ""
        for name, atoms in frames().items():
            own, forces, stress = evaluate(model, atoms, s["length_unit"])
            forces = forces * (energy_factor / length_factor)
            stress = None if stress is None else stress * (energy_factor / length_factor**3)
            text += extxyz(name, atoms, own * energy_factor, forces, stress, own)
        (folder / f"{case}.extxyz").write_text(text)
        print(f"{case}: {(folder / f'{case}.safetensors').stat().st_size} bytes", flush=True)
