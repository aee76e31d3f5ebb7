"""Training by the program of the wheel."""

import re

import numpy as np
import pytest
from ase.build import molecule
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

import forgefield
from conftest import ROOT, compute

CONFIG = {
    "model": {"features": 8, "layers": 1, "n_basis": 6, "cutoff": 4.0},
    "run": {"epochs": 4, "batch": 4, "checkpoint_seconds": 0.0},
}


@pytest.fixture
def frames(f64):
    """Shaken ethanol as the model of the repository labels it."""
    labelled = []
    for seed in range(24):
        atoms = molecule("CH3CH2OH")
        atoms.rattle(0.05, seed=seed)
        found = compute(f64, atoms)
        atoms.calc = SinglePointCalculator(atoms, energy=float(found["energy"]), forces=found["forces"])
        labelled.append(atoms)
    return labelled


def test_frames_become_a_model(frames, tmp_path):
    path, log, rows = tmp_path / "student.safetensors", tmp_path / "log.jsonl", []
    report = forgefield.train(CONFIG, path, train=frames[:20], test=frames[20:], log=log, on_epoch=rows.append)
    assert [row["epoch"] for row in rows] == [0, 1, 2, 3, 4]
    assert rows[-1]["loss"] < rows[0]["loss"]
    assert len(log.read_text().splitlines()) == 5
    # One in twenty is watched.
    assert (report["frames"], report["steps"], report["tested"]["frames"]) == (19, 20, 4)
    student = forgefield.Model.load(path, dtype="f64")
    errors = [np.abs(compute(student, atoms)["forces"] - atoms.get_forces()).mean() for atoms in frames[20:]]
    assert np.mean(errors) == pytest.approx(1e-3 * report["tested"]["force_mae_mev_per_a"], rel=1e-4)


def test_an_interrupted_training_goes_on(frames, tmp_path):
    data = tmp_path / "frames.extxyz"
    write(data, frames)
    # So long that it is in the midst of it when it is interrupted.
    config = {**CONFIG, "run": {"epochs": 300, "batch": 4}}
    whole, parts = tmp_path / "whole.safetensors", tmp_path / "parts.safetensors"
    forgefield.train(config, whole, train=data)

    def interrupt(row):
        if row["epoch"] == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        forgefield.train(config, parts, train=data, on_epoch=interrupt)
    checkpoint = tmp_path / "parts.safetensors.checkpoint"
    assert checkpoint.exists() and not parts.exists()
    with pytest.raises(ValueError, match="expected --resume to go on from it, or --fresh"):
        forgefield.train(config, parts, train=data)
    forgefield.train(config, parts, train=data, resume=True)
    assert not checkpoint.exists()
    assert whole.read_bytes() == parts.read_bytes()


def test_the_chapter(frames, tmp_path, monkeypatch):
    code = re.search(r"```python\n(.*?)```", (ROOT / "docs/training.md").read_text(), re.S)[1]
    monkeypatch.chdir(tmp_path)
    write("frames.extxyz", frames)
    assert '"epochs": 100' in code
    exec(code.replace('"epochs": 100', '"epochs": 2'), {})
    student = forgefield.Model.load("student.safetensors", dtype="f64")
    assert np.isfinite(compute(student, frames[0])["forces"]).all()


def test_what_cannot_be_trained(frames, tmp_path):
    path = tmp_path / "student.safetensors"
    with pytest.raises(ValueError, match="`feature`.*features"):
        forgefield.train({"model": {"feature": 8}}, path, train=frames)
    with pytest.raises(ValueError, match="expected a dict, a section"):
        forgefield.train({"features": 8}, path, train=frames)
    with pytest.raises(ValueError, match="`train`: expected frames, found none"):
        forgefield.train(CONFIG, path, train=[])
    with pytest.raises(ValueError, match="expected a CONFIG, or --train FILE"):
        forgefield.train(None, path)
    bare = [molecule("CH3CH2OH")] * 20
    with pytest.raises(ValueError, match="energy|label"):
        forgefield.train(CONFIG, path, train=bare)
    assert not path.exists()
