"""ASE's contract, and what others' calculators failed it by."""

import copy
import pickle

import numpy as np
import pytest
from ase import Atoms, units
from ase.calculators.calculator import PropertyNotImplementedError
from ase.calculators.fd import calculate_numerical_forces, calculate_numerical_stress
from ase.calculators.lj import LennardJones
from ase.calculators.mixing import SumCalculator
from ase.filters import FrechetCellFilter
from ase.io import Trajectory, read, write
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import thermalize_momenta
from ase.md.verlet import VelocityVerlet
from ase.mep import NEB
from ase.optimize import BFGS
from ase.phonons import Phonons
from conftest import MODEL, random_atoms

import forgefield
from forgefield import Calculator


def test_types(f64, crystal):
    crystal.calc = calc = Calculator(f64)
    assert type(crystal.get_potential_energy()) is float
    assert crystal.get_potential_energy(force_consistent=True) == crystal.get_potential_energy()
    assert calc.results["free_energy"] == calc.results["energy"]
    assert crystal.get_potential_energies().sum() == pytest.approx(crystal.get_potential_energy(), abs=1e-9)
    forces, stress = crystal.get_forces(), crystal.get_stress()
    assert (forces.shape, forces.dtype, stress.shape, stress.dtype) == ((9, 3), np.float64, (6,), np.float64)
    whole = f64.compute(crystal.positions, crystal.numbers, crystal.cell, True)["stress"]
    np.testing.assert_array_equal(crystal.get_stress(voigt=False), (whole + whole.T) / 2)
    for name in ["energy", "energies", "free_energy", "forces", "stress"]:
        assert name in calc.implemented_properties


def test_the_caller_may_change_what_it_got(f64, crystal):
    crystal.calc = Calculator(f64)
    forces, stress = crystal.get_forces(), crystal.get_stress()
    forces += 1.0
    stress *= 0.0
    crystal.get_potential_energies()[:] = 7.0
    assert abs(crystal.get_forces() - forces + 1.0).max() < 1e-12
    assert crystal.get_stress().any() and crystal.get_potential_energies()[0] != 7.0


@pytest.mark.parametrize("cell", [None, np.eye(3) * 30.0, np.zeros((3, 3))])
def test_a_molecule_has_no_stress(f64, ethanol, cell):
    ethanol.calc = Calculator(f64)
    if cell is not None:
        ethanol.cell = cell
    with pytest.raises(PropertyNotImplementedError):
        ethanol.get_stress()
    assert "stress" not in ethanol.calc.results


def test_a_slab_has_stress_along_itself(f64, slab):
    slab.calc = Calculator(f64)
    stress = slab.get_stress(voigt=False)
    normal = np.cross(slab.cell[0], slab.cell[1])
    assert abs(stress @ normal).max() < 1e-12 and abs(stress).max() > 1e-4
    slab.cell[2] = 0.0
    with pytest.raises(PropertyNotImplementedError):
        slab.get_stress()


@pytest.mark.parametrize("which", ["ethanol", "crystal", "slab"])
def test_forces_are_the_slope_of_the_energy(f64, which, request):
    atoms = request.getfixturevalue(which)
    atoms.calc = Calculator(f64)
    # Second-order differences err by the third derivative times the step squared.
    numerical = calculate_numerical_forces(atoms, eps=1e-4)
    np.testing.assert_allclose(atoms.get_forces(), numerical, atol=2e-6)


def test_stress_is_the_slope_of_the_energy(f64, crystal):
    crystal.calc = Calculator(f64)
    numerical = calculate_numerical_stress(crystal, eps=1e-5)
    np.testing.assert_allclose(crystal.get_stress(), numerical, atol=1e-7)


def test_results_are_never_stale(f64, crystal):
    # So small that the energy changes with each side of the cell.
    crystal.set_cell(crystal.cell.array * 0.8)
    crystal.calc = calc = Calculator(f64, enable_timing=True)
    energies = [crystal.get_potential_energy()]

    def changed():
        assert crystal.get_potential_energy() == Calculator(f64).get_potential_energy(crystal.copy())
        np.testing.assert_array_equal(crystal.get_forces(), Calculator(f64).get_forces(crystal.copy()))
        energies.append(crystal.get_potential_energy())

    crystal.positions[0, 0] += 0.02
    changed()
    crystal.numbers[8] = 6
    changed()
    crystal.cell[1, 1] += 0.1
    changed()
    crystal.pbc[2] = False
    changed()
    assert len(set(energies)) == 5
    # Another Atoms of the same size, asked of the same calculator.
    other = crystal.copy()
    other.rattle(0.05, seed=9)
    assert calc.get_potential_energy(other) == Calculator(f64).get_potential_energy(other.copy())
    assert crystal.get_potential_energy() == energies[-1]
    calls = calc.timing["calls"]
    crystal.set_initial_charges(np.full(9, 0.1))
    crystal.get_potential_energy()
    assert calc.timing["calls"] == calls + 1
    crystal.get_forces(), crystal.get_potential_energies(), crystal.get_potential_energy()
    assert calc.timing["calls"] == calls + 1
    assert 0 < calc.timing["model"] <= calc.timing["calculate"]


def test_an_error_leaves_nothing_behind(f64, ethanol):
    ethanol.calc = calc = Calculator(f64)
    energy = ethanol.get_potential_energy()
    x = ethanol.positions[3, 1]
    ethanol.positions[3, 1] = np.nan
    for _ in range(2):
        with pytest.raises(ValueError, match="position of atom 3"):
            ethanol.get_potential_energy()
    assert calc.results == {}
    ethanol.positions[3, 1] = x
    assert ethanol.get_potential_energy() == energy


def test_info_is_left_alone(f64, crystal):
    crystal.info = {"name": "x", "nested": {"a": [1]}}
    before = copy.deepcopy(crystal.info)
    crystal.calc = Calculator(f64)
    crystal.get_stress()
    assert crystal.info == before


def test_odd_atoms(f64):
    calc = Calculator(f64)
    alone = Atoms("O")
    assert calc.get_forces(alone).tolist() == [[0, 0, 0]]
    far = Atoms("OH", [[0, 0, 0], [0, 0, 60.0]])
    assert calc.get_potential_energy(far) == pytest.approx(
        calc.get_potential_energy(alone) + calc.get_potential_energy(Atoms("H")), abs=1e-9
    )
    assert calc.get_forces(Atoms()).shape == (0, 3)


def test_atoms_far_outside_of_their_cell(f64, crystal):
    calc = Calculator(f64)
    energy, forces = calc.get_potential_energy(crystal), calc.get_forces(crystal)
    crystal.positions[::2] += np.array([100, -73, 41]) @ crystal.cell.array
    assert calc.get_potential_energy(crystal) == pytest.approx(energy, abs=1e-9)
    np.testing.assert_allclose(calc.get_forces(crystal), forces, atol=1e-9)


def test_batches_are_what_single_calls_are(f32, ethanol, crystal, slab):
    rng = np.random.default_rng(2)
    images = [ethanol, crystal, random_atoms(rng, 4), slab, Atoms("O"), random_atoms(rng, 11, pbc=False)]
    calc = Calculator(f32)
    for atoms, result in zip(images, calc.calculate_batch(iter(images)), strict=True):
        single = Calculator(f32)
        single.calculate(atoms)
        assert set(result) == set(single.results)
        for name, value in single.results.items():
            np.testing.assert_array_equal(result[name], value)
        assert type(result["energy"]) is float and result["forces"].flags.owndata
    assert calc.results == {} and calc.atoms is None and calc.calculate_batch([]) == []


def test_verlet_conserves_and_langevin_runs(f64, ethanol):
    ethanol.calc = Calculator(f64)
    BFGS(ethanol, logfile=None).run(fmax=0.02, steps=100)
    thermalize_momenta(ethanol, 300, rng=np.random.default_rng(0))
    dynamics = VelocityVerlet(ethanol, 0.5 * units.fs)
    total = [ethanol.get_total_energy()]
    dynamics.attach(lambda: total.append(ethanol.get_total_energy()))
    dynamics.run(200)
    # Of 0.3 eV of kinetic energy; the fluctuation of velocity Verlet at this step.
    assert np.ptp(total) < 0.02
    bath = {"temperature_K": 300, "friction": 0.01 / units.fs, "fixcm": False, "rng": np.random.default_rng(1)}
    Langevin(ethanol, 0.5 * units.fs, **bath).run(50)
    assert np.isfinite(ethanol.get_total_energy())


def test_dynamics_build_no_lists_anew(f32, crystal):
    """With the lists of the calculator and without any the path is the same to the last bit."""
    crystal.calc = calc = Calculator(f32)
    thermalize_momenta(crystal, 300, rng=np.random.default_rng(3))
    other = crystal.copy()
    other.calc = forgetful = Calculator(f32)
    forgetful.neighbors = None
    for atoms in (crystal, other):
        VelocityVerlet(atoms, 0.5 * units.fs).run(100)
    np.testing.assert_array_equal(crystal.positions, other.positions)
    assert 80 < calc.neighbors.reused < 100
    # Copies keep what they find themselves.
    for again in [copy.deepcopy(calc), pickle.loads(pickle.dumps(calc)), copy.deepcopy(crystal).calc]:
        assert again.neighbors.reused == 0 and again.neighbors is not calc.neighbors
    # Others of the same size by the same calculator are these.
    other.rattle(0.2, seed=3)
    for atoms in [other, crystal, other]:
        np.testing.assert_array_equal(calc.get_forces(atoms), Calculator(f32).get_forces(atoms.copy()))


def test_relaxation_of_atoms_and_cell(f64, crystal):
    crystal.calc = Calculator(f64)
    before = crystal.get_potential_energy()
    optimizer = BFGS(FrechetCellFilter(crystal), logfile=None)
    optimizer.run(fmax=1e-6, steps=15)
    assert crystal.get_potential_energy() < before


def test_neb_with_threads_and_a_shared_calculator(f32, ethanol):
    ethanol.calc = Calculator(f32)
    BFGS(ethanol, logfile=None).run(fmax=0.05, steps=100)
    other = ethanol.copy()
    other.rattle(0.1, seed=8)
    forces = []
    # Threads each have their image and its calculator, and all have one model; one calculator goes from image to image.
    for shared in [False, True]:
        images = [ethanol.copy() for _ in range(5)] + [other.copy()]
        calc = Calculator(f32)
        for image in images:
            image.calc = calc if shared else Calculator(f32)
        band = NEB(images, parallel=not shared, allow_shared_calculator=shared, method="improvedtangent")
        band.interpolate()
        BFGS(band, logfile=None).run(fmax=1e-6, steps=5)
        forces.append(band.get_forces())
    np.testing.assert_array_equal(*forces)


def test_phonons(f64, crystal, tmp_path):
    crystal.calc = calc = Calculator(f64)
    BFGS(crystal, logfile=None).run(fmax=1e-3, steps=60)
    phonons = Phonons(crystal, calc, supercell=(1, 1, 1), delta=0.01, name=str(tmp_path / "phonons"))
    phonons.run()
    phonons.read(acoustic=True)
    energies = phonons.band_structure([[0, 0, 0]])[0]
    # The O–H stretch is the highest, at some 0.46 eV, and none but rotation and sliding are below 10 meV.
    assert 0.42 < energies.max() < 0.49 and (energies > 0.01).sum() >= 21


def test_sums(f64, crystal):
    lj = LennardJones(epsilon=0.01, sigma=1.0, rc=4.0)
    crystal.calc = SumCalculator([Calculator(f64), lj])
    total = crystal.get_stress()
    np.testing.assert_allclose(total, Calculator(f64).get_stress(crystal) + lj.get_stress(crystal), atol=1e-12)
    assert crystal.get_forces().shape == (9, 3)


def test_pickles_and_copies(f64, crystal):
    crystal.calc = Calculator(f64)
    energy = crystal.get_potential_energy()
    for other in [pickle.loads(pickle.dumps(crystal)), copy.deepcopy(crystal)]:
        assert other.get_potential_energy() == energy
        other.positions[0, 0] += 0.1
        assert other.get_potential_energy() != energy
        assert crystal.get_potential_energy() == energy
    assert copy.deepcopy(crystal.calc).model is f64


def test_files_keep_results(f64, crystal, tmp_path):
    crystal.calc = Calculator(f64)
    crystal.get_stress()
    write(tmp_path / "x.extxyz", crystal)
    assert read(tmp_path / "x.extxyz").get_potential_energy() == pytest.approx(crystal.get_potential_energy(), rel=1e-8)
    with Trajectory(str(tmp_path / "x.traj"), "w", crystal) as trajectory:
        trajectory.write()
    np.testing.assert_array_equal(read(tmp_path / "x.traj").get_forces(), crystal.get_forces())


def test_models_and_paths(f64):
    assert Calculator(MODEL).model.dtype == "f32" and Calculator(str(MODEL), dtype="f64").model.dtype == "f64"
    assert Calculator(f64, dtype="float64").model is f64
    with pytest.raises(ValueError, match="`dtype`: the model was loaded in f64, found f32"):
        Calculator(f64, dtype="f32")
    assert forgefield.Calculator is Calculator
    with pytest.raises(AttributeError, match="no attribute 'calculator_'"):
        forgefield.calculator_
