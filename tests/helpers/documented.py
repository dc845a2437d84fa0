"""What README and docs tell people to type, and how to do it here: in this process, shrunk, on small data."""

from __future__ import annotations

import importlib
import importlib.util
import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from helpers import mini
from helpers.scripts import call
from helpers.tiny import TinyBackbone
from PIL import Image

from geoalign.cli.__main__ import COMMANDS

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PLACEHOLDERS = {
    "<run>": "first",
    "<folder with annotations/ and data/>": "few",
    "<sweep>": "first",
    "<folder>": "photos",
}
"""What stands for names that readers fill in."""
LITE = ["backbone.image_size=128", "backbone.grid=16", "backbone.blocks=[4,10]"]
SYNTHETIC = [
    "data.images={trn: 4, val: 2, test: 3}", "data.pairs={trn: 12, val: 2, test: 6}", "data.categories=[cat,cow]",
]  # fmt: skip
NARROW = ["refiner.width=32", "refiner.hidden=32"]
AP10K = [f"+data.test.ap10k_{s}.crowd_sha256=null" for s in ("intra_species", "cross_species", "cross_family")]
AP10K += ["data.limits.test=4"]
SHELL = ("mkdir",)
"""Programs of everybody's."""


class Block(NamedTuple):
    """A fenced block with its language and where it stands."""

    page: str
    line: int
    language: str
    text: str


class Command(NamedTuple):
    """One command of a page, without its comment, with names for its placeholders."""

    place: str
    words: tuple[str, ...]

    def __str__(self) -> str:
        return shlex.join(self.words)


def blocks() -> Iterator[Block]:
    """Every fenced block of README and docs."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for found in re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.M | re.S):
            line = text[: found.start()].count("\n") + 2
            yield Block(page.relative_to(ROOT).as_posix(), line, found[1], found[2])


def commands() -> list[Command]:
    """Every command of the bash blocks, once, in the order of the pages."""
    found: dict[tuple[str, ...], Command] = {}
    for block in blocks():
        if block.language == "bash":
            text = named(block.text.replace("\\\n", " "))
            for number, line in enumerate(text.splitlines()):
                words = tuple(shlex.split(line, comments=True))
                if words and words not in found:
                    found[words] = Command(f"{block.page}:{block.line + number}", words)
    return list(found.values())


def inline() -> list[Command]:
    """Every command that stands inside a sentence or a table, once."""
    found: dict[tuple[str, ...], Command] = {}
    for page in PAGES:
        text = re.sub(
            r"^```.*?^```$", lambda m: "\n" * m[0].count("\n"), page.read_text(encoding="utf-8"), flags=re.M | re.S
        )
        for match in re.finditer(r"`((?:python|geoalign|make) [^`…]*)`", text):
            words = tuple(shlex.split(named(match[1])))
            place = f"{page.relative_to(ROOT).as_posix()}:{text[: match.start()].count(chr(10)) + 1}"
            found.setdefault(words, Command(place, words))
    return list(found.values())


def script_of(words: Sequence[str]) -> Any:
    """The module whose main the command runs, and the words after it; None where it is no Python of ours."""
    if words[:2] == ("python", "-m") and words[2].startswith("geoalign"):
        name = words[2]
        if importlib.util.find_spec(f"{name}.__main__" if _is_package(name) else name) is None:
            return None
        return importlib.import_module(f"{name}.__main__" if _is_package(name) else name), words[3:]
    if words[0] == "python" and words[1] in ("train.py", "evaluate.py"):  # a checkout's doors to the same
        return importlib.import_module(f"geoalign.cli.{words[1].removesuffix('.py')}"), words[2:]
    if words[0] == "geoalign" and words[1] in COMMANDS:
        command = COMMANDS[words[1]]
        return importlib.import_module(command.module), words[1 if command.named else 2 :]
    if words[0] == "geoalign" and words[1].startswith("-"):
        return importlib.import_module("geoalign.cli.__main__"), words[1:]
    return None


def is_hydra(script: Any) -> bool:
    """Whether a module is one of the commands that hydra configures."""
    return script.__name__.rpartition(".")[2] in ("train", "evaluate", "extract", "label")


def run(words: Sequence[str]) -> int:
    """Do what a command says, smaller; its exit code."""
    if words[0] in SHELL:
        return subprocess.run(words, check=False).returncode
    script, rest = script_of(tuple(words))
    if is_hydra(script):
        return call(script, *rest, *shrunk(script.__name__.rpartition(".")[2], rest))
    if script.__name__ == "geoalign.data.prepare.__main__":
        rest = [word for word in rest if not word.startswith("images=")]
        small = ["images=4"] if "dataset=synthetic" in rest and "verify_only=true" not in rest else []
        rest = [*rest, *small, "counts=any", "workers=1", "progress=false"]
    try:
        return int(script.main([str(word) for word in rest]) or 0)
    except SystemExit as stop:
        return int(stop.code or 0)


def shrunk(script: str, words: Sequence[str]) -> list[str]:
    """Overrides that make a run small, by what the command has chosen."""
    if any(word in ("--help", "-h", "--cfg") for word in words) or {"verify=true", "repair=true"} & set(words):
        return []
    said = " ".join(words)
    chosen = {word.split("=")[0]: word.split("=", 1)[1] for word in words if "=" in word}
    data, backbone = chosen.get("data", "synthetic"), chosen.get("backbone", "lite")
    real = "experiment" in chosen and not chosen["experiment"].startswith("synthetic")
    small = ["callbacks.progress=null", "trainer.accelerator=cpu", "trainer.devices=1"]
    small += ["trainer.strategy=auto"] if "trainer=ddp" in said else []
    small += [] if data == "ap10k_files" else ["data.workers=0"]
    small += LITE if backbone == "lite" and not real else []
    small += SYNTHETIC if data == "synthetic" and not real else []
    small += AP10K if data == "ap10k" else []
    small += ["batch=4"] if script == "extract" else []
    if script == "train":
        blended = chosen.get("experiment", "").startswith("livestock")
        narrow = [f"refiner.{word}" for word in NARROW] if blended else NARROW
        small += ["trainer.log_every_n_steps=1", "trainer.max_epochs=1", *narrow]
        small += ["trainer.fast_dev_run=true"] if data != "synthetic" or real else []
        small += ["data.sampler.size=3", "data.sampler.batches=2"] if data == "synthetic" and not real else []
    elif "checkpoint" in chosen:
        small += NARROW
    return small


def small_make(make: Any) -> Any:
    """``build.make`` with a tiny backbone in the place of those whose weights are not at hand."""

    def made(config: Any, **extra: Any) -> Any:
        target = str((config or {}).get("_target_"))
        if re.match(r"geoalign\.backbone\.(fusion|diffusion|dino)\b", target):
            return TinyBackbone()
        return make(config, **extra)

    return made


def world(root: Path) -> None:
    """The files that the pages' commands name, below ``root``, the working folder."""
    from helpers.tiny_diffusion import captioner_tensors

    from geoalign.backbone.captioner import PREFIX
    from geoalign.refiner import Aggregation
    from geoalign.synthetic.jobs import Job

    mini.spair71k(root / "data" / "spair71k")
    mini.spair_u(root / "data" / "spair_u")
    mini.livestock(root / "data" / "livestock")
    mini.ap10k(root / "data" / "ap10k")
    mini.pf_pascal(root / "data" / "pf_pascal")
    few(root / "data" / "ap10k", root / "few")
    weights = Aggregation((6, 10), grid=8, width=32, hidden=32).state_dict()
    for name in ("best_856.PTH", "last.PTH", "0300_dino_spair/best.pth", "0280_spair/best.pth"):
        (root / name).parent.mkdir(exist_ok=True)
        torch.save(weights, root / name)
    captioner = {f"{PREFIX}{name}": tensor for name, tensor in captioner_tensors().items()}
    torch.save({"model": captioner}, root / "odise_checkpoint.pth")
    pictures = {f"cat{i}": Job(0, "test", "cat", i).picture() for i in range(4)}
    for name, picture in zip(("cat", "dog", "horse"), pictures.values(), strict=False):
        Image.fromarray(picture.image).save(root / f"{name}.jpg")
    size = Image.open(root / "cat.jpg").size
    Image.new("L", size, 255).save(root / "cat-mask.png")
    (root / "points.csv").write_text("keypoint,x,y\nleft_eye,100,90\nright_eye,120,90\n")
    for folder, names in {"templates": ("ann", "bob"), "photos": ("cid",), "portraits": ("dan",)}.items():
        (root / folder).mkdir()
        for name in names:
            for pose, picture in zip(("left", "right", "front", "back"), pictures.values(), strict=True):
                Image.fromarray(picture.image).save(root / folder / f"{name}_{pose}.png")
    mine = root / "data" / "mine"
    mine.mkdir()
    for name in ("cat", "dog"):
        shutil.copy(root / f"{name}.jpg", mine)
    (mine / "points.csv").write_text("image,keypoint,x,y\ncat.jpg,nose,100,90\ndog.jpg,nose,110,95\n")


def few(source: Path, root: Path) -> None:
    """The first three animals of one annotation file, with their pictures."""
    name = "ap10k-test-split1.json"
    document = json.loads((source / "annotations" / name).read_text())
    document["images"], document["annotations"] = document["images"][:3], document["annotations"][:3]
    mini.put(root / "annotations" / name, json.dumps(document))
    for image in document["images"]:
        (root / "data").mkdir(exist_ok=True)
        shutil.copy(source / "data" / image["file_name"], root / "data")


def maps(channels: Sequence[int] = (6, 10), cells: int = 8) -> tuple[torch.Tensor, ...]:
    """Frozen maps of one view, as a tiny backbone gives them."""
    generator = np.random.default_rng(0)
    return tuple(torch.from_numpy(generator.normal(size=(1, c, cells, cells)).astype(np.float32)) for c in channels)


def named(text: str) -> str:
    """The text with names for its placeholders."""
    for name, value in PLACEHOLDERS.items():
        text = text.replace(name, value)
    return text


def _is_package(name: str) -> bool:
    return (ROOT / name.replace(".", "/")).is_dir()
