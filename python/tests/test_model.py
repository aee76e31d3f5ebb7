"""`forgefield.Model`: arrays in, arrays out."""

import copy
import io
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
import warnings

import numpy as np
import pytest
from ase.build import molecule
from ase.io import read
from conftest import MODEL, ROOT, YARDSTICKS, compute, random_atoms

import forgefield
from forgefield import Model


def test_what_a_model_is(f32, f64):
    assert (f32.cutoff, f32.elements, f32.dtype, f64.dtype) == (5.0, (1, 6, 8), "f32", "f64")
    assert f32.parameters == 41_473
    assert f32.metadata["model"] == "painn" and f32.metadata["license"]
    assert "painn" in repr(f32)


def test_results_are_of_the_types_that_are_promised(f64, ethanol, crystal):
    found = compute(f64, ethanol, per_atom=True)
    assert type(found["energy"]) is float and "stress" not in found
    assert found["forces"].shape == (9, 3) and found["forces"].dtype == np.float64
    assert found["forces"].flags.writeable and found["forces"].flags.owndata and found["forces"].flags.c_contiguous
    assert found["energies"].sum() == pytest.approx(found["energy"], abs=1e-9)
    assert compute(f64, crystal)["stress"].shape == (3, 3)
    assert set(compute(f64, crystal, forces=False, stress=False)) == {"energy"}
    assert set(compute(f64, crystal, forces=False)) == {"energy", "stress"}
    assert compute(f64, crystal, forces=False, stress=False)["energy"] == compute(f64, crystal)["energy"]


def test_predict_of_the_program_says_the_same(f64, tmp_path):
    out = tmp_path / "out.extxyz"
    program = os.path.join(os.path.dirname(sys.executable), "forgefield")
    ethanol = ROOT / "models/ethanol.extxyz"
    arguments = ["predict", ethanol, "--model", MODEL, "--dtype", "f64", "-o", out]
    subprocess.run([program, *arguments], check=True, capture_output=True)
    said, found = read(out), compute(f64, read(ethanol))
    assert found["energy"] == pytest.approx(said.get_potential_energy(), rel=1e-9)
    np.testing.assert_allclose(found["forces"], said.get_forces(), atol=1e-7)


@pytest.mark.parametrize("name", ["ethanol_painn", "painn_gaussian", "schnet_gaussian"])
def test_yardsticks_of_schnetpack(name):
    path = YARDSTICKS / f"{name}.safetensors"
    if not path.exists():
        pytest.skip(f"{path.name} is not beside this repository")
    # ASE takes what follows an empty name for the name.
    images = read(io.StringIO(path.with_suffix(".extxyz").read_text().replace("name= ", "")), ":", format="extxyz")
    results = forgefield.Calculator(path, dtype="f64").calculate_batch(images)
    for atoms, result in zip(images, results):
        # Forces are printed with eight decimals.
        assert result["energy"] == pytest.approx(atoms.info["ref_energy"], rel=1e-10, abs=1e-8)
        np.testing.assert_allclose(result["forces"], atoms.arrays["ref_forces"], atol=1.5e-8)
        if "ref_stress" in atoms.info:
            stress = np.reshape(atoms.info["ref_stress"], (3, 3))[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]
            np.testing.assert_allclose(result["stress"], stress, atol=1.5e-8)


@pytest.mark.filterwarnings("ignore:the model was trained on")
@pytest.mark.parametrize("path", sorted((ROOT / "tests/golden/models").glob("*.safetensors")), ids=lambda path: path.stem)
def test_golden_models_of_schnetpack(path):
    images = read(path.with_suffix(".extxyz"), ":")
    for atoms, result in zip(images, forgefield.Calculator(path, dtype="f64").calculate_batch(images), strict=True):
        assert result["energy"] == pytest.approx(atoms.info["ref_energy"], rel=1e-10, abs=1e-9)
        np.testing.assert_allclose(result["forces"], atoms.arrays["ref_forces"], atol=2e-10)


def test_arrays_of_any_layout_are_the_same_atoms(f64, crystal):
    expected = compute(f64, crystal)
    wide = np.zeros((9, 6))
    wide[:, ::2] = crystal.positions
    for positions in [wide[:, ::2], np.asfortranarray(crystal.positions), crystal.positions.tolist()]:
        found = f64.compute(positions, crystal.numbers.astype(np.int8), crystal.cell, True)
        assert found["energy"] == expected["energy"]
        np.testing.assert_array_equal(found["forces"], expected["forces"])
    big_endian = crystal.positions.astype(">f8")
    assert f64.compute(big_endian, crystal.numbers, crystal.cell, True)["energy"] == expected["energy"]
    single = crystal.positions.astype(np.float32)
    rounded = f64.compute(single.astype(np.float64), crystal.numbers, crystal.cell, True)
    assert f64.compute(single, crystal.numbers, crystal.cell, True)["energy"] == rounded["energy"]
    assert rounded["energy"] != expected["energy"]


def test_inputs_stay_as_they_are(f64, crystal):
    before = crystal.copy()
    arrays = [crystal.positions, crystal.numbers, crystal.cell.array, crystal.pbc]
    for array in arrays:
        array.flags.writeable = False
    f64.compute(*arrays)
    assert crystal == before


def test_batches_have_the_bits_of_their_systems(f32):
    rng = np.random.default_rng(5)
    images = [random_atoms(rng, n, pbc) for n, pbc in [(3, True), (1, False), (7, [True, False, True]), (2, False)]]
    system = np.repeat(np.arange(4), [len(atoms) for atoms in images])
    found = f32.compute(
        np.concatenate([atoms.positions for atoms in images]),
        np.concatenate([atoms.numbers for atoms in images]),
        np.array([atoms.cell for atoms in images]),
        np.array([atoms.pbc for atoms in images]),
        system,
        per_atom=True,
    )
    assert found["energy"].shape == (4,) and found["stress"].shape == (4, 3, 3)
    for s, atoms in enumerate(images):
        alone = compute(f32, atoms, per_atom=True)
        assert found["energy"][s] == alone["energy"]
        np.testing.assert_array_equal(found["forces"][system == s], alone["forces"])
        np.testing.assert_array_equal(found["energies"][system == s], alone["energies"])
        np.testing.assert_array_equal(found["stress"][s], alone.get("stress", np.full((3, 3), np.nan)))


def test_systems_without_atoms_are_counted(f32, ethanol):
    found = f32.compute(ethanol.positions, ethanol.numbers, np.zeros((3, 3, 3)), np.zeros((3, 3), bool), [1] * 9)
    assert found["energy"][0] == found["energy"][2] == 0.0
    assert found["energy"][1] == compute(f32, ethanol)["energy"]
    none = f32.compute(np.zeros((0, 3)), [], systems=[])
    assert none["energy"].shape == (0,) and none["forces"].shape == (0, 3) and none["stress"].shape == (0, 3, 3)
    assert f32.compute(np.zeros((0, 3)), [])["energy"] == 0.0


def test_large_batches_are_divided(f32, ethanol):
    n = 2_500
    positions = np.tile(ethanol.positions, (n, 1))
    found = f32.compute(positions, np.tile(ethanol.numbers, n), systems=np.repeat(np.arange(n), 9))
    alone = compute(f32, ethanol)
    assert (found["energy"] == alone["energy"]).all()
    np.testing.assert_array_equal(found["forces"].reshape(n, 9, 3), np.broadcast_to(alone["forces"], (n, 9, 3)))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"positions": np.zeros((9, 2))}, ValueError, r"`positions`: expected shape \[n_atoms, 3\], found \[9, 2\]"),
        ({"positions": np.zeros(27)}, ValueError, r"`positions`: expected shape \[n_atoms, 3\], found \[27\]"),
        ({"positions": np.full((9, 3), 1j)}, TypeError, "`positions`: expected real numbers, found complex128"),
        ({"positions": [["a", "b", "c"]] * 9}, TypeError, "`positions`: expected real numbers, found <U1"),
        ({"positions": np.eye(9)[:, :3] * np.nan}, ValueError, r"position of atom 0 \(counted from 0\) is \[NaN, NaN, NaN\]"),
        ({"positions": np.zeros((9, 3))}, ValueError, "atoms 0 and 1 are in one place"),
        ({"numbers": np.ones(8, int)}, ValueError, r"`numbers`: expected shape \[9\], an atomic number .* found \[8\]"),
        ({"numbers": np.ones(9)}, TypeError, "`numbers`: expected integers, found float64"),
        ({"numbers": [1] * 8 + [0]}, ValueError, "`numbers`: expected atomic numbers from 1, found 0 for atom 8"),
        ({"numbers": [1] * 8 + [-6]}, ValueError, "found -6 for atom 8"),
        ({"numbers": [1] * 8 + [300]}, ValueError, "found 300 for atom 8"),
        ({"numbers": [1] * 8 + [200]}, ValueError, "atom 8 has atomic number 200, which the model has no embedding for"),
        ({"cell": np.eye(3)}, TypeError, "`cell` is given without `pbc`"),
        ({"cell": np.ones(3), "pbc": True}, ValueError, r"`cell`: expected shape \[3, 3\]"),
        ({"cell": np.ones((3, 3)), "pbc": True}, ValueError, "linearly independent"),
        ({"cell": np.full((3, 3), np.inf), "pbc": True}, ValueError, "expected finite"),
        ({"pbc": True}, ValueError, r"pbc is \[true, true, true\] but there is no cell"),
        ({"cell": np.eye(3), "pbc": [True, False]}, ValueError, "`pbc`: expected shape"),
        ({"cell": np.eye(3), "pbc": [0.5, 0, 0]}, TypeError, "`pbc`: expected truth values, found float64"),
        ({"systems": [0] * 8}, ValueError, r"`systems`: expected shape \[9\]"),
        ({"systems": [0, 1, 0, 0, 0, 0, 0, 0, 0]}, ValueError, "expected ascending .* found 0 for atom 2 after 1"),
        ({"systems": [-1] + [0] * 8}, ValueError, "found -1 for atom 0"),
        ({"systems": [0] * 8 + [2], "pbc": np.zeros((2, 3), bool)}, ValueError, "from 0 to 1, found 2 for atom 8"),
        ({"systems": [0] * 8 + [1], "cell": np.zeros((3, 3, 3)), "pbc": np.zeros((2, 3), bool)}, ValueError, "`pbc`"),
    ],
)
def test_bad_input_is_named(f32, ethanol, change, error, message):
    given = {"positions": ethanol.positions, "numbers": ethanol.numbers, **change}
    with warnings.catch_warnings(), pytest.raises(error, match=message):
        warnings.simplefilter("ignore", UserWarning)
        f32.compute(**given)


def test_the_system_that_fails_is_named(f32, ethanol):
    positions = np.concatenate([ethanol.positions] * 3)
    positions[20] = np.nan
    with pytest.raises(ValueError, match=r"^system 2: position of atom 2 \(counted from 0\) is \[NaN"):
        f32.compute(positions, np.tile(ethanol.numbers, 3), systems=np.repeat(range(3), 9))


def test_bad_files(tmp_path):
    with pytest.raises(FileNotFoundError, match="none.safetensors"):
        Model.load(tmp_path / "none.safetensors")
    torn = tmp_path / "torn.safetensors"
    torn.write_bytes(MODEL.read_bytes()[:1000])
    with pytest.raises(ValueError, match="torn.safetensors: expected a safetensors file of a model"):
        Model.load(torn)
    with pytest.raises(ValueError, match="`dtype`: expected f32 or f64, found f16"):
        Model.load(MODEL, dtype="f16")


def test_devices_are_those_of_the_program(f32):
    assert repr(Model.load(MODEL, runtime="host")) == repr(f32)
    with pytest.raises(ValueError, match="`runtime`: expected host, found cuda: .* `forgefield serve --runtime cuda`"):
        Model.load(MODEL, runtime="cuda")
    with pytest.raises(ValueError, match="`runtime`: expected host, found cpu$"):
        Model.load(MODEL, runtime="cpu")


def test_a_strange_element_is_warned_of_once(ethanol):
    model = Model.load(MODEL)
    numbers = np.where(ethanol.numbers == 8, 7, ethanol.numbers)
    with pytest.warns(UserWarning, match="the model was trained on H, C, O, not on N"):
        model.compute(ethanol.positions, numbers)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.compute(ethanol.positions, numbers)


def test_copies_and_pickles(f64, ethanol):
    assert copy.deepcopy(f64) is f64 and copy.copy(f64) is f64
    other = pickle.loads(pickle.dumps(f64))
    assert other.dtype == "f64" and other.metadata == f64.metadata
    assert compute(other, ethanol)["energy"] == compute(f64, ethanol)["energy"]


def test_tables_say_how_much_they_err(f64, ethanol):
    assert f64.table_error is None
    tables = forgefield.Model.load(MODEL, dtype="f64", tabulate=1e-7)
    assert 0.0 < tables.table_error <= 1e-7
    exact, found = compute(f64, ethanol), compute(tables, ethanol)
    assert exact["energy"] != found["energy"] and abs(exact["energy"] - found["energy"]) < 1e-4
    assert np.abs(exact["forces"] - found["forces"]).max() < 1e-3
    other = pickle.loads(pickle.dumps(tables))
    assert other.table_error == tables.table_error and compute(other, ethanol)["energy"] == found["energy"]
    with pytest.raises(ValueError, match="`tabulate`: expected an error from 1e-12 to 1e-2, found 7"):
        forgefield.Model.load(MODEL, tabulate=7)


@pytest.mark.parametrize("precision", ["f16", "bf16", "int8"])
def test_precisions_say_how_much_they_err(f32, ethanol, crystal, precision):
    model = forgefield.Model.load(MODEL, precision=precision)
    assert (f32.precision, model.precision, model.dtype) == ("f32", precision, "f32") and precision in repr(model)
    for atoms in [ethanol, crystal]:
        said = model.compared_with_f32(atoms.positions, atoms.numbers, atoms.cell.array, atoms.pbc)
        found, exact = compute(model, atoms), compute(f32, atoms)
        assert said["energy"] == pytest.approx(abs(found["energy"] - exact["energy"]) / 9, rel=1e-6)
        assert 0.0 < said["forces"] == pytest.approx(np.square(found["forces"] - exact["forces"]).mean() ** 0.5, rel=1e-6)
        assert ("stress" in said) == ("stress" in exact)
        if "stress" in exact:
            assert said["stress"] == pytest.approx(np.square(found["stress"] - exact["stress"]).mean() ** 0.5, rel=1e-6)
        other = pickle.loads(pickle.dumps(model))
        assert other.precision == precision and compute(other, atoms)["energy"] == found["energy"]
    both = np.concatenate([ethanol.positions, ethanol.positions]), np.tile(ethanol.numbers, 2)
    alone = model.compared_with_f32(ethanol.positions, ethanol.numbers)
    assert model.compared_with_f32(*both, systems=np.repeat([0, 1], 9)) == pytest.approx(alone)
    assert f32.compared_with_f32(ethanol.positions, ethanol.numbers) == {"energy": 0.0, "forces": 0.0}


def test_precisions_that_cannot_be(ethanol):
    with pytest.raises(ValueError, match="`precision`: expected f32, f16, bf16 or int8, found fp8"):
        forgefield.Model.load(MODEL, precision="fp8")
    with pytest.raises(ValueError, match="precision f16 of a computation in f64 is not supported: expected the element type f32"):
        forgefield.Model.load(MODEL, dtype="f64", precision="f16")
    model = forgefield.Model.load(MODEL, precision="f16")
    with pytest.raises(ValueError, match="system 1: atom 0 has atomic number 92"):
        model.compared_with_f32(np.zeros((2, 3)), [1, 92], systems=[0, 1])


def test_threads_share_a_model(f32):
    rng = np.random.default_rng(1)
    images = [random_atoms(rng, 3 + k % 9) for k in range(24)]
    expected = [compute(f32, atoms) for atoms in images]
    wrong = []

    def work(offset):
        for k in range(48):
            at = (k * 5 + offset) % len(images)
            found = compute(f32, images[at])
            if found["energy"] != expected[at]["energy"] or (found["forces"] != expected[at]["forces"]).any():
                wrong.append(at)

    threads = [threading.Thread(target=work, args=(offset,)) for offset in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert wrong == []


def test_kept_lists_change_nothing(f32, crystal):
    """Steps of a path, long enough for lists to be built again, with atoms that cross the boundary."""
    rng = np.random.default_rng(6)
    kept = forgefield.Neighbors()
    steps = 60
    for step in range(steps):
        found = compute(f32, crystal, neighbors=kept, per_atom=True)
        expected = compute(f32, crystal, per_atom=True)
        assert found["energy"] == expected["energy"]
        for name in ["forces", "energies", "stress"]:
            np.testing.assert_array_equal(found[name], expected[name], err_msg=f"{name} of step {step}")
        crystal.positions += rng.normal(scale=0.005, size=(9, 3)) + [0.04, 0.0, -0.02]
    # With a drift of 0.045 Å a step lists hold for five.
    assert 0.6 * steps < kept.reused < 0.9 * steps


def test_kept_lists_are_never_stale(f32, crystal, slab, ethanol):
    """Whatever comes after what: another size, other atoms, cells, directions, batches, errors."""
    rng = np.random.default_rng(7)
    kept = forgefield.Neighbors()
    larger, heavier, strained, far = (crystal.copy() for _ in range(4))
    strained.set_cell(crystal.cell.array * 1.01)
    heavier.numbers[8] = 6
    far.positions[3] += [0.0, 3.0, 0.0]
    larger += random_atoms(rng, 3, cell=crystal.cell.array)
    slab.pbc = [True, False, True]
    near = crystal.copy()
    near.positions += 1e-3
    all_of_them = [crystal, near, larger, heavier, strained, far, slab, ethanol]
    for _ in range(300):
        atoms = all_of_them[rng.integers(len(all_of_them))]
        if rng.random() < 0.1:
            bad = atoms.copy()
            bad.positions[0, 0] = np.nan
            with pytest.raises(ValueError, match="position of atom 0"):
                compute(f32, bad, neighbors=kept)
        found, expected = compute(f32, atoms, neighbors=kept), compute(f32, atoms)
        assert found["energy"] == expected["energy"]
        np.testing.assert_array_equal(found["forces"], expected["forces"])
    assert kept.reused > 0


def test_lists_of_batches_are_kept(f32, crystal, ethanol):
    kept = forgefield.Neighbors(0.3)
    images = [crystal, ethanol, crystal.copy()]
    given = lambda: (
        np.concatenate([atoms.positions for atoms in images]),
        np.concatenate([atoms.numbers for atoms in images]),
        np.array([atoms.cell.array for atoms in images]),
        np.array([atoms.pbc for atoms in images]),
        np.repeat(np.arange(3), 9),
    )
    for _ in range(4):
        found, expected = f32.compute(*given(), neighbors=kept), f32.compute(*given())
        for name in ["energy", "forces", "stress"]:
            np.testing.assert_array_equal(found[name], expected[name])
        images[1].positions[2] += 0.01
    assert kept.reused == 2
    # More than one call suffices for: nothing is kept, and nothing changes.
    n = 2_500
    many = np.tile(ethanol.positions, (n, 1)), np.tile(ethanol.numbers, n), None, None, np.repeat(np.arange(n), 9)
    for _ in range(3):
        assert (f32.compute(*many, neighbors=kept)["energy"] == compute(f32, ethanol)["energy"]).all()
    assert kept.reused == 2


def test_kept_lists_are_copied_and_pickled_as_their_skin(f32, crystal):
    kept = forgefield.Neighbors(skin=0.7)
    for _ in range(3):
        compute(f32, crystal, neighbors=kept)
    assert kept.reused == 1 and repr(kept) == "<forgefield.Neighbors: a skin of 0.7 Å>"
    for other in [copy.copy(kept), copy.deepcopy(kept), pickle.loads(pickle.dumps(kept))]:
        assert (other.skin, other.reused) == (0.7, 0) and other is not kept
        assert compute(f32, crystal, neighbors=other)["energy"] == compute(f32, crystal)["energy"]
    for skin in [-0.1, float("nan")]:
        with pytest.raises(ValueError, match="`skin`: expected a length in Å, 0 or more, found"):
            forgefield.Neighbors(skin)


def test_threads_may_share_kept_lists(f32, crystal):
    images = [crystal.copy() for _ in range(4)]
    for k, atoms in enumerate(images):
        atoms.positions += 1e-3 * k
        atoms.positions[k] += 0.02
    expected = [compute(f32, atoms) for atoms in images]
    kept, wrong = forgefield.Neighbors(), []

    def work(offset):
        for k in range(100):
            found = compute(f32, images[(k + offset) % 4], neighbors=kept)
            if (found["forces"] != expected[(k + offset) % 4]["forces"]).any():
                wrong.append(k)

    threads = [threading.Thread(target=work, args=(offset,)) for offset in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert wrong == [] and kept.reused > 0


def test_the_lock_is_released(f32):
    """Another thread counts while a long call runs."""
    atoms = molecule("CH3CH2OH")
    counted, done = [0], threading.Event()

    def count():
        while not done.is_set():
            counted[0] += 1
            time.sleep(0.001)

    n, took, while_it_ran = 1_000, 0.0, 0
    thread = threading.Thread(target=count)
    thread.start()
    # A call of a tenth of a second, however fast this machine is.
    while took < 0.1:
        n *= 2
        given = np.tile(atoms.positions, (n, 1)), np.tile(atoms.numbers, n), None, None, np.repeat(np.arange(n), 9)
        before, begun = counted[0], time.perf_counter()
        f32.compute(*given)
        took, while_it_ran = time.perf_counter() - begun, counted[0] - before
    done.set()
    thread.join()
    # Under the lock it would be one or two.
    assert while_it_ran >= 10


def _energy(arguments):
    model, positions, numbers = arguments
    # Enough atoms for more than one thread.
    assert len(forgefield.neighbor_list("i", np.random.default_rng(0).random((20_000, 3)) * 60.0, 3.0)) > 100_000
    return model.compute(np.tile(positions, (20, 1)), np.tile(numbers, 20), systems=np.repeat(range(20), 9))["energy"]


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork on this system")
def test_forked_processes_compute(f32, ethanol):
    # Threads of this process exist by now.
    expected = _energy((f32, ethanol.positions, ethanol.numbers))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads, which is what is tested
        with multiprocessing.get_context("fork").Pool(2) as pool:
            found = pool.map_async(_energy, [(f32, ethanol.positions, ethanol.numbers)] * 4).get(timeout=60)
    for energies in found:
        np.testing.assert_array_equal(energies, expected)


@pytest.mark.skipif(sys.platform == "win32", reason="no signals to send")
def test_ctrl_c_is_heard():
    """Between the parts of a large batch, long before all is done."""
    script = f"""
import numpy as np, signal
from ase.build import molecule
import forgefield
model, atoms, n = forgefield.Model.load({str(MODEL)!r}), molecule("CH3CH2OH"), 200_000
arguments = np.tile(atoms.positions, (n, 1)), np.tile(atoms.numbers, n), None, None, np.repeat(np.arange(n), 9)
# Where tests run in the background, a shell has had the signal ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
print("begun", flush=True)
try:
    model.compute(*arguments)
    print("not interrupted")
except KeyboardInterrupt:
    print("interrupted")
print(model.compute(atoms.positions, atoms.numbers)["energy"])
"""
    # In one thread all of it takes a dozen seconds anywhere.
    environment = {**os.environ, "RAYON_NUM_THREADS": "1"}
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout.readline() == "begun\n"
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    begun = time.perf_counter()
    said, _ = process.communicate(timeout=60)
    # A part takes some 0.2 s; the rest is for a machine that does other things too.
    assert time.perf_counter() - begun < 5.0
    assert said.splitlines()[0] == "interrupted" and len(said.splitlines()) == 2, said
