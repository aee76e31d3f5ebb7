"""Builds the wheel: the module `forgefield` and the program of the same name, for pip (PEP 517) and `python/build`.

Cargo compiles both in one call, as `cargo test --workspace` does, so that what that compiled is used as it is. A build of the
module alone, as maturin asks for, has other features of the packages below and compiles all of them once more.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ["--package", "forgefield", "--package", "ff-python"]


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    """Compiles and packs; returns the name of the wheel, which lies in `wheel_directory`."""
    program, module, version = _compile()
    platform = re.sub(r"[-.]", "_", os.environ.get("FORGEFIELD_PLATFORM") or sysconfig.get_platform())
    tag = f"cp310-abi3-{platform}"
    name = f"forgefield-{version}"
    suffix = ".pyd" if sys.platform == "win32" else ".abi3.so"
    wheel = Path(wheel_directory) / f"{name}-{tag}.whl"
    wheel.parent.mkdir(parents=True, exist_ok=True)
    with _Wheel(wheel, f"{name}.dist-info/RECORD") as pack, tempfile.TemporaryDirectory() as folder:
        for path in sorted((ROOT / "python/forgefield").iterdir()):
            if path.suffix in (".py", ".pyi", ".typed") or path.name == "py.typed":
                pack.add(f"forgefield/{path.name}", path.read_bytes())
        pack.add(f"forgefield/_forgefield{suffix}", _stripped(module, folder), executable=True)
        pack.add(f"{name}.data/scripts/{program.name}", _stripped(program, folder), executable=True)
        for path in ["LICENSE-APACHE", "LICENSE-MIT"]:
            pack.add(f"{name}.dist-info/licenses/{path}", (ROOT / path).read_bytes())
        pack.add(f"{name}.dist-info/METADATA", _metadata(version).encode())
        text = f"Wheel-Version: 1.0\nGenerator: forgefield\nRoot-Is-Purelib: false\nTag: {tag}\n"
        pack.add(f"{name}.dist-info/WHEEL", text.encode())
    return wheel.name


def build_sdist(sdist_directory, config_settings=None):
    """There is none: the sources are the repository."""
    raise NotImplementedError("no source distribution is made: `pip install` takes the repository itself, by path or git+https")


def _compile():
    """The program, the module and their version; compiled where they are not up to date."""
    command = ["cargo", "build", "--release", *PACKAGES, "--message-format", "json-render-diagnostics"]
    built = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout
    program = module = version = None
    for message in map(json.loads, filter(lambda line: line.startswith("{"), built.splitlines())):
        if message.get("reason") != "compiler-artifact":
            continue
        if message["target"]["name"] == "forgefield" and message["executable"]:
            program = Path(message["executable"])
            version = re.search(r"[#@]([0-9][^#@]*)$", message["package_id"]).group(1)
        elif "cdylib" in message["target"]["kind"]:
            module = next(Path(f) for f in message["filenames"] if f.endswith((".so", ".dylib", ".dll")))
    return program, module, version


def _stripped(path, folder):
    """The bytes of a binary without symbols, where there is a tool for that."""
    strip = shutil.which("strip")
    if not strip:
        return path.read_bytes()
    small = Path(folder) / path.name
    flags = ["-x"] if sys.platform == "darwin" else ["--strip-unneeded"]
    subprocess.run([strip, *flags, "-o", small, path], check=True)
    return small.read_bytes()


def _metadata(version):
    """METADATA of what `pyproject.toml` says; its tables are read by hand, since Python 3.10 has nothing for them."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    value = lambda key: re.search(rf'^{key} = "(.*)"$', text, re.M).group(1)
    names = lambda key: re.findall(r'"([^"]+)"', re.search(rf"^{key} = \[(.*)\]$", text, re.M).group(1))
    lines = ["Metadata-Version: 2.4", f"Name: {value('name')}", f"Version: {version}", f"Summary: {value('description')}"]
    lines += [f"License-Expression: {value('license')}", "License-File: LICENSE-APACHE", "License-File: LICENSE-MIT"]
    lines += [f"Requires-Python: {value('requires-python')}"]
    lines += [f"Requires-Dist: {requirement}" for requirement in names("dependencies")]
    lines += ["Provides-Extra: ase"] + [f'Requires-Dist: {requirement}; extra == "ase"' for requirement in names("ase")]
    lines += ["Description-Content-Type: text/markdown", ""]
    return "\n".join(lines) + "\n" + (ROOT / value("readme")).read_text(encoding="utf-8")


class _Wheel:
    """A wheel that is being written, with the record of its files. The same files make the same bytes."""

    def __init__(self, path, record):
        self.archive = zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=6)
        self.record, self.lines = record, []

    def __enter__(self):
        return self

    def __exit__(self, failed, *_):
        if not failed:
            self._write(self.record, ("\n".join([*self.lines, f"{self.record},,"]) + "\n").encode(), False)
        self.archive.close()

    def add(self, name, data, executable=False):
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        self.lines.append(f"{name},sha256={digest},{len(data)}")
        self._write(name, data, executable)

    def _write(self, name, data, executable):
        entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
        entry.compress_type = zipfile.ZIP_DEFLATED
        entry.external_attr = (0o100755 if executable else 0o100644) << 16
        self.archive.writestr(entry, data)
