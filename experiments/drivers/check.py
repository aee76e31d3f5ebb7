"""Drives `forgefield serve` by i-PI and by ASE's SocketIOCalculator; what is checked is in README.md."""

import argparse
import json
import os
import pathlib
import re
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

import numpy as np
from ase import Atoms
from ase.calculators.socketio import SocketIOCalculator
from ase.io import read, write

ROOT = pathlib.Path(__file__).resolve().parents[2]
ETHANOL = ROOT / "models/ethanol-painn-small.safetensors"
GOLDEN = ROOT / "tests/golden/models"
STEPS = 200
# Of the barostat in fs: the volume moves by some percent in so many steps.
TAU = 300
# Of the conserved quantity in meV: what the integrator errs by, a half meV for each atom. A wrong virial makes it some eV.
MOST_WANDER = 20.0
# i-PI's own constants have eight digits, and energies that went through them no more.
DIGITS = 2e-7
BOHR_OF_IPI = 1 / 1.8897261

parser = argparse.ArgumentParser()
parser.add_argument("--forgefield", required=True, type=pathlib.Path)
parser.add_argument("--only", help="the checks whose names contain this")
arguments = parser.parse_args()
FORGEFIELD = arguments.forgefield.resolve()
# Names of sockets in /tmp, this run's own.
OWN = f"forgefield-{os.getpid()}"


STARTED = []


def tidy():
    """Whatever a check that failed has left."""
    for process in STARTED:
        if process.poll() is None:
            process.kill()
            process.wait()
    for path in pathlib.Path("/tmp").glob(f"ipi_{OWN}*"):
        path.unlink()


def server_of(name):
    return ["--unix", name] if isinstance(name, str) else ["--ipi", f"127.0.0.1:{name}"]


class Client:
    """A running `forgefield serve` in a folder."""

    def __init__(self, folder, name, structure, model=ETHANOL, options=()):
        self.errors = tempfile.TemporaryFile("w+")
        command = [FORGEFIELD, "serve", *server_of(name), "--model", model, "--structure", folder / structure]
        command += ["--dtype", "f64", "--threads", "1", "--json", *options]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self.errors, text=True)
        STARTED.append(self.process)

    def said(self):
        self.errors.seek(0)
        return self.errors.read()

    def end(self, code=0):
        """Its report, once it has ended with this code."""
        out, _ = self.process.communicate(timeout=60)
        assert self.process.returncode == code, f"exit code {self.process.returncode}: {self.said()}"
        return json.loads(out)


def predicted(folder, structure, model):
    out = folder / "predicted.extxyz"
    command = [FORGEFIELD, "predict", folder / structure, "--model", model, "--dtype", "f64", "-o", out]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return read(out, ":")


# ------------------------------------------------------------------ ASE


def frames():
    """Structures in which a transposed cell, a lost sign or a wrong direction shows, and the model that computes them."""
    rng = np.random.default_rng(0)
    model = GOLDEN / "painn_gaussian_centered.safetensors"
    plain = [atoms for atoms in read(GOLDEN / "painn_gaussian_centered.extxyz", ":")]
    yield "molecule", model, plain[1]
    triclinic = Atoms(plain[-1].numbers, plain[-1].positions, cell=plain[-1].cell, pbc=True)
    yield "triclinic", model, triclinic
    # A cell in any direction: no element of its matrix is zero.
    turned = triclinic.copy()
    turned.rotate(37, (1, 2, 3), rotate_cell=True)
    assert (abs(turned.cell.array) > 1e-3).all()
    yield "turned", model, turned
    far = turned.copy()
    far.positions += rng.integers(-100, 101, (len(far), 3)) @ far.cell.array
    yield "a hundred cells away", model, far
    left = turned.copy()
    left.set_cell(turned.cell.array[[1, 0, 2]])
    assert left.cell.handedness == -1
    yield "left-handed", model, left
    slab = turned.copy()
    slab.pbc = [True, True, False]
    yield "slab", model, slab
    yield "thinner than the cutoff", model, Atoms(plain[3].numbers, plain[3].positions, cell=plain[3].cell, pbc=True)
    ethanol = read(ROOT / "models/ethanol.extxyz")
    yield "ethanol", ETHANOL, Atoms(ethanol.numbers, ethanol.positions)


def check_ase(folder, transport="unix"):
    worst = {"energy": 0.0, "forces": 0.0, "stress": 0.0}
    for number, (name, model, atoms) in enumerate(frames()):
        write(folder / "atoms.extxyz", atoms)
        moved = atoms.copy()
        moved.rattle(0.05, seed=1)
        if moved.pbc.any():
            moved.set_cell(moved.cell.array @ (np.eye(3) + 0.02 * np.array([[1, 2, -1], [0, -1, 3], [2, 0, 1]])), True)
        write(folder / "both.extxyz", [atoms, moved])
        expected = predicted(folder, "both.extxyz", model)
        place = {"unixsocket": f"{OWN}-{number}"} if transport == "unix" else {"port": free_port()}
        client = Client(folder, next(iter(place.values())), "atoms.extxyz", model, ["--retry", "0"])
        with SocketIOCalculator(**place, timeout=60) as calculator:
            served = atoms.copy()
            served.calc = calculator
            for structure, reference in zip((atoms, moved), expected):
                served.set_cell(structure.cell)
                served.positions = structure.positions
                found = {"energy": served.get_potential_energy(), "forces": served.get_forces()}
                if structure.pbc.any():
                    found["stress"] = served.get_stress()
                for key, value in found.items():
                    # Structures come to `predict` through a file, with eight digits of positions: some 1e-7 eV/Å.
                    worst[key] = max(worst[key], abs(value - reference.calc.results[key]).max())
        report = client.end()
        assert report["ended"] == "closed" and report["evaluations"] == 2, report
    assert worst["energy"] < 1e-6 and worst["forces"] < 1e-6 and worst["stress"] < 1e-6, worst
    return ", ".join(f"{key} within {value:.1e}" for key, value in worst.items())


def check_ase_tcp(folder):
    return check_ase(folder, "tcp")


# ------------------------------------------------------------------ i-PI


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def liquid():
    """Four molecules of ethanol in a triclinic cell with lattice vectors as i-PI wants them: a along x, b in the plane."""
    molecule = read(ROOT / "models/ethanol.extxyz")
    cell = np.array([[10.4, 0, 0], [1.9, 9.8, 0], [-1.3, 1.7, 5.4]])
    atoms = Atoms(cell=cell, pbc=True)
    for k, (a, b) in enumerate([(0, 0), (0.5, 0), (0, 0.5), (0.5, 0.5)]):
        copy = Atoms(molecule.numbers, molecule.positions - molecule.positions.mean(0))
        copy.rotate(67 * k, (1, k, 2))
        copy.positions += np.array([a, b, 0.3 * (k % 2)]) @ cell
        atoms += copy
    return atoms


def write_xyz(path, atoms):
    """As i-PI reads it: the cell as the 3×3 matrix whose columns are lattice vectors."""
    numbers = " ".join(f"{x:.10f}" for x in atoms.cell.array.T.ravel())
    lines = [str(len(atoms)), f"# CELL(H): {numbers} positions{{angstrom}} cell{{angstrom}}"]
    lines += [f"{s} {x:.10f} {y:.10f} {z:.10f}" for s, (x, y, z) in zip(atoms.symbols, atoms.positions)]
    path.write_text("\n".join(lines) + "\n")


NVT = "<dynamics mode='nvt'>{step}{thermostat}</dynamics>"
BAROSTAT = "<barostat mode='{barostat}'><tau units='femtosecond'>{tau}</tau>{thermostat}</barostat>"
NPT = "<dynamics mode='npt'>{step}{thermostat}" + BAROSTAT + "</dynamics>"


def write_input(folder, name, dynamics, beads=1, socket_options="", pbc="false", barostat="flexible", steps=STEPS):
    step = "<timestep units='femtosecond'>0.25</timestep>"
    kind = "langevin" if beads == 1 else "pile_l"
    thermostat = f"<thermostat mode='{kind}'><tau units='femtosecond'>100</tau></thermostat>"
    dynamics = dynamics.format(step=step, thermostat=thermostat, barostat=barostat, tau=TAU)
    mode, place = "unix", f"<address>{name}</address>"
    if not isinstance(name, str):
        mode, place = "inet", f"<address>127.0.0.1</address><port>{name}</port>"
    (folder / "input.xml").write_text(f"""<simulation verbosity='low' safe_stride='10'>
  <output prefix='sim'>
    <properties stride='1' filename='out'>
      [ step, conserved{{electronvolt}}, potential{{electronvolt}}, volume{{angstrom3}}, temperature{{kelvin}} ]
    </properties>
    <trajectory filename='pos' stride='{STEPS}' format='xyz' cell_units='angstrom'> positions{{angstrom}} </trajectory>
    <checkpoint filename='checkpoint' stride='10'/>
  </output>
  <total_steps>{steps}</total_steps>
  <prng><seed>4</seed></prng>
  <ffsocket name='forces' mode='{mode}' pbc='{pbc}'>{place}<latency>1e-4</latency>{socket_options}</ffsocket>
  <system>
    <initialize nbeads='{beads}'>
      <file mode='xyz'>init.xyz</file>
      <velocities mode='thermal' units='kelvin'>300</velocities>
    </initialize>
    <forces><force forcefield='forces'/></forces>
    <ensemble><temperature units='kelvin'>300</temperature><pressure units='megapascal'>0.1</pressure></ensemble>
    <motion mode='dynamics'>{dynamics}</motion>
  </system>
</simulation>
""")


class Ipi:
    """A running i-PI in a folder."""

    def __init__(self, folder, start="input.xml"):
        self.folder = folder
        self.log = open(folder / "ipi.log", "a")
        program = pathlib.Path(sys.executable).parent / "i-pi"
        # One thread of BLAS: matrices are tiny and cores are few.
        environment = dict(os.environ, OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
        self.process = subprocess.Popen(
            [sys.executable, program, start], cwd=folder, stdout=self.log, stderr=self.log, env=environment
        )
        STARTED.append(self.process)

    def steps(self):
        """Lines of its output so far."""
        try:
            return sum(not line.startswith("#") for line in open(self.folder / "sim.out"))
        except FileNotFoundError:
            return 0

    def reach(self, step):
        end = time.monotonic() + 60
        while self.steps() < step:
            assert self.process.poll() is None, f"i-PI ended early: {(self.folder / 'ipi.log').read_text()[-2000:]}"
            assert time.monotonic() < end, f"i-PI did not come to step {step} in a minute"
            time.sleep(0.005)

    def end(self):
        try:
            code = self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise AssertionError(f"i-PI did not end: {(self.folder / 'ipi.log').read_text()[-2000:]}") from None
        assert code == 0, (self.folder / "ipi.log").read_text()[-2000:]

    def output(self):
        rows = np.loadtxt(self.folder / "sim.out")
        return dict(zip(("step", "conserved", "potential", "volume", "temperature"), rows.T))


def wander(output):
    """How far the conserved quantity goes from where it was, in meV."""
    return 1e3 * np.ptp(output["conserved"])


def prepare(folder, atoms=None):
    """What i-PI and its clients begin with."""
    atoms = liquid() if atoms is None else atoms
    write_xyz(folder / "init.xyz", atoms)
    write(folder / "atoms.extxyz", atoms)


def simulate(folder, name, dynamics, clients=1, atoms=None, through=None, steps=STEPS, **options):
    """A whole simulation, and what its clients report."""
    prepare(folder, atoms)
    write_input(folder, name, dynamics, steps=steps, **options)
    ipi = Ipi(folder)
    serving = [Client(folder, through or name, "atoms.extxyz") for _ in range(clients)]
    ipi.end()
    reports = [client.end() for client in serving]
    output = ipi.output()
    assert len(output["step"]) == steps + 1 and output["step"][-1] == steps, output["step"]
    assert all(report["ended"] == "exit" for report in reports), reports
    return output, reports


def energy_of(folder, atoms):
    write(folder / "frame.extxyz", atoms)
    return predicted(folder, "frame.extxyz", ETHANOL)[0].get_potential_energy()


def last_frame(folder):
    """Where i-PI's last checkpoint has the atoms and the cell, in all digits."""
    text = (folder / "sim.checkpoint").read_text()
    assert re.search(rf"<step>\s*{STEPS}\s*</step>", text), "the checkpoint is of another step"
    numbers = {}
    for key in ("q", "cell"):
        block = re.search(rf"<{key} [^>]*>([^<]*)</{key}>", text).group(1)
        numbers[key] = np.array(re.findall(r"[-+.\deE]+", block), float) * BOHR_OF_IPI
    return Atoms(liquid().numbers, numbers["q"].reshape(-1, 3), cell=numbers["cell"].reshape(3, 3).T, pbc=True)


def assert_energy(folder, atoms, found):
    expected = energy_of(folder, atoms)
    assert abs(found - expected) < DIGITS * abs(expected), (found, expected)


def check_nvt(folder):
    atoms = liquid()
    # Whole molecules a hundred cells away, and i-PI leaves them there.
    atoms.positions[9:18] += np.array([100, -70, 0]) @ atoms.cell.array
    atoms.positions[18:27] += np.array([0, 3, 100]) @ atoms.cell.array
    output, [report] = simulate(folder, OWN, NVT, atoms=atoms)
    # One for each step, and one of where it begins.
    assert report["evaluations"] == STEPS + 1, report
    assert_energy(folder, atoms, output["potential"][0])
    assert_energy(folder, last_frame(folder), output["potential"][-1])
    moved = np.ptp(output["potential"]) * 1e3
    assert wander(output) < MOST_WANDER, wander(output)
    wrapped = folder / "wrapped"
    wrapped.mkdir()
    inside, _ = simulate(wrapped, OWN, NVT, atoms=atoms, pbc="true")
    difference = abs(output["potential"] - inside["potential"])[:50].max()
    assert difference < 1e-6, f"wrapped by i-PI the energy differs by {difference} eV"
    return (
        f"conserved within {wander(output):.2f} meV where the potential moves by {moved:.0f} meV, "
        f"{report['evaluations_per_s']:.0f} evaluations/s; wrapped or not within {difference:.1e} eV"
    )


def check_npt(folder):
    said = []
    for barostat in ("isotropic", "flexible"):
        below = folder / barostat
        below.mkdir()
        output, _ = simulate(below, OWN, NPT, barostat=barostat)
        assert_energy(below, last_frame(below), output["potential"][-1])
        strained = 100 * np.ptp(output["volume"]) / output["volume"][0]
        wrong = folder / f"{barostat}-turned"
        wrong.mkdir()
        with Proxy(f"{OWN}-behind", OWN, len(liquid())):
            turned, _ = simulate(wrong, OWN, NPT, barostat=barostat, through=f"{OWN}-behind", steps=50)
        right, false = wander(output), wander(turned)
        said.append(
            f"{barostat}: volume moves by {strained:.1f} %, conserved within {right:.2f} meV; "
            f"with the virial's sign turned {false:.0f} meV in 50 steps"
        )
        assert right < MOST_WANDER and false > 10 * right, said[-1]
    return "; ".join(said)


class Proxy:
    """Stands between a client and i-PI and changes the virial, so that the check of it is seen to fail."""

    def __init__(self, name, server, atoms):
        self.path, self.server, self.atoms = f"/tmp/ipi_{name}", f"/tmp/ipi_{server}", atoms

    def __enter__(self):
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.path)
        self.listener.listen()
        threading.Thread(target=self.run, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.listener.close()
        os.unlink(self.path)

    def run(self):
        client, _ = self.listener.accept()
        server = socket.socket(socket.AF_UNIX)
        while True:
            try:
                server.connect(self.server)
                break
            except OSError:
                time.sleep(0.01)
        threading.Thread(target=self.forward, args=(server, client), daemon=True).start()
        at = 12 + 8 + 4 + 24 * self.atoms
        while header := client.recv(12, socket.MSG_WAITALL):
            if header == b"FORCEREADY  ":
                rest = bytearray(client.recv(at - 12 + 72 + 4, socket.MSG_WAITALL))
                virial = struct.unpack_from("9d", rest, at - 12)
                struct.pack_into("9d", rest, at - 12, *(-x for x in virial))
                header += rest
            server.sendall(header)

    def forward(self, source, to):
        while data := source.recv(65536):
            to.sendall(data)
        to.close()


def check_clients(folder):
    """A path of four beads by one client, by two, and in batches of four: the same path."""
    outputs, steps = {}, 60
    options = {"one": (1, ""), "two": (2, "")}
    options |= {name: (1, f"<batch_size>{size}</batch_size>") for name, size in (("batch", 4), ("odd", 3))}
    said = []
    for name, (clients, socket_options) in options.items():
        below = folder / name
        below.mkdir()
        outputs[name], reports = simulate(below, OWN, NVT, clients, beads=4, steps=steps, socket_options=socket_options)
        evaluations = [report["evaluations"] for report in reports]
        # A path begins with its beads in one place: copies, which a batch computes once.
        first = {"batch": 1, "odd": 2}.get(name, 4)
        assert sum(evaluations) == 4 * steps + first and min(evaluations) > 0, (name, evaluations)
        said.append(f"{name}: {' + '.join(map(str, evaluations))}")
    for name, output in outputs.items():
        difference = abs(output["potential"] - outputs["one"]["potential"]).max()
        assert difference == 0.0, f"{name}: the path differs by {difference} eV"
    return f"evaluations {', '.join(said)}; the same path to the last digit"


def check_leaving_client(folder):
    """Another client goes on where one left, as if nothing had been."""
    whole = folder / "whole"
    whole.mkdir()
    undisturbed, _ = simulate(whole, OWN, NVT)
    said = []
    # i-PI 3.3.1 with consolidated messages ends where a client is killed in the midst of a step; without, it goes on.
    apart = "<consolidate_messages>false</consolidate_messages>"
    for name, number, code, options in (("interrupted", signal.SIGINT, 130, ""), ("killed", signal.SIGKILL, -9, apart)):
        below = folder / name
        below.mkdir()
        prepare(below)
        write_input(below, OWN, NVT, socket_options=options)
        ipi = Ipi(below)
        first = Client(below, OWN, "atoms.extxyz")
        ipi.reach(50)
        first.process.send_signal(number)
        assert first.process.wait(30) == code, first.said()
        steps = ipi.steps()
        assert steps < STEPS, "i-PI had ended before its client left"
        second = Client(below, OWN, "atoms.extxyz")
        ipi.end()
        report = second.end()
        assert report["ended"] == "exit" and report["evaluations"] > 0, report
        output = ipi.output()
        assert len(output["step"]) == STEPS + 1
        difference = abs(output["potential"] - undisturbed["potential"]).max()
        assert difference == 0.0, f"{name}: the simulation differs by {difference} eV from one without it"
        said.append(f"{name} after about {steps} steps, {report['evaluations']} by the next")
    return f"{'; '.join(said)}; the same simulation to the last digit"


def check_returning_server(folder):
    """A client that is there before its server, and waits for it to come back after it was killed."""
    port = free_port()
    prepare(folder)
    write_input(folder, port, NVT)
    client = Client(folder, port, "atoms.extxyz", options=["--wait", "30", "--retry", "30"])
    time.sleep(0.3)
    ipi = Ipi(folder)
    ipi.reach(60)
    # Not while it writes what it starts again from.
    while True:
        ipi.process.send_signal(signal.SIGSTOP)
        if "</simulation>" in (folder / "sim.checkpoint").read_text():
            break
        ipi.process.send_signal(signal.SIGCONT)
        time.sleep(0.01)
    killed = ipi.steps()
    assert killed < STEPS, "i-PI had ended before it was killed"
    ipi.process.kill()
    ipi.process.wait()
    ipi = Ipi(folder, "sim.checkpoint")
    ipi.end()
    report = client.end()
    assert report["ended"] == "exit" and report["connections"] >= 2, report
    assert ipi.output()["step"][-1] == STEPS
    return f"killed after about {killed} steps, {report['evaluations']} evaluations over {report['connections']} connections"


def refusal(folder, code, words, serve=None, options=(), interrupt=False):
    """What a client says of a server that is played by `serve`, which is given the connection."""
    name = f"{OWN}-played"
    client = Client(folder, name, "atoms.extxyz", options=["--retry", "0", *options])
    if serve:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(f"/tmp/ipi_{name}")
            try:
                listener.listen()
                listener.settimeout(30)
                connection, _ = listener.accept()
                with connection:
                    serve(connection)
                    if interrupt:
                        client.process.send_signal(signal.SIGINT)
                    client.process.wait(30)
            finally:
                os.unlink(f"/tmp/ipi_{name}")
    report = client.end(code)
    said = client.said()
    errors = [line for line in said.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and words in errors[0] and "panicked" not in said, said
    return report


def check_refusals(folder):
    prepare(folder)
    refusal(folder, 3, "cannot connect to /tmp/ipi_", options=["--wait", "0.3"])
    refusal(folder, 2, "unknown header `GET / HTTP/1`", lambda c: c.sendall(b"GET / HTTP/1.1\r\n\r\n"))
    refusal(folder, 3, "the connection ended in POSDATA", lambda c: (c.sendall(b"POSDATA     " + bytes(100)), c.close()))
    wrong = b"POSDATA     " + bytes(144) + struct.pack("i", 37)
    refusal(folder, 2, "POSDATA has 37 atoms, expected 36", lambda c: c.sendall(wrong))
    nothing = b"POSDATA     " + bytes(144) + struct.pack("i", 36) + struct.pack("108d", *range(108))
    refusal(folder, 2, "evaluation 1: ", lambda c: c.sendall(nothing))
    asks = lambda c: (c.sendall(b"STATUS      "), c.recv(12))
    report = refusal(folder, 130, "interrupted after 0 evaluations", asks, interrupt=True)
    assert report["ended"] == "interrupted", report
    write_input(folder, OWN, NVT)
    text = (folder / "input.xml").read_text()
    (folder / "input.xml").write_text(text.replace("mode='unix'", "mode='shm'"))
    ipi = Ipi(folder)
    client = Client(folder, OWN, "atoms.extxyz")
    client.end(2)
    assert "shared memory" in client.said(), client.said()
    tidy()
    return "by name and without a panic"


CHECKS = [
    check_ase,
    check_ase_tcp,
    check_nvt,
    check_npt,
    check_clients,
    check_leaving_client,
    check_returning_server,
    check_refusals,
]


def main():
    begin = time.monotonic()
    for check in CHECKS:
        name = check.__name__.removeprefix("check_").replace("_", " ")
        if arguments.only and arguments.only not in name:
            continue
        started = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="forgefield-drivers-") as folder:
            said = check(pathlib.Path(folder))
        print(f"{name}: {said} ({time.monotonic() - started:.1f} s)", flush=True)
    print(f"all drivers were served, in {time.monotonic() - begin:.1f} s")


if __name__ == "__main__":
    try:
        main()
    finally:
        tidy()
