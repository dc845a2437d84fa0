"""Every command and every Python block of README and docs does what it says, shrunk; what cannot run here is listed."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from helpers import documented
from helpers.documented import ROOT, blocks, commands, inline, is_hydra, script_of

import geoalign.build
import geoalign.extract
from geoalign.cli import train
from geoalign.options.entry import composed

pytestmark = pytest.mark.untraced
EXECUTED_ELSEWHERE = {"docs/own-data.md": "tests/integration/test_own_data_tutorial.py"}
"""Pages that another test executes as a whole, block after block."""


def composes(command):
    """Hydra composes it, so every option that it names exists."""
    script, words = script_of(command.words)
    assert is_hydra(script)
    composed(script.__name__.removeprefix("geoalign.cli."), [word for word in words if not word.startswith("-")])


def parses(command):
    """The command's own parser takes it."""
    script, words = script_of(command.words)
    (script.parse if hasattr(script, "parse") else script.parser().parse_args)(list(words))


def dry(command):
    """Make knows the target and what it would do."""
    made = subprocess.run(["make", "-n", *command.words[1:]], cwd=ROOT, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr


def service(command):
    """The files and services that a docker command names exist."""
    named = [ROOT / word for word in command.words if ("/" in word and "Dockerfile" in word) or word.endswith(".yaml")]
    assert all(path.is_file() for path in named)
    for path in named:
        if path.suffix == ".yaml" and {"run", "up"} & set(command.words):
            services = yaml.load(re.sub(r"!\w+", "", path.read_text()), yaml.SafeLoader)["services"]
            assert set(services) & set(command.words), f"{command} names none of {sorted(services)}"


def nothing(command):
    """Nothing of ours to check."""


CANNOT_RUN = [
    (r"make (train|test)$", "is what runs this test, or the whole default run", dry),
    (r"make ", "runs for minutes to days; test_experiments.py runs every kind of its rows", dry),
    (r"hf (download|auth)", "needs a network", nothing),
    (r"geoalign train logger=\w+ callbacks=dashboard$", "is executed by test_wandb.py", composes),
    (r"wandb (login|sync|offline)", "needs an account", nothing),
    (r"docker ", "needs an engine", service),
    (r"(sbatch|srun) ", "needs SLURM", nothing),
    (r"geoalign demo", "serves until it is stopped; its own test opens it", parses),
    (r"geoalign prepare dataset=(?!synthetic|folder)", "needs a download", parses),
    (r"geoalign train .*\+launcher=", "starts processes; launchers are executed by test_sweep.py", composes),
    (r"geoalign train .*-m .*\+sweep=|geoalign train -m \+sweep=", "many whole runs", composes),
    (r"geoalign train .*refiner=tail", "wants a network of so many blocks; test_experiments.py trains tails", composes),
    (
        r"geoalign \w+ experiment=(marco|released/marco)",
        "wants MARCO's file; test_experiments.py evaluates one of its keys",
        composes,
    ),
    (r"geoalign label ", "mini photographs are noise, in which nothing agrees; test_label.py runs it", composes),
    (r"python -m benchmarks", "measures; benchmarks are not part of the tests", nothing),
    (r"git clone ", "is where these tests are", nothing),
    (r"pip install", "is done by make, and by tests/unit/containers", nothing),
]
"""Commands that this test does not run, why not, and what is checked instead."""


def excuse(command):
    """Reason and check of a command that cannot run here."""
    return next(((why, check) for pattern, why, check in CANNOT_RUN if re.match(pattern, str(command))), None)


def elsewhere(command):
    return command.place.split(":")[0] in EXECUTED_ELSEWHERE


RUN = [c for c in commands() if excuse(c) is None and not elsewhere(c)]
INLINE = [c for c in inline() if excuse(c) is None]
CHECKED = [c for c in dict.fromkeys([*commands(), *inline()]) if excuse(c) is not None]
PYTHON = [b for b in blocks() if b.language == "python" and b.page not in EXECUTED_ELSEWHERE]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A working folder with all that the pages name, one small training in it, and tiny stand-ins for large weights."""
    root = tmp_path_factory.mktemp("world")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.setenv("COLUMNS", "120")
        patch.setenv("WANDB_MODE", "offline")
        patch.setattr("hydra._internal.utils.is_under_debugger", lambda: False)
        for module in (geoalign.build, geoalign.extract):
            patch.setattr(module, "make", documented.small_make(module.make))
        documented.world(root)
        run = "hydra.run.dir=runs/train/first"
        assert documented.call(train, *documented.shrunk("train", []), run) == 0
        for name, part in {"RUN_A": "zero-shot", "RUN_B": "refined"}.items():
            shutil.copytree(f"runs/train/first/results/{part}", name)
        for copy in ("results/spair71k/supervised-spair71k", "multirun/train/first/0"):
            shutil.copytree("runs/train/first", copy)
        yield root


@pytest.mark.long
@pytest.mark.parametrize("command", RUN, ids=lambda c: c.place)
def test_the_command_runs(world, command, capfd):
    assert not re.search(r"<[\w ]+>", str(command)), "give its placeholder a name in documented.PLACEHOLDERS"
    known = command.words[0] in documented.SHELL or script_of(command.words) is not None
    assert known, f"{command}: neither executed nor listed in CANNOT_RUN with a reason"
    if str(command) == "geoalign train":
        return  # the world's first run
    code = documented.run(command.words)
    assert code == 0, f"{command}\n{capfd.readouterr().err[-2000:]}"


@pytest.mark.parametrize("command", CHECKED, ids=lambda c: c.place)
def test_what_cannot_run_is_at_least_well_formed(command):
    why, check = excuse(command)
    assert why
    check(command)


@pytest.mark.parametrize("command", INLINE, ids=lambda c: c.place)
def test_a_command_in_a_sentence_names_what_exists(command):
    if command.words[1].endswith(".py") and command.words[1] not in ("train.py", "evaluate.py"):
        assert (ROOT / command.words[1]).is_file()
        return
    script = script_of(command.words)
    assert script is not None, f"{command}: no such script or module"
    if is_hydra(script[0]) and any("=" in word for word in script[1]) and "-m" not in script[1]:
        composes(command)


@pytest.mark.long
def test_python_blocks_run(world, monkeypatch):
    from geoalign import publish
    from geoalign.backbone.store import FeatureStore, image_hash, view_key
    from geoalign.refiner import Aggregation

    pushed = []
    monkeypatch.setattr(publish, "push", lambda refiner, name, run: pushed.append(name))
    publish.save(Aggregation((6, 10), grid=8, width=32, hidden=32), "someone/refiner", backbone="a tiny one")
    backbone, maps = documented.TinyBackbone(seed=5), documented.maps()
    other = view_key(backbone.fingerprint, image_hash("dog.jpg"), "upright")
    FeatureStore("cache/features", precision="int8").bind(backbone).add(other, [one[0] for one in maps], "dog.jpg")
    known: dict[str, dict[str, object]] = {}
    for block in PYTHON:
        one = block.page == "docs/feature-store.md"
        own = {"backbone": backbone, "other": other, "maps": tuple(m[0] for m in maps) if one else maps}
        given = known.setdefault(block.page, own)  # a page is read from its top
        exec(compile(documented.named(block.text), f"{block.page}:{block.line}", "exec"), given)
    assert pushed == ["you/my-refiner"]


def test_pages_executed_elsewhere_are():
    for page, test in EXECUTED_ELSEWHERE.items():
        assert Path(page).name in (ROOT / test).read_text(encoding="utf-8")


def test_commands_stand_in_blocks_that_say_bash():
    wrong = [
        f"{b.page}:{b.line}" for b in blocks()
        if b.language == "" and re.search(r"^(python|geoalign|make|hf|docker|pip|wandb) ", b.text, re.M)
    ]  # fmt: skip
    assert not wrong, "say bash after the fence, so that they are executed"


def test_links_between_pages_lead_somewhere():
    for page in documented.PAGES:
        text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", text):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
