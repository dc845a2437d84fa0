"""A run imports no heavy library that it does not use."""

import json
import os
import subprocess
import sys

import pytest

HEAVY = {"transformers", "diffusers", "wandb", "matplotlib", "pandas", "pyarrow", "scipy", "gradio"}
LITE_RUN = """
import json, sys
from pathlib import Path
heavy = lambda: {m for m in sys.modules if m.split(".")[0] in HEAVY}
import geoalign
first = heavy() | {"torch"} & sys.modules.keys()
import lightning  # with torchmetrics, which imports parts of what it finds installed
theirs = heavy()
from geoalign import build
from geoalign.options.entry import composed
build.output_dir = lambda: Path("run")
cfg = composed("train", ["data.images={trn: 2, val: 2, test: 2}", "data.categories=[cat]", "store=off"])
parts = build.build(cfg, ["test"])
assert type(parts.backbone).__name__ == "Lite", parts.backbone
print(json.dumps([sorted(first), sorted(heavy() - theirs)]))
"""


@pytest.mark.long
def test_building_a_default_run_imports_nothing_heavy(tmp_path):
    environment = {**os.environ, "GEOALIGN_ROOT": str(tmp_path), "OMP_NUM_THREADS": "1"}
    code = LITE_RUN.replace("HEAVY", repr(HEAVY))
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    by_the_package, by_the_run = json.loads(done.stdout.splitlines()[-1])
    assert by_the_package == [], "import geoalign"
    assert by_the_run == [], "beyond what importing lightning brings"
