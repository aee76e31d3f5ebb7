#!/usr/bin/env python3
"""Tests of schnetpack_to_safetensors.py with real SchNetPack models, and the writer of golden files.

    python3 python/tools/test_schnetpack_to_safetensors.py [TEST …]
    python3 python/tools/test_schnetpack_to_safetensors.py --golden DIR

SchNetPack and PyTorch come into a virtual environment under target/ (or where PEERS_VENV says), some gigabytes from PyPI, once.
Where they cannot be had, `SKIPPED: …` is printed and nothing is tested.
"""

import contextlib
import io
import json
import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
VENV = Path(os.environ.get("PEERS_VENV") or ROOT / "target" / "schnetpack").absolute()
# This PyTorch is what pip itself resolves this SchNetPack to, after minutes of trying every newer one.
PACKAGES = ["schnetpack==2.1.1", "torch==2.4.1"]
GOLDEN = ROOT / "tests" / "golden" / "models"
YARDSTICKS = ROOT.parent / "shared" / "yardsticks"


def inside():
    """Runs this script again in the environment that has SchNetPack."""
    python = VENV / "bin" / "python"
    check = [str(python), "-W", "ignore", "-c", "import schnetpack"]
    try:
        if not python.exists():
            subprocess.run([sys.executable, "-m", "venv", str(VENV)], check=True, capture_output=True, text=True)
        if subprocess.run(check, capture_output=True).returncode != 0:
            install = [str(python), "-m", "pip", "install", "--quiet", *PACKAGES]
            subprocess.run(install, check=True, capture_output=True, text=True)
        subprocess.run(check, check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        reason = (getattr(error, "stderr", None) or str(error)).strip().splitlines()[-1]
        print(f"SKIPPED: no {' and '.join(PACKAGES)} in {VENV.name}, nothing tested: {reason}")
        return 0
    arguments = [str(python), "-W", "ignore", __file__, *sys.argv[1:]]
    return subprocess.run(arguments, env=os.environ | {"SCHNETPACK_INSIDE": "1"}).returncode


if os.environ.get("SCHNETPACK_INSIDE") != "1":
    sys.exit(inside())

import ase.io  # noqa: E402
import numpy as np  # noqa: E402
import schnetpack as spk  # noqa: E402
import schnetpack_golden as golden  # noqa: E402
import torch  # noqa: E402
from schnetpack import atomistic, nn, representation, transform  # noqa: E402


class Tool(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.pickle, self.output = self.folder / "best_model", self.folder / "model.safetensors"

    def converted(self, model, *more, **units):
        torch.save(model, self.pickle)
        self.said = golden.convert(self.pickle, self.output, *more, **units)
        return golden.read(self.output)

    def same_function(self, model, meta, tensors, frames=None):
        """The file alone says the function: compared in float64, where only the order of sums may differ."""
        other = golden.rebuild(meta, tensors)
        for name, atoms in (frames or golden.frames()).items():
            expected, found = golden.evaluate(model, atoms), golden.evaluate(other, atoms)
            for e, f in zip(expected, found):
                if e is not None:
                    np.testing.assert_allclose(f, e, rtol=1e-12, atol=1e-12, err_msg=name)

    def refused(self, model, *words, more=()):
        torch.save(model, self.pickle)
        said = golden.convert(self.pickle, self.output, *more, expected=2)
        for word in ("error: ", "expected", "found", *words):
            self.assertIn(word, said)
        self.assertFalse(self.output.exists())
        self.assertEqual([path.name for path in self.folder.iterdir()], ["best_model"])


class Converts(Tool):
    def test_every_golden_case_is_said_by_its_file(self):
        water = {"water": golden.frames()["water"], "triclinic": golden.frames()["triclinic"]}
        for seed, (case, differences) in enumerate(golden.CASES.items()):
            with self.subTest(case):
                s = golden.DEFAULTS | differences
                model = golden.build(seed, **differences)
                units = {"energy_unit": s["energy_unit"], "length_unit": s["length_unit"]}
                meta, tensors = self.converted(model, **units)
                for key, value in units.items():
                    self.assertEqual(meta[key], value)
                self.same_function(model, meta, tensors, water)

    def test_metadata(self):
        card = self.folder / "card.txt"
        card.write_text("Zwölf Moleküle.\n", encoding="utf-8")
        model = golden.build(3, mean=-2.5)
        meta, tensors = self.converted(model, "--license", "MIT", "--elements", "O,1 6", "--card", card)
        self.assertEqual(
            meta,
            {
                "activation": "silu", "aggregation": "sum", "basis": "gaussian", "card": "Zwölf Moleküle.\n", "cutoff": "5.0",
                "cutoff_fn": "cosine", "elements": "[1,6,8]", "energy_offset_per_atom": "-2.5", "energy_unit": "eV",
                "epsilon": "1e-08", "format": "forgefield-model", "head": '{"layers":[16,8,1],"activation":"silu"}',
                "length_unit": "Ang", "license": "MIT", "model": "painn", "n_atom_basis": "16", "n_interactions": "2",
                "n_rbf": "8", "schema": "1", "shared_filters": "false", "shared_interactions": "false",
                "source": "schnetpack 2.1.1, best_model",
            },
        )  # fmt: skip
        self.assertTrue(all(t.dtype == torch.float32 for t in tensors.values()))
        self.assertIn("schnetpack 2.1.1", self.said)
        self.assertIn("saved by schnetpack 2.1.1", self.said)

    def test_bytes_are_deterministic_sorted_and_aligned(self):
        first = self.converted(golden.build(3, atomref=True, mean=0.5))
        before = self.output.read_bytes()
        again = self.converted(golden.build(3, atomref=True, mean=0.5))
        self.assertEqual(before, self.output.read_bytes())
        self.assertEqual((int.from_bytes(before[:8], "little")) % 8, 0)
        for names in (list(first[0]), list(again[1])):
            self.assertEqual(names, sorted(names))
        self.assertEqual(first[1]["atomref"].dtype, torch.float64)
        self.assertNotIn("energy_offset_per_atom", first[0])

    def test_float64_weights_are_kept(self):
        model = golden.build(4).double()
        meta, tensors = self.converted(model)
        self.assertEqual(tensors["representation.filter_net.weight"].dtype, torch.float64)
        self.same_function(model, meta, tensors)

    def test_a_nuclear_embedding_is_written_as_its_table(self):
        module = nn.NuclearEmbedding(101, 16, zero_init=False)
        model = golden.build(5, more={"nuclear_embedding": module})
        meta, tensors = self.converted(model)
        self.assertEqual(list(tensors["representation.embedding.weight"].shape), [101, 16])
        self.assertIn("NuclearEmbedding", self.said)
        # Its own table of float32 products, so to their rounding.
        other = golden.rebuild(meta, tensors)
        atoms = golden.frames()["ethanol"]
        self.assertAlmostEqual(golden.evaluate(model, atoms)[0], golden.evaluate(other, atoms)[0], delta=1e-5)

    def test_activations_are_known_by_what_they_compute(self):
        for module, name in ((torch.nn.SiLU(), "silu"), (nn.ShiftedSoftplus(), "shifted_softplus"), (torch.nn.Tanh(), "tanh")):
            meta, _ = self.converted(golden.build(6, more={"activation": module, "nuclear_embedding": None}))
            self.assertEqual(meta["activation"], name)

    def test_trained_gaussians_are_kept(self):
        model = golden.build(7, more={"radial_basis": nn.GaussianRBF(8, 5.0, start=0.5, trainable=True)})
        with torch.no_grad():
            model.representation.radial_basis.widths.mul_(1.25)
        self.same_function(model, *self.converted(model))

    def test_files_from_before_versions(self):
        model = golden.build(8)
        del model.spk_version, model.representation.electronic_embeddings
        meta, _ = self.converted(model)
        self.assertIn("names no version", self.said)
        self.assertEqual(meta["source"], "schnetpack 2.0, best_model")

    def test_offsets_that_the_model_does_not_add_are_not_written(self):
        model = golden.build(9, mean=-2.0)
        model.do_postprocessing = False
        meta, _ = self.converted(model)
        self.assertNotIn("energy_offset_per_atom", meta)
        self.assertIn("do_postprocessing", self.said)


class Yardsticks(Tool):
    def test_the_yardsticks_come_back(self):
        for name, tolerance in (("painn_gaussian", 1e-10), ("schnet_gaussian", 1e-10)):
            path = YARDSTICKS / f"{name}.safetensors"
            if not path.exists():
                print(f"SKIPPED: no shared/yardsticks/{name}.safetensors beside the checkout, nothing compared", flush=True)
                continue
            with self.subTest(name):
                old_meta, old = golden.read(path)
                model = golden.rebuild(old_meta, old)
                meta, tensors = self.converted(model)
                self.assertEqual(sorted(tensors), sorted(old))
                for tensor_name, tensor in old.items():
                    self.assertTrue(torch.equal(tensors[tensor_name], tensor), tensor_name)
                for key in ("model", "basis", "cutoff", "cutoff_fn", "activation", "n_rbf", "n_atom_basis", "n_interactions"):
                    self.assertEqual(meta[key], old_meta[key])
                # The same references come out of this evaluation, which writes the golden files: energy, forces, stress.
                for atoms in ase.io.read(path.with_suffix(".extxyz"), ":"):
                    energy, forces, stress = golden.evaluate(model, atoms)
                    self.assertAlmostEqual(energy / atoms.info["ref_energy"], 1.0, delta=tolerance)
                    np.testing.assert_allclose(forces, atoms.arrays["ref_forces"], atol=1e-8)
                    if stress is not None:
                        np.testing.assert_allclose(stress.ravel(), np.ravel(atoms.info["ref_stress"]), atol=1e-12)


class Golden(Tool):
    def test_the_committed_files_come_back(self):
        with contextlib.redirect_stdout(io.StringIO()):
            golden.golden(self.folder)
        found = sorted(path.name for path in self.folder.iterdir())
        self.assertEqual(found, sorted(path.name for path in GOLDEN.iterdir() if path.name != "README.md"))
        self.assertEqual(len(found), 2 * len(golden.CASES))
        for name in found:
            with self.subTest(name):
                if name.endswith(".safetensors"):
                    self.assertEqual((self.folder / name).read_bytes(), (GOLDEN / name).read_bytes())
                    continue
                # Another processor adds in another order.
                for one, other in zip(ase.io.read(self.folder / name, ":"), ase.io.read(GOLDEN / name, ":"), strict=True):
                    self.assertEqual((one.info["name"], len(one)), (other.info["name"], len(other)))
                    self.assertEqual("ref_stress" in other.info, bool(all(other.pbc)))
                    np.testing.assert_array_equal(one.positions, other.positions)
                    np.testing.assert_allclose(one.arrays["ref_forces"], other.arrays["ref_forces"], atol=2e-10)
                    for key in {"ref_energy", "ref_stress"} & set(other.info):
                        np.testing.assert_allclose(one.info[key], other.info[key], rtol=1e-11, atol=1e-13)


class Refuses(Tool):
    def test_other_representations(self):
        common = {"n_atom_basis": 8, "n_interactions": 1}
        common |= {"radial_basis": nn.GaussianRBF(8, 5.0), "cutoff_fn": nn.CosineCutoff(5.0)}
        for rep in (representation.SO3net(lmax=1, **common), representation.FieldSchNet(external_fields=[], **common)):
            model = golden.potential(rep, atomistic.Atomwise(8, output_key="energy"))
            self.refused(model, "PaiNN, SchNet", type(rep).__name__)

    def test_electronic_embeddings(self):
        more = {"electronic_embeddings": [nn.ElectronicEmbedding("total_charge", 16, is_charged=True)]}
        self.refused(golden.build(1, more=more), "electronic_embeddings", "ElectronicEmbedding")

    def test_heads(self):
        model = golden.build(1)
        rep = model.representation
        two = atomistic.Atomwise(16, n_out=2, output_key="energy")
        self.refused(golden.potential(rep, two), "n_out", "expected 1, found 2")
        relu = atomistic.Atomwise(16, activation=torch.nn.functional.relu, output_key="energy")
        self.refused(golden.potential(rep, relu), "outnet.0.activation", "relu")
        silent = atomistic.Atomwise(16, aggregation_mode=None, per_atom_output_key="e", output_key="energy")
        self.refused(golden.potential(rep, silent), "aggregation_mode", "found None")
        model.output_modules.append(atomistic.Atomwise(16, output_key="gap"))
        self.refused(model, "one Atomwise", "'energy', 'gap'")

    def test_what_else_makes_an_energy(self):
        model = golden.build(1)
        model.output_modules.append(atomistic.ZBLRepulsionEnergy("eV", "Ang", "zbl"))
        self.refused(model, "ZBLRepulsionEnergy")
        model = golden.build(1)
        model.output_modules[1].energy_key = "other"
        self.refused(model, "expected energy, found other")
        model = golden.build(1)
        model.input_modules.insert(0, atomistic.StaticExternalFields(["electric_field"]))
        self.refused(model, "StaticExternalFields", "external fields")
        model = golden.build(1)
        model.input_modules.append(atomistic.FilterShortRange(4.0))
        self.refused(model, "FilterShortRange", "found 4.0")

    def test_postprocessors(self):
        model = golden.build(1, mean=1.0)
        model.postprocessors[1].is_extensive = False
        self.refused(model, "is_extensive", "found False")
        model = golden.build(1)
        model.postprocessors.append(transform.ScaleProperty("energy", scale=torch.tensor([2.0])))
        self.refused(model, "ScaleProperty")

    def test_parts_it_does_not_know(self):
        self.refused(golden.build(1, more={"activation": torch.nn.functional.relu}), "silu, shifted_softplus or tanh", "relu")
        model = golden.build(1)
        model.representation.cutoff_fn = nn.SwitchFunction(3.0, 5.0)
        self.refused(model, "CosineCutoff, MollifierCutoff", "SwitchFunction")
        model = golden.build(1)
        model.representation.extra = torch.nn.Linear(2, 2)
        self.refused(model, "representation.extra")
        model = golden.build(1)
        model.representation.mixing[1].epsilon = 1e-6
        self.refused(model, "epsilon")
        model = golden.build(1)
        with torch.no_grad():
            model.representation.filter_net.weight[0, 0] = float("nan")
        self.refused(model, "filter_net.weight", "finite")

    def test_files_of_other_kinds(self):
        self.refused(golden.build(1).state_dict(), "whole model", "a dict of")
        self.refused(torch.nn.Linear(1, 1), "NeuralNetworkPotential", "Linear")
        self.pickle.write_bytes(b"not a pickle")
        golden.convert(self.pickle, self.output, expected=2)
        said = golden.convert(self.folder / "none", self.output, expected=2)
        self.assertIn("expected a file, found none", said)

    def test_arguments(self):
        model = golden.build(1)
        self.refused(model, "--elements", "found Xx", more=("--elements", "H,Xx"))
        before = self.pickle.read_bytes()
        said = golden.convert(self.pickle, self.pickle, expected=2)
        self.assertIn("another file", said)
        self.assertEqual(before, self.pickle.read_bytes())
        model.energy_unit = "Ha"
        self.refused(model, "own energy_unit Ha", "found eV")


class CommandLine(Tool):
    """What only a process of its own shows."""

    def run_tool(self, *arguments):
        command = [sys.executable, "-W", "ignore", golden.schnetpack_to_safetensors.__file__, *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True)

    def test_as_a_user_runs_it(self):
        torch.save(golden.build(2), self.pickle)
        done = self.run_tool(self.pickle, "-o", self.output)
        self.assertEqual((done.returncode, done.stdout, self.output.exists()), (2, "", False))
        self.assertIn("--energy-unit", done.stderr)
        done = self.run_tool(self.pickle, "-o", self.output, "--energy-unit", "kcal/mol")
        self.assertEqual((done.returncode, done.stdout), (0, ""), done.stderr)
        self.assertEqual(golden.read(self.output)[0]["energy_unit"], "kcal/mol")

    def test_help_says_what_a_pickle_can_do(self):
        done = self.run_tool("--help")
        self.assertEqual(done.returncode, 0)
        self.assertIn("a pickle can run any code", done.stdout)


def main():
    if "--golden" in sys.argv[1:]:
        if len(sys.argv) != 3 or sys.argv[1] != "--golden":
            print(f"usage: {sys.argv[0]} --golden DIR", file=sys.stderr)
            return 2
        golden.golden(sys.argv[2])
        return 0
    print(json.dumps({"schnetpack": spk.__version__, "torch": torch.__version__, "python": sys.version.split()[0]}), flush=True)
    result = unittest.main(exit=False, verbosity=2).result
    failed = len(result.failures) + len(result.errors)
    print(f"{max(result.testsRun - failed, 0)} passed, {failed} failed")
    return 0 if result.wasSuccessful() and result.testsRun else 1


if __name__ == "__main__":
    sys.exit(main())
