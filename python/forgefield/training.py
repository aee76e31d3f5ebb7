"""Training from Python: the program `forgefield` of the same installation does it, in a process of its own."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import warnings
from importlib import metadata
from pathlib import Path

# Seconds from one look at a run to the next.
LOOK = 0.05
# Code with which the program ends where what it was given is wrong.
INPUT = 2


def train(
    config=None,
    output="model.safetensors",
    *,
    train=None,
    validation=None,
    test=None,
    log=None,
    resume=False,
    fresh=False,
    threads=None,
    on_epoch=None,
):
    """Fits a model to labelled frames; returns what the run says of it, errors in meV/atom, meV/Å and GPa, as a dict.

    config: the path of a TOML file as `forgefield train` reads it, or its sections as a dict of dicts
    (`{"model": {"features": 64}, "run": {"epochs": 100}}`); docs/training.md has all keys.
    output: the model's file that is written. Beside it stands a checkpoint until the training has ended.
    train, validation, test: frames to fit, to watch and to test on, in the place of the config's: a path, a list of paths, or a list
    of ASE `Atoms` whose calculators hold their energies (eV), forces (eV/Å) and stresses (eV/Å³).
    log: a file that gets a JSON line for every epoch.
    resume, fresh: goes on from the checkpoint where there is one, or begins anew; without either one that is there is refused.
    threads: in which parts of a batch are computed; results do not depend on it.
    on_epoch: is called with the line of each epoch as a dict. What it raises ends the training, as Ctrl-C does.

    Raises `ValueError` for what is wrong with config or frames, `ArithmeticError` where the loss is not finite (the best weights
    before it are in `output`), `RuntimeError` for anything else. Ctrl-C leaves the checkpoint.
    """
    with tempfile.TemporaryDirectory(prefix="forgefield-") as folder:
        folder = Path(folder)
        command = [_program(), "--quiet", "train", "--json", "--output", os.fspath(output)]
        command += ["--resume"] * bool(resume) + ["--fresh"] * bool(fresh)
        if isinstance(config, dict):
            path = folder / "config.toml"
            path.write_text(_toml(config, Path.cwd()))
            command.append(os.fspath(path))
        elif config is not None:
            command.append(os.fspath(config))
        for name, frames in [("train", train), ("validation", validation), ("test", test)]:
            if frames is not None:
                command += [f"--{name}", *_files(name, frames, folder)]
        if any(_is_atoms(frames) for frames in (train, validation, test)):
            command += ["--energy-unit", "eV"]
        if threads is not None:
            command += ["--threads", str(threads)]
        log = folder / "log.jsonl" if log is None else Path(log)
        command += ["--log", os.fspath(log)]
        return _run(command, log, on_epoch)


def _run(command, log, on_epoch):
    size = log.stat().st_size if "--resume" in command and log.exists() else 0
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as said:
        # Of a session of its own: an interrupt reaches it once, from here.
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=said, start_new_session=True)
        try:
            epochs = _Lines(log, size)
            while True:
                try:
                    code = process.wait(LOOK)
                except subprocess.TimeoutExpired:
                    code = None
                if on_epoch is not None:
                    for row in epochs.new():
                        on_epoch(row)
                if code is not None:
                    break
        except BaseException:
            process.send_signal(signal.SIGINT)
            process.wait()
            raise
        out.seek(0)
        said.seek(0)
        told = said.read().strip().splitlines()
        report = out.read()
    error = next((line.removeprefix("error: ") for line in reversed(told) if line.startswith("error: ")), None)
    for line in told:
        if not line.startswith("error: "):
            warnings.warn(line.removeprefix("warning: "), stacklevel=3)
    if code == 0:
        return json.loads(report)
    error = error or f"the program ended with code {code}"
    if code == INPUT:
        raise ValueError(error)
    raise (ArithmeticError if code == 1 else RuntimeError)(error)


class _Lines:
    """JSON lines that another process is writing."""

    def __init__(self, path, at):
        self.path, self.at = path, at

    def new(self):
        if not self.path.exists():
            return
        with open(self.path, "rb") as file:
            file.seek(self.at)
            for line in file:
                if not line.endswith(b"\n"):
                    break
                self.at += len(line)
                yield json.loads(line)


def _program():
    """The program of this installation."""
    name = "forgefield.exe" if sys.platform == "win32" else "forgefield"
    for file in metadata.files("forgefield") or []:
        if file.name == name and ".." in file.parts:
            path = Path(file.locate()).resolve()
            if path.is_file():
                return os.fspath(path)
    raise RuntimeError(f"expected the program `{name}` that is installed with this module, found none")


def _is_atoms(frames):
    return isinstance(frames, (list, tuple)) and len(frames) > 0 and hasattr(frames[0], "get_positions")


def _files(name, frames, folder):
    if isinstance(frames, (str, os.PathLike)):
        return [os.fspath(frames)]
    if not _is_atoms(frames):
        if len(frames) == 0:
            raise ValueError(f"`{name}`: expected frames, found none")
        return [os.fspath(path) for path in frames]
    from ase.io import write

    path = folder / f"{name}.extxyz"
    write(path, frames, format="extxyz")
    return [os.fspath(path)]


def _toml(config, folder):
    """Sections as TOML; paths in them are relative to `folder`."""
    lines = []
    for section, content in config.items():
        if not isinstance(content, dict):
            raise ValueError(f"`{section}`: expected a dict, a section of the config, found {content!r}")
        lines.append(f"[{json.dumps(section)}]")
        for key, value in content.items():
            if value is None:
                continue
            if section == "data" and key in ("train", "validation", "test", "isolated_atoms", "teacher"):
                many = isinstance(value, (list, tuple))
                value = [os.fspath(folder / path) for path in value] if many else os.fspath(folder / value)
            lines.append(f"{json.dumps(key)} = {_value(key, value)}")
    return "\n".join(lines) + "\n"


def _value(key, value):
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_value(key, item) for item in value) + "]"
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if isinstance(value, (bool, str)):
        return json.dumps(value, ensure_ascii=False)
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, int) or (isinstance(value, float) and math.isfinite(value)):
        return repr(value)
    raise ValueError(f"`{key}`: expected a number, a text, a truth value or a list of them, found {value!r}")
