"""Over two thousand generated hostile files and command lines: each is read, or refused by name; none does anything.

Each family is read in a process of its own, with bounded memory, file size and time, under an audit hook that sees
every write elsewhere, every process, connection and unpickled name (``helpers/hostile.py``); docs/security.md has the
table.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.hostile import COUNTS, MEMORY

pytestmark = pytest.mark.long
TESTS = Path(__file__).parents[1]


@pytest.mark.parametrize("family", COUNTS)
def test_hostile(family: str, tmp_path: Path) -> None:
    path = os.pathsep.join([str(TESTS), str(TESTS.parent)])
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "helpers.hostile", family, str(COUNTS[family]), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, timeout=600)
    last = (tmp_path / "journal").read_text(errors="replace").splitlines()[-1:] if done.returncode else []
    assert done.returncode == 0, f"died of {last}: {done.stderr[-2000:]}"
    result = json.loads(done.stdout.splitlines()[-1])
    print(family, result["count"], result["ends"])
    assert not result["wrong"], f"{len(result['wrong'])} of {result['count']}:\n" + "\n".join(result["wrong"][:20])
    assert sum(result["ends"].values()) == COUNTS[family]


def test_there_are_enough() -> None:
    assert sum(COUNTS.values()) >= 2_000


@pytest.mark.parametrize(
    ("deed", "sign"),
    [
        ("import os; os.system('true')", "os.system"),
        ("open('/tmp/outside-of-the-folder', 'a')", "open"),
        ("import pickle; pickle.loads(b'cos\\nsystem\\n.')", "pickle.find_class"),
        ("while True: pass", "Timeout"),
        (f"bytearray({2 * MEMORY})", "MemoryError"),
    ],
)
def test_the_watch_sees(deed: str, sign: str, tmp_path: Path) -> None:
    code = (
        "import helpers.hostile as h, pathlib, json, sys\n"
        "h.SECONDS = 2\n"
        f"h.deeds = lambda rng, folder: iter([('deed', lambda: exec({deed!r}))] * 2)\n"
        "print(json.dumps(h.run('deeds', 1, pathlib.Path(sys.argv[1]))))"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), str(TESTS.parent)])}
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, env=environment)
    assert sign in done.stdout + done.stderr
