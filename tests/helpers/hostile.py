"""Generated hostile files and words by family, and a process that reads them under watch.

``python -m helpers.hostile FAMILY COUNT FOLDER`` reads ``COUNT`` of them and prints what came of it as JSON. It runs
with bounded memory, file size and processor time; a case that takes a minute ends the process, its label last in
``FOLDER/journal``. An audit hook sees every file opened for writing, every process, connection and unpickled name.
"""

from __future__ import annotations

import contextlib
import faulthandler
import io
import itertools
import json
import os
import pickle
import random
import resource
import shutil
import struct
import sys
import tarfile
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

Case = tuple[str, Callable[[], Any]]
SECONDS = 60
MEMORY, FILE_BYTES, PROCESSOR_SECONDS = 2 << 30, 256 << 20, 300
"""Memory is what a case may add to that of the libraries."""
NAMES = (
    "a.jpg",
    "../out.txt",
    "/tmp/out.txt",
    "",
    ".",
    "..",
    "a" * 5000,
    "a/" * 300,
    "\0",
    "con",
    "a\\b",
    "ö\udcff",
    "-",
)
NUMBERS = (0, -1, 3.7, 1e308, 10**40, float("nan"), float("inf"), True, None, "1", [], {}, 2**63, -(2**31))
CODE = (
    "os.system",
    "builtins.exec",
    "subprocess.Popen",
    "geoalign.backbone.Lite.__init__",
    "shutil.copy",
    "torch.load",
)


# --- damage ---------------------------------------------------------------------------------------------------------


def damaged(rng: random.Random, data: bytes) -> bytes:
    """Bytes cut, changed, doubled, taken out or put in; at times several of these."""
    for _ in range(rng.randint(1, 3)):
        at, length = rng.randrange(len(data) + 1), rng.randint(1, 64)
        data = rng.choice(
            (
                data[:at],
                data[:at] + rng.randbytes(length) + data[at + length :],
                data[:at] + data[at + length :],
                data[:at] + data[max(0, at - length) :],
                data[:at] + rng.choice((b"\0", b"\xff", b"[", b"{", b"*a", b"9" * 400, b'"')) + data[at:],
            )
        )
    return data


def evil(rng: random.Random, depth: int = 0) -> Any:
    """A value that nothing expects."""
    kind = rng.randrange(8 if depth < 4 else 4)
    if kind < 2:
        return rng.choice(NUMBERS)
    if kind < 4:
        return rng.choice((*NAMES[:6], *NAMES[8:], *CODE, "${oc.env:HOME}", "${a}", "x" * 20_000))
    if kind < 6:
        return [evil(rng, depth + 1) for _ in range(rng.randrange(5))]
    keys = ("_target_", "_args_", "images", "kps", "config", "refiner", "x", "0")
    return {rng.choice(keys): evil(rng, depth + 1) for _ in range(rng.randrange(5))}


def altered(rng: random.Random, document: Any) -> Any:
    """A copy with one to three places replaced, taken out, or given another name."""
    document = json.loads(json.dumps(document))
    for _ in range(rng.randint(1, 3)):
        node = document
        while True:
            keys = list(node) if isinstance(node, dict) else list(range(len(node)))
            if not keys:
                break
            key = rng.choice(keys)
            if isinstance(node[key], dict | list) and node[key] and rng.random() < 0.8:
                node = node[key]
                continue
            node[key] = evil(rng)
            if rng.random() < 0.3:
                del node[key]
            break
    return document


def as_bytes(rng: random.Random, document: Any) -> bytes:
    """JSON, at times damaged as bytes."""
    data = json.dumps(document).encode("utf-8", "surrogatepass")
    return damaged(rng, data) if rng.random() < 0.4 else data


def in_place_of(rng: random.Random, path: Path, data: bytes) -> None:
    """A file; at times a folder, a pipe, a ring of links or a device stands where it should."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    kind = rng.randrange(60)
    if kind == 0:
        path.mkdir()
    elif kind == 1:
        os.mkfifo(path)
    elif kind == 2:
        path.symlink_to(path)
    elif kind == 3:
        path.symlink_to("/dev/zero")
    else:
        path.write_bytes(data)


# --- families -------------------------------------------------------------------------------------------------------


def annotations(rng: random.Random, folder: Path) -> Iterator[Case]:
    """SPair-71k, AP-10K, own folders and TSS, each with one file damaged."""
    from helpers.flow import write_flow
    from helpers.spair_tree import write_tree

    from geoalign.data.readers.ap10k import AP10K
    from geoalign.data.readers.folder import ImageFolder
    from geoalign.data.readers.spair import SPair71k
    from geoalign.data.readers.tss import TSS

    points = [v for i in range(17) for v in (10 + i, 20 + i, 2)]
    animals = {
        "images": [{"id": i, "file_name": f"{i:012d}.jpg", "width": 60, "height": 50} for i in (1, 2)],
        "annotations": [
            {"id": i, "image_id": i, "category_id": 1, "bbox": [4, 6, 30, 40], "keypoints": points} for i in (1, 2)
        ],
        "categories": [{"id": 1, "name": "antelope", "supercategory": "Bovidae"}],
    }
    spair, ap10k, own, tss = (folder / name for name in ("spair", "ap10k", "own", "tss"))
    write_tree(spair, {"cat": ("a", "b", "c")}, pictures=False)
    files = sorted(path for path in spair.rglob("*") if path.is_file())
    for name in ("cup/a.jpg", "cup/b.jpg"):
        (own / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (60, 40)).save(own / name)
    keypoints = {"cup/a.jpg": {"rim": [5, 6], "foot": [9, 9]}, "cup/b.jpg": {"rim": [15, 6], "foot": None}}
    pair = tss / "PASCAL" / "one"
    pair.mkdir(parents=True)
    for i in (1, 2):
        Image.new("RGB", (60, 40)).save(pair / f"image{i}.png")
        Image.fromarray(np.full((40, 60), 255, np.uint8)).save(pair / f"mask{i}.png")
        write_flow(pair / f"flow{i}.flo", np.full((40, 60, 2), 3, np.float32))
    flow = (pair / "flow1.flo").read_bytes()

    def read_spair(path: Path) -> Any:
        kept = path.read_bytes()
        text = path.suffix == ".json" and rng.random() < 0.7
        data = as_bytes(rng, altered(rng, json.loads(kept))) if text else damaged(rng, kept)
        try:
            in_place_of(rng, path, data)
            return list(SPair71k(spair, "test", require_images=False))
        finally:
            in_place_of(random.Random(1), path, kept)

    def read_ap10k() -> Any:
        in_place_of(rng, ap10k / "annotations" / "ap10k-test-split1.json", as_bytes(rng, altered(rng, animals)))
        return list(AP10K(ap10k, setting="all_pairs", require_images=False))

    def read_own() -> Any:
        in_place_of(rng, own / "points.json", as_bytes(rng, altered(rng, keypoints)))
        return list(ImageFolder(own, keypoints="points.json"))

    def read_tss() -> Any:
        in_place_of(rng, pair / "flow1.flo", damaged(rng, flow))
        return list(TSS(tss, flipped="drop"))

    while True:
        path = rng.choice(files)
        yield f"spair {path.name}", lambda path=path: read_spair(path)
        yield "ap10k", read_ap10k
        yield "own folder", read_own
        yield "tss", read_tss


def texts(rng: random.Random, folder: Path) -> Iterator[Case]:
    """YAML and JSON: deep, wide, looping, tagged, cut, of other encodings."""
    from geoalign.files import read_json, read_yaml

    seeds = [
        "a: &a [1, *a]", "&a [*a, *a]", "a: !!python/object/apply:os.system ['touch x']", "!!python/name:os.system",
        "a: !!binary x", "a: !!timestamp x", "? [a, b]\n: c", "a: 1\na: 2", "<<: [1]", "<<: {a: 1}", "- " * 3000 + "1",
        "[" * 5000, "{a: " * 5000, "a: " + ":".join(["1"] * 30_000), "1" * 5000, "%YAML 9.9\n---\na", "--- a\n--- b",
        "\n".join(f"a{i}: &a{i} [" + ", ".join([f"*a{i - 1}"] * 9 if i else ["x"]) + "]" for i in range(12)),
        '{"a": NaN}', '{"a": 1e999}', "[" * 100_000, '{"a":' * 50_000, "9" * 10_000, '"\\ud800"', "[1,]", "\ufeff{}",
    ]  # fmt: skip
    plain = {"refiner": {"_target_": "geoalign.refiner.Aggregation", "channels": [40, 112, 192], "grid": 40}}
    path = folder / "text"
    for number in itertools.count():
        text = seeds[number % len(seeds)] if rng.random() < 0.5 else json.dumps(altered(rng, plain))
        data = text.encode(rng.choice(("utf-8", "utf-8", "utf-16", "utf-32")), "surrogatepass")
        data = damaged(rng, data) if rng.random() < 0.6 else data
        read = rng.choice((read_json, read_yaml))

        def case(data: bytes = data, read: Callable[[Path], Any] = read) -> Any:
            in_place_of(rng, path, data)
            return read(path)

        yield f"{read.__name__} {text[:30]!r}", case


def archives(rng: random.Random, folder: Path) -> Iterator[Case]:
    """Zips and tars with names that climb, links, devices, headers that lie, bombs and damage."""
    from geoalign.data.prepare.unpack import Limits, unpack

    def tar(mode: str) -> bytes:
        out = io.BytesIO()
        with tarfile.open(
            fileobj=out, mode=mode, format=rng.choice((tarfile.PAX_FORMAT, tarfile.GNU_FORMAT))
        ) as packed:
            for _ in range(rng.randint(1, 6)):
                info = tarfile.TarInfo(rng.choice(NAMES).encode("utf-8", "replace").decode() or "x")
                kinds = (tarfile.REGTYPE, tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE)
                info.type = rng.choice((*kinds, tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.GNUTYPE_SPARSE))
                info.linkname = rng.choice(NAMES).replace("\0", "")[:90].encode("utf-8", "replace").decode()
                info.size = rng.choice((0, 10, 1000)) if info.type == tarfile.REGTYPE else 0
                if rng.random() < 0.2:
                    info.pax_headers = {"comment": "x" * rng.choice((10, 10_000, 3_000_000))}
                with contextlib.suppress(ValueError):
                    packed.addfile(info, io.BytesIO(b"\0" * info.size))
        return out.getvalue()

    def zipped() -> bytes:
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as packed, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for _ in range(rng.randint(1, 6)):
                info = zipfile.ZipInfo(rng.choice(NAMES).encode("utf-8", "replace").decode() or "x")
                info.external_attr = rng.choice((0, 0o100644 << 16, 0o120777 << 16, 0o020666 << 16, 0o040755 << 16))
                packed.writestr(info, b"\0" * rng.choice((0, 10, 1000, 30_000_000 if rng.random() < 0.1 else 10)))
        return out.getvalue()

    limits = Limits(bytes=64 << 20, files=200)
    path, out = folder / "archive", folder / "out" / "place"
    for number in itertools.count():
        kind = rng.choice(("zip", "w:", "w:gz", "w:xz", "w:bz2"))

        def case(kind: str = kind) -> Any:
            data = zipped() if kind == "zip" else tar(kind)
            in_place_of(rng, path, damaged(rng, data) if rng.random() < 0.5 else data)
            shutil.rmtree(out, ignore_errors=True)
            return unpack(path, out, limits=limits, progress=False)

        yield f"{number} {kind}", case


def pictures(rng: random.Random, folder: Path) -> Iterator[Case]:
    """Damaged pictures of many formats, formats that start programs, sizes that lie."""
    from geoalign.data.images import image_size, open_mask, open_rgb

    whole = []
    for fmt in ("JPEG", "PNG", "GIF", "TIFF", "BMP", "WEBP", "PPM", "TGA", "ICO", "PCX", "EPS", "SGI", "DDS"):
        out = io.BytesIO()
        Image.radial_gradient("L").resize((60, 40)).convert("RGB").save(out, fmt)
        whole.append(out.getvalue())
    script = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(canary) (w) file closefile\n%%EOF"
    header = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + struct.pack(">II", 2**31 - 1, 2**31 - 1) + b"\x08\x02\0\0\0"
    whole += [
        script,
        header,
        b"GIF89a" + b"\xff" * 40,
        b"BM" + b"\xff" * 60,
        b"P6 99999 99999 255\n",
        b"8BPS" + b"\0" * 90,
    ]
    path = folder / "picture.jpg"
    for number in itertools.count():
        data = rng.choice(whole)
        read = rng.choice((open_rgb, open_rgb, open_mask, image_size))

        def case(data: bytes = data, read: Callable[[Path], Any] = read) -> Any:
            in_place_of(rng, path, damaged(rng, data) if rng.random() < 0.9 else data)
            return read(path)

        yield f"{number} {data[:8]!r} {read.__name__}", case


class Payload:
    """Calls something when unpickled."""

    def __init__(self, call: Callable[..., Any], *words: Any) -> None:
        self.call, self.words = call, words

    def __reduce__(self) -> Any:
        return self.call, self.words


def _weights_bytes(rng: random.Random, state: dict[str, Any], folder: Path) -> tuple[str, bytes]:
    """A weights file's name and bytes: pickles that call, tensors that are none, headers that lie."""
    import torch
    from safetensors.torch import save

    name, out = rng.choice(list(state)), io.BytesIO()
    if rng.random() < 0.5:
        data = save(state, {"geoalign": json.dumps(altered(rng, {"config": {"_target_": "x", "grid": 40}}))})
        if rng.random() < 0.6:
            length = struct.unpack("<Q", data[:8])[0]
            head = altered(rng, json.loads(data[8 : 8 + length]))
            encoded = json.dumps(head).encode("utf-8", "surrogatepass")
            data = struct.pack("<Q", rng.choice((len(encoded), len(encoded), 2**60, 0))) + encoded + data[8 + length :]
        return "w.safetensors", damaged(rng, data) if rng.random() < 0.3 else data
    value: Any = rng.choice(
        (
            torch.full_like(state[name].float(), float("nan")), torch.zeros(3, 4).to_sparse(),
            torch.zeros(9, device="meta"), torch.zeros(1).expand(10**9), torch.zeros(2, dtype=torch.complex64),
            torch.zeros(0), "text", None, 7,
            Payload(os.system, f"touch {folder}/canary"), Payload(exec, f"open({str(folder / 'canary')!r}, 'w')"),
            Payload(shutil.copy, "/etc/hostname", str(folder / "canary")), Payload(bytearray, 10**12),
        )
    )  # fmt: skip
    key: Any = rng.choice((name, name, 3, ("a",), "refiner." + name, "state_dict", "geoalign"))
    content: Any = rng.choice(({**state, key: value}, {"state_dict": {**state, key: value}}, value, [value]))
    if rng.random() < 0.3:
        pickle.dump(content, out)
    else:
        torch.save(content, out)
    data = out.getvalue()
    return rng.choice(("w.pth", "w.ckpt")), damaged(rng, data) if rng.random() < 0.3 else data


def _small_state() -> dict[str, Any]:
    from geoalign.refiner import Aggregation

    return dict(Aggregation((40, 112, 192), grid=12, width=32, hidden=32).state_dict())


def weights(rng: random.Random, folder: Path) -> Iterator[Case]:
    """Weights files read, and made into a refiner."""
    from geoalign.refiner.checkpoint import load_refiner

    state = _small_state()
    for number in itertools.count():
        name, data = _weights_bytes(rng, state, folder)

        def case(name: str = name, data: bytes = data) -> Any:
            in_place_of(rng, folder / name, data)
            return load_refiner(folder / name, grid=12)

        yield f"{number} {name}", case


def models(rng: random.Random, folder: Path) -> Iterator[Case]:
    """Folders of runs and of published refiners: foreign names, settings of any kind, damaged weights."""
    import yaml
    from safetensors.torch import save

    from geoalign.apps.loading import load

    state = _small_state()
    own = {"channels": [40, 112, 192], "grid": 12, "width": 32, "hidden": 32}
    config = {
        "backbone": {"_target_": "geoalign.backbone.Lite", "blocks": [4, 10, 14], "image_size": 64, "grid": 12},
        "refiner": {"_target_": "geoalign.refiner.Aggregation", **own},
        "matcher": {"_target_": "geoalign.matching.Matcher", "readout": "argmax"},
    }
    for number in itertools.count():
        published = rng.random() < 0.4
        said = altered(rng, config["refiner"] if published else config)
        if rng.random() < 0.5:
            target = rng.choice(
                (*CODE, "geoalign.files.replacing", "geoalign.backbone.base.Backbone", "torch.nn.Linear")
            )
            (said if published else rng.choice([n for n in said.values() if isinstance(n, dict)] or [said]))[
                "_target_"
            ] = target
        name, data = _weights_bytes(rng, state, folder) if rng.random() < 0.3 else ("", save(state))

        def case(published: bool = published, said: Any = said, name: str = name, data: bytes = data) -> Any:
            run = folder / "run"
            shutil.rmtree(run, ignore_errors=True)
            text = json.dumps(said).encode("utf-8", "surrogatepass")
            if published:
                in_place_of(rng, run / "config.json", damaged(rng, text) if rng.random() < 0.1 else text)
                in_place_of(rng, run / "model.safetensors", data)
            else:
                in_place_of(rng, run / "config" / "config.yaml", yaml.safe_dump(said).encode("utf-8", "replace"))
                in_place_of(rng, run / "checkpoints" / "best.ckpt", data)
            return load(run, device="cpu")

        yield f"{number} {'published' if published else 'run'} {name} {json.dumps(said)[:120]}", case


def stores(rng: random.Random, folder: Path) -> Iterator[Case]:
    """Feature stores with one file damaged: what is read is what was written, or it is refused."""
    import torch

    from geoalign.backbone.store import FeatureStore, view_key

    keys = [view_key("backbone", f"image{i}", "upright") for i in range(6)]
    maps = {key: [torch.full((4, 6, 6), float(i)), torch.full((2, 3, 3), -float(i))] for i, key in enumerate(keys)}
    whole = folder / "whole"
    filled = FeatureStore(whole, "fp16", fingerprint="backbone")
    for key in keys:
        filled.add(key, maps[key], f"{key[:4]}.jpg")
    files = sorted(path.relative_to(whole) for path in whole.rglob("*") if path.is_file())
    for number in itertools.count():
        name = rng.choice(files)

        def case(name: Path = name) -> Any:
            root = folder / "store"
            shutil.rmtree(root, ignore_errors=True)
            shutil.copytree(whole, root)
            in_place_of(rng, root / name, damaged(rng, (whole / name).read_bytes()))
            store = FeatureStore(root, "fp16", fingerprint="backbone")
            for key in (k for k in keys if k in store):
                for got, written in zip(store.read(key), maps[key], strict=True):
                    assert torch.equal(got.float(), written), "other numbers than were written"
            return store.verify()

        yield f"{number} {name.name}", case


def points(rng: random.Random, folder: Path) -> Iterator[Case]:
    """Files of points, and points as words."""
    from geoalign.apps.points import parse_points, read_points_file

    rows = ["x,y,keypoint,image", "12,30.5,rim,a.jpg", "20,40,foot,a.jpg", ",,lost,a.jpg", '1,2,"a, ""b""",a.jpg']
    cells = (
        "nan",
        "inf",
        "1e999",
        "-0",
        "0x10",
        "１２",
        "1_000",
        "",
        '"',
        "\0",
        "=cmd|' /C calc'!A0",
        "x" * 200_000,
        "1,5",
        "--",
    )
    for number in itertools.count():
        if rng.random() < 0.2:
            words = [
                ",".join(rng.choice((*cells, "12", "7")) for _ in range(rng.choice((1, 2, 2, 3)))) for _ in range(3)
            ]
            yield f"{number} words {words!r}"[:200], lambda words=words: parse_points(words)
            continue
        table = [row.split(",") for row in rows]
        for _ in range(rng.randint(1, 4)):
            row = rng.choice(table)
            row[rng.randrange(len(row))] = rng.choice(cells)
        text = rng.choice(("\n", "\r\n", "\r", "\0", ";")).join(",".join(row) for row in table)
        data = text.encode(rng.choice(("utf-8", "utf-8-sig", "utf-16", "latin-1")), "replace")

        def case(data: bytes = data) -> Any:
            in_place_of(rng, folder / "points.csv", damaged(rng, data) if rng.random() < 0.4 else data)
            return read_points_file(folder / "points.csv", rng.choice((None, "a.jpg")))

        yield f"{number} csv", case


class Told(ValueError):
    """What a script prints of a command line that it refuses."""


def overrides(rng: random.Random, folder: Path) -> Iterator[Case]:
    """Command lines of the scripts: options, groups and values of any kind."""
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import open_dict
    from omegaconf.errors import OmegaConfBaseException

    from geoalign.options.entry import checked, composed, explain, is_composing

    accept = checked("train", lambda cfg: None)
    options = (
        "trainer.max_epochs", "optimizer.lr", "matcher.radius", "matcher.readout", "data", "backbone", "refiner",
        "seed", "data.batch_size", "loss.dense.target", "refiner.width", "hydra.run.dir", "nothing", "matcher",
        "+x", "~data", "++a.b", "+backbone", "callbacks@x", "checkpoint", "trainer.devices",
    )  # fmt: skip
    values = (
        "-1", "nan", "1e999", "null", "''", "[]", "{}", "[1,[2]]", "{a: b}", "true", "../../etc/passwd",
        "${oc.env:HOME}", "${a", "a b", "a=b", "'", '"', "choice(1,2)", "\\", "%", "é", "x" * 3000, "[" * 200,
        "lite", "window", "0x10", "1_0", "${hydra:runtime.cwd}", "{_target_: os.system, command: touch canary}",
        "!!python/name:os.system",
        "\n", "",
    )  # fmt: skip

    def case(words: list[str]) -> Any:
        try:
            cfg = composed("train", words)
        except Exception as error:
            if not is_composing(error):
                raise
            raise Told(explain(error, "train", words)) from error
        with open_dict(cfg):
            cfg.hydra.runtime.output_dir = str(folder)
            HydraConfig.instance().set_config(cfg)
            del cfg["hydra"]
        try:
            return accept(cfg)
        except OmegaConfBaseException as error:
            raise Told(explain(error, "train", words)) from error

    case(["seed=1"])  # the parts whose options are checked are imported here, not in a case's seconds
    for number in itertools.count():
        words = [f"{rng.choice(options)}={rng.choice(values)}" for _ in range(rng.choice((1, 1, 2)))]
        yield f"{number} {words!r}"[:200], lambda words=words: case(words)


FAMILIES = (annotations, texts, archives, pictures, weights, models, stores, points, overrides)
COUNTS = dict(zip([f.__name__ for f in FAMILIES], (520, 500, 300, 400, 300, 200, 150, 250, 150), strict=True))


# --- the watched process --------------------------------------------------------------------------------------------


def watch(root: Path) -> list[str]:
    """A list that fills with everything no file may cause: writes outside ``root``, processes, connections, names."""
    seen: list[str] = []
    inside = os.path.realpath(root)
    forbidden = ("os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "subprocess.Popen", "pty.spawn")
    removing = ("os.remove", "os.mkdir", "os.rmdir", "os.chmod", "os.truncate")
    moving = ("os.rename", "os.link", "os.symlink")

    def is_outside(path: Any, folder: Any = -1) -> bool:
        if not isinstance(path, str | bytes | os.PathLike):
            return False
        start = os.readlink(f"/proc/self/fd/{folder}") if isinstance(folder, int) and folder >= 0 else os.getcwd()
        place = os.path.normpath(os.path.join(start, os.fsdecode(path)))
        return not (place + "/").startswith(inside + "/") and place != "/dev/null"

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event in (*forbidden, "socket.connect", "socket.getaddrinfo", "pickle.find_class"):
            seen.append(f"{event} {arguments!r}"[:200])
        elif event == "open":
            path, mode, flags = arguments
            writes = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
            if (isinstance(flags, int) and flags & writes) and is_outside(path):
                seen.append(f"open {path!r} {mode}")
        elif (event in removing and is_outside(arguments[0], arguments[-1])) or (
            event in moving and any(map(is_outside, arguments[event != "os.rename" : 2]))
        ):
            seen.append(f"{event} {arguments!r}"[:200])

    sys.addaudithook(hook)
    return seen


def is_named(error: Exception) -> bool:
    """One line that somebody of this project wrote, raised as one of the kinds that the commands print."""
    from geoalign.data.prepare.unpack import UnpackError

    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    ours = trace is not None and ("/geoalign/" in trace.tb_frame.f_code.co_filename or isinstance(error, Told))
    text = str(error)
    return isinstance(error, ValueError | OSError | UnpackError) and ours and bool(text) and len(text.splitlines()) == 1


def run(family: str, count: int, folder: Path, seed: int = 0) -> dict[str, Any]:
    """Read that many cases; how they ended, and all that was wrong."""
    rng = random.Random(f"{family} {seed}")
    cases = globals()[family](rng, folder)
    journal = (folder / "journal").open("w")
    first = next(cases)  # its libraries and sound files come before the limits
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY,) * 2)
    resource.setrlimit(resource.RLIMIT_FSIZE, (FILE_BYTES,) * 2)
    resource.setrlimit(resource.RLIMIT_CPU, (PROCESSOR_SECONDS,) * 2)
    ends, wrong = Counter[str](), list[str]()
    seen = watch(folder)
    for label, case in itertools.islice(itertools.chain([first], cases), count):
        journal.write(f"{label}\n")
        journal.flush()
        faulthandler.dump_traceback_later(SECONDS, exit=True)
        try:
            case()
            ends["read"] += 1
        except Exception as error:
            ends[type(error).__name__] += 1
            if not is_named(error):
                wrong.append(f"{label}: {type(error).__name__}: {str(error)[:300]}")
        finally:
            faulthandler.cancel_dump_traceback_later()
        if seen or (folder / "canary").exists():
            wrong.append(f"{label}: caused {seen or 'a file'}")
            seen.clear()
            (folder / "canary").unlink(missing_ok=True)
    return {"count": count, "ends": dict(ends), "wrong": wrong}


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    result = run(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
    print(json.dumps(result))
