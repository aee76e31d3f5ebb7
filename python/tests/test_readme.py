"""README's example is run as it stands, and says what it said."""

import re
import subprocess
import sys

from conftest import ROOT

SECTION = re.search(r"^## Python$.*?```python\n(.*?)```\n\n```\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.S | re.M)


def relaxed(output):
    """Energy and largest force after the last step of the optimizer."""
    return [float(x) for x in re.findall(r"^BFGS: .*", output, re.M)[-1].split()[-2:]]


def test_the_example():
    code, shown = SECTION.groups()
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    energy, force = relaxed(done.stdout)
    assert abs(energy - relaxed(shown)[0]) < 2e-4 and force < 0.01
    # The log of the dynamics, every fifty steps, with a total energy that stays.
    total = [float(line.split()[1]) for line in done.stdout[done.stdout.index("Time[ps]") :].splitlines()[1:]]
    assert len(total) == 5 and max(total) - min(total) < 0.02
