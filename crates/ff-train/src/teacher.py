"""An ASE calculator that labels structures: a line of JSON in, a line of JSON out, until the input ends.

Arguments: `module:callable`, and its keyword arguments as JSON. Lengths in Å, energies in eV; stress with tension positive.
"""

import importlib
import json
import os
import signal
import sys

# Ctrl-C is for whoever asks: this ends with its input.
signal.signal(signal.SIGINT, signal.SIG_IGN)
# Lines go to what was standard output; whatever the calculator prints goes to standard error.
answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)


def answer(**line):
    answers.write(json.dumps(line, allow_nan=False) + "\n")
    answers.flush()


def calculator(path, arguments):
    module, _, name = path.partition(":")
    sys.path.insert(0, os.getcwd())
    found = importlib.import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    return found(**arguments)


def labels(teacher, structure):
    import numpy
    from ase import Atoms
    from ase.calculators.calculator import PropertyNotImplementedError

    atoms = Atoms(
        numbers=structure["numbers"], positions=structure["positions"], cell=structure["cell"], pbc=structure["pbc"]
    )
    if structure["charges"] is not None:
        atoms.set_initial_charges(structure["charges"])
    if structure["magmoms"] is not None:
        atoms.set_initial_magnetic_moments(structure["magmoms"])
    atoms.calc = teacher
    found = {"energy": float(atoms.get_potential_energy()), "forces": atoms.get_forces().tolist(), "stress": None}
    if any(structure["pbc"]):
        try:
            found["stress"] = atoms.get_stress(voigt=False).tolist()
        except (NotImplementedError, PropertyNotImplementedError):
            pass
    for name, value in found.items():
        if value is not None and not numpy.all(numpy.isfinite(value)):
            raise ValueError(f"its {name} is not finite")
    return found


def reason(error):
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def main():
    try:
        import ase

        teacher = calculator(sys.argv[1], json.loads(sys.argv[2]))
    except Exception as error:
        answer(fatal=reason(error))
        return
    answer(ready=f"{type(teacher).__name__}, ASE {ase.__version__}")
    for line in sys.stdin:
        try:
            answer(**labels(teacher, json.loads(line)))
        except Exception as error:
            answer(error=reason(error))
            # What a failed calculation left is not to be taken for a result.
            if hasattr(teacher, "reset"):
                teacher.reset()


main()
