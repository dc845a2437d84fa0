"""Images and services as far as they can be checked without an engine; the install step is the one make runs."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from PIL import Image

from geoalign.cli.__main__ import COMMANDS
from geoalign.cli.pictures import parser

ROOT = Path(__file__).parents[3]
DOCKER = ROOT / "docker"
DOCKERFILES = [DOCKER / "Dockerfile", DOCKER / "Dockerfile.cpu"]


class Reset(yaml.SafeLoader):
    """Reads compose's ``!reset`` as null."""


Reset.add_constructor("!reset", lambda loader, node: None)


def instructions(path):
    """Every instruction with its words, continuation lines joined."""
    text = re.sub(r"\\\n", " ", re.sub(r"^\s*#.*\n", "", path.read_text(), flags=re.M))
    return [(line.split()[0], line.split(maxsplit=1)[1]) for line in text.splitlines() if line.strip()]


def compose(*names):
    """Compose files laid over each other as compose does it, one level of a service deep."""
    merged = yaml.load((DOCKER / "compose.yaml").read_text(), Reset)
    for name in names:
        for service, changes in yaml.load((DOCKER / name).read_text(), Reset)["services"].items():
            mine = merged["services"][service]
            mine.update({k: mine[k] | v if isinstance(v, dict) and k == "build" else v for k, v in changes.items()})
    return merged


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda p: p.name)
def test_hadolint_has_nothing_to_say(path):
    hadolint = shutil.which("hadolint", path=f"{Path(sys.prefix) / 'bin'}:/usr/bin:/usr/local/bin")
    if hadolint is None:
        pytest.skip("needs hadolint, which is packaged for Linux on x86_64")
    done = subprocess.run([hadolint, str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert not done.stdout


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda p: p.name)
def test_images_are_pinned_unprivileged_and_copy_what_exists(path):
    steps = instructions(path)
    (base,) = [words for step, words in steps if step == "FROM"]
    assert re.search(r":\d+\.\d+\.\d+-", base), "an exact tag"
    kinds = [step for step, _ in steps]
    user = max(i for i, kind in enumerate(kinds) if kind == "USER")
    assert steps[user][1] not in ("root", "0")
    assert "RUN" not in kinds[user:], "what is built belongs to root"
    for step, words in steps:
        if step == "COPY":
            *sources, _ = [word for word in words.split() if not word.startswith("--")]
            assert all((ROOT / source).exists() for source in sources)


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda p: p.name)
def test_images_install_with_the_line_that_make_runs(path):
    """Whoever runs these tests has run docker/install.sh: make did."""
    installs = [words for step, words in instructions(path) if step == "RUN" and "install.sh" in words]
    assert len(installs) == 1
    assert not [words for step, words in instructions(path) if step == "RUN" and re.search(r"\bpip3? ", words)]
    extras = set(installs[0].split()[-1].split(","))
    (made,) = re.findall(r"^\tdocker/install.sh \S+ (\S+)$", (ROOT / "Makefile").read_text(), re.M)
    assert extras <= set(made.split(","))
    assert (DOCKER / "install.sh").stat().st_mode & 0o111
    pinned = (ROOT / "constraints.txt").read_text()
    assert "-c constraints.txt" in (DOCKER / "install.sh").read_text()
    assert all(re.search(rf"^{name}==", pinned, re.M) for name in ("torch", "lightning", "gradio"))


def test_install_says_what_it_would_do(tmp_path):
    """The script hands pip the folder it lies in, whatever the working folder is."""
    fake = tmp_path / "python"
    fake.write_text('#!/bin/sh\npwd\nfor word in "$@"; do echo "$word"; done\n')
    fake.chmod(0o755)
    done = subprocess.run([DOCKER / "install.sh", fake, "sweep,demo"], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.splitlines()[0] == str(ROOT)
    assert done.stdout.splitlines()[-1] == ".[sweep,demo]"


@pytest.mark.parametrize("overlays", [(), ("compose.cpu.yaml",)], ids=["gpu", "cpu"])
def test_services_are_whole(overlays):
    merged = compose(*overlays)
    assert set(merged["services"]) == {"train", "evaluate", "sweep", "demo"}
    for name, service in merged["services"].items():
        assert (DOCKER / service["build"]["context"] / service["build"]["dockerfile"]).is_file()
        targets = {volume.rpartition(":")[2] for volume in service["volumes"]}
        assert {"/work/data", "/cache", "/work/runs"} <= targets
        assert service["shm_size"]
        reserved = (service["deploy"] or {}).get("resources")
        assert (reserved is None) == bool(overlays), name
        assert service["entrypoint"][0] == "geoalign"
        assert service["entrypoint"][1] in COMMANDS
    named = {v.split(":")[0] for s in merged["services"].values() for v in s["volumes"] if v.startswith("cache")}
    assert named <= set(merged["volumes"])


def test_the_demo_listens_inside_and_is_published_here_only():
    demo = compose()["services"]["demo"]
    options = parser().parse_args(demo["entrypoint"][1:])
    assert (options.command, options.host) == ("demo", "0.0.0.0")
    assert demo["ports"] == [f"127.0.0.1:{options.port}:{options.port}"]


def test_volumes_are_where_the_configs_look():
    from geoalign.options.entry import composed, plain

    for path in DOCKERFILES:
        environment = " ".join(words for step, words in instructions(path) if step == "ENV")
        assert "GEOALIGN_ROOT=/work" in shlex.split(environment)
        assert "ln -s /cache /work/cache" in path.read_text()
    assert plain(composed("train", ["paths.root=/work"]).paths) == {
        "root": "/work", "data": "/work/data", "cache": "/work/cache", "runs": "/work/runs",
    }  # fmt: skip


def test_nothing_heavy_or_private_goes_into_an_image():
    ignored = (ROOT / ".dockerignore").read_text().split()
    assert {".git", "data", "runs", "multirun", "cache"} <= set(ignored)


@pytest.mark.long
def test_a_release_has_its_tags_version_and_works_away_from_the_checkout(tmp_path):
    """Source archive, and the wheel made of it, in an empty environment; what it depends on is lent by this one."""
    source = tmp_path / "source"
    for name in ("geoalign", "conf"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE", "MANIFEST.in"):
        shutil.copy(ROOT / name, source)
    git = ["git", "-C", str(source), "-c", "user.name=test", "-c", "user.email=test@localhost"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "all"], ["tag", "v7.8.9"]):
        subprocess.run([*git, *words], check=True)
    built = [sys.executable, "-m", "build", "--outdir", str(tmp_path), str(source)]
    subprocess.run(built, check=True, capture_output=True)
    assert (tmp_path / "geoalign-7.8.9.tar.gz").is_file()
    clean, wheel = tmp_path / "clean", tmp_path / "geoalign-7.8.9-py3-none-any.whl"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(clean)], check=True)
    python = clean / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q", "--python", str(python)]
    subprocess.run([*pip, "install", "--no-deps", str(wheel)], check=True)
    (packages,) = (clean / "lib").glob("*/site-packages")
    import torch

    (packages / "lent.pth").write_text(f"{Path(torch.__file__).parents[1]}\n")

    alone = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    def said(*words):
        done = subprocess.run([python, *words], cwd=tmp_path, env=alone, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    asked = "import geoalign, geoalign.cli.__main__ as c; print(geoalign.__file__, geoalign.__version__); c.main()"
    composed = said("-c", asked, "extract", "backbone=sd15_dinov2", "--cfg", "job")
    assert composed.startswith(str(packages))
    assert composed.splitlines()[0].endswith(" 7.8.9")
    assert "geoalign.backbone.fusion.Fusion" in composed
    assert "7.8.9" in said(clean / "bin" / "geoalign", "--version")
    for name in ("one.png", "two.png"):
        Image.effect_noise((90, 60), 80).convert("RGB").save(tmp_path / name)
    said(clean / "bin" / "geoalign", "match", "one.png", "two.png", "--points", "20,30")
    assert (tmp_path / "match.png").is_file()
