"""One command from nothing to a verified folder, against a server on this machine."""

from __future__ import annotations

import io
import re
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
import requests
from helpers.spair_tree import write_tree
from PIL import Image

import geoalign.data
from geoalign.data.prepare import datasets
from geoalign.data.prepare.__main__ import main, parse, prepare
from geoalign.data.prepare.benchmark import Benchmark, Published, Source
from geoalign.data.prepare.datasets import CATALOGUE, find
from geoalign.data.prepare.download import DownloadError


class Quiet(SimpleHTTPRequestHandler):
    """Serves a folder and counts."""

    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        Quiet.asked.append(self.path)
        super().do_GET()

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def served(tmp_path: Path) -> Iterator[str]:
    """The address of a folder with a dataset's archive and a list."""
    folder = tmp_path / "server"
    folder.mkdir()
    write_tree(tmp_path / "made")
    with tarfile.open(folder / "set.tar.gz", "w:gz") as tar:
        tar.add(tmp_path / "made", arcname="Set")
    (folder / "list.csv").write_text("a,b\n")
    Quiet.asked = []
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def small(url: str, **changes: Any) -> Benchmark:
    usual = Benchmark(
        name="small", title="Small", home=url, licence="none", reader="SPair71k",
        parts={"test": {"split": "test", "require_images": False}},
        sources=(
            Source("set.tar.gz", f"{url}/set.tar.gz", strip="Set"),
            Source("list.csv", f"{url}/list.csv", unpack=False),
        ),
        expected=("Layout", "list.csv"), published=(Published(("test",), 8),), images=5, layout="spair",
        options=("layout",),
    )  # fmt: skip
    return usual._replace(**changes)


@pytest.fixture
def catalogue(served: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    monkeypatch.setitem(CATALOGUE, "small", small(served))
    monkeypatch.chdir(tmp_path)
    return served


def test_from_nothing_to_a_sound_folder(catalogue: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["dataset=small", "root=sets/mine", "progress=false"]) == 0
    out = capsys.readouterr().out
    assert "unpacked 19 files of set.tar.gz" in out
    assert "test pairs                           8           8  ok    5 images" in out
    assert out.endswith("result: sound\n")
    assert (tmp_path / "sets/mine/list.csv").read_text() == "a,b\n"
    assert main(["dataset=small", "root=sets/mine", "progress=false"]) == 0
    assert Quiet.asked == ["/set.tar.gz", "/list.csv"], "what is there is not fetched again"


def test_the_default_root_is_a_folder_below_data(catalogue: str, tmp_path: Path) -> None:
    assert main(["dataset=small", "progress=false"]) == 0
    assert (tmp_path / "data/small/Layout").is_dir()


def test_damage_gives_another_exit_code(catalogue: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    main(["dataset=small", "root=r", "progress=false"])
    (tmp_path / "r/JPEGImages/cat/2008_000001.jpg").unlink()
    assert main(["dataset=small", "root=r", "verify_only=true", "progress=false"]) == 1
    assert "result: not sound" in capsys.readouterr().out


def test_verify_only_neither_writes_nor_fetches(catalogue: str, tmp_path: Path) -> None:
    assert main(["dataset=small", "root=nothing", "verify_only=true", "progress=false"]) == 1
    assert Quiet.asked == []
    assert not (tmp_path / "nothing").exists()


def test_a_file_put_there_by_hand_is_used(served: str, tmp_path: Path) -> None:
    by_hand = small(served)
    by_hand = by_hand._replace(sources=(by_hand.sources[0]._replace(by_hand=True), by_hand.sources[1]))
    with pytest.raises(
        DownloadError, match=r"serves no plain download: put set\.tar\.gz from http.* into /.*run again"
    ):
        prepare(by_hand, tmp_path / "root", {}, progress=False)
    (tmp_path / "server/set.tar.gz").rename(tmp_path / "root/set.tar.gz")
    prepare(by_hand, tmp_path / "root", {}, progress=False)
    assert (tmp_path / "root/Layout/large/test.txt").is_file()


def test_offline_every_missing_file_is_named(
    catalogue: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise requests.ConnectionError("network is unreachable")

    monkeypatch.setattr("requests.get", refuse)
    monkeypatch.setattr("time.sleep", lambda _: None)
    assert main(["dataset=small", "root=r", "progress=false"]) == 2
    error = capsys.readouterr().err
    for file in ("set.tar.gz", "list.csv"):
        assert f"cannot be fetched (network is unreachable): put {file} from {catalogue}/{file} into " in error


def test_a_hostile_archive_is_not_unpacked(catalogue: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "server/set.tar.gz", "w:gz") as tar:
        tar.addfile(tarfile.TarInfo("../../evil"), io.BytesIO())
    assert main(["dataset=small", "root=r", "progress=false"]) == 2
    assert "do not trust it" in capsys.readouterr().err


def test_optional_files_may_be_absent(served: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    extra = Source("more.csv", f"{served}/more.csv", unpack=False, by_hand=True, optional=True)
    usual = small(served)
    prepare(usual._replace(sources=(*usual.sources, extra)), tmp_path / "r", {}, progress=False)
    assert "left out: its host serves no plain download: put more.csv from" in capsys.readouterr().out
    assert (tmp_path / "r/Layout").is_dir()


def test_conversion_runs_and_says_so(served: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    made = small(served, convert=lambda root, extra, _: f"made {extra['images']} in {root.name}", making=("images",))
    prepare(made, tmp_path / "r", {"images": "7"}, progress=False)
    assert capsys.readouterr().out.endswith("made 7 in r\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "expected dataset=<name>; datasets are spair71k"),
        (["dataset=spair"], r"no dataset is called 'spair'; did you mean spair"),
        (["dataset=x"], "there are spair71k, "),
        (["dataset=spair71k", "rot=a"], "unknown setting 'rot'; did you mean root"),
        (["dataset=spair71k", "qqqq=a"], "spair71k takes dataset, root"),
        (["dataset=spair71k", "verify_only"], "expected key=value, got 'verify_only'"),
        (["dataset=spair71k", "root="], "expected key=value"),
        (["dataset=spair71k", "verify_only=yes"], "verify_only is true or false, got 'yes'"),
        (["dataset=spair71k", "workers=0"], "workers is a whole number from 1"),
        (["dataset=spair71k", "counts=all"], r"counts is published .*, got 'all'"),
        (["dataset=spair71k", "root=a", "root=b"], "root is given twice"),
        (["dataset=spair71k", "images_root=a"], "unknown setting 'images_root'"),
    ],
)
def test_typos_are_answered(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match=message):
        parse(arguments)
    assert main(arguments) == 2
    assert capsys.readouterr().err.startswith("error: ")


def test_values_may_hold_anything(tmp_path: Path) -> None:
    settings, extra = parse(["dataset=spair_u", "root=a=b c/ü", "images_root=1e5", "timeout=3", "verify_only=True"])
    assert (settings["root"], settings["timeout"], settings["verify_only"]) == ("a=b c/ü", 3, True)
    assert extra == {"images_root": "1e5"}


@pytest.mark.parametrize("name", CATALOGUE)
def test_the_catalogue_is_sound(name: str) -> None:
    benchmark = find(name)
    assert benchmark.reader in geoalign.data.READERS
    assert all(source.url.startswith("https://") for source in benchmark.sources)
    assert {part for published in benchmark.published for part in published.parts} <= set(benchmark.parts)
    assert len({source.file for source in benchmark.sources}) == len(benchmark.sources)
    assert benchmark.licence
    assert benchmark.parts


DOCS = Path(__file__).parents[3] / "docs" / "data.md"
SOURCES = DOCS.parents[1] / "conf" / "data" / "source"


@pytest.mark.parametrize("name", CATALOGUE)
def test_the_documentation_states_the_catalogue(name: str) -> None:
    benchmark, text = find(name), DOCS.read_text(encoding="utf-8")
    assert f"dataset={name}" in text
    assert benchmark.title in text
    for fact in (*(s.url for s in benchmark.sources), *(f"{p.pairs:,}" for p in benchmark.published if p.nearest == 1)):
        assert fact in text


def test_documented_commands_are_understood() -> None:
    lines = [line for line in DOCS.read_text(encoding="utf-8").splitlines() if line.startswith("geoalign prepare")]
    commands = [line.partition("#")[0].split() for line in lines]
    assert len(commands) > 5
    for command in commands:
        parse(command[2:])


@pytest.mark.parametrize("path", sorted(SOURCES.glob("*.yaml")), ids=lambda path: path.stem)
def test_readers_look_where_data_is_prepared(path: Path) -> None:
    """The configuration's root below ``paths.data`` is the dataset's default folder below ``data``."""
    roots = re.findall(r"^root: \$\{paths\.data\}/(\S+)", path.read_text(), re.MULTILINE)
    assert set(roots) <= set(CATALOGUE)


def test_ap10k_conversion_writes_the_pair_lists(tmp_path: Path, shared: Path) -> None:
    from ap10k_tree import documents, write

    root = write(tmp_path / "ap10k", documents(600, extra=20), [])
    (root / "is_crowd.txt").write_bytes((shared / "data/ap10k-sample/is_crowd.txt").read_bytes())
    said = datasets._build_ap10k(root, {}, False)
    assert said.startswith("built 7 pair lists of ")
    assert len(list((root / "pairs").glob("*.parquet"))) == 7


def test_synthetic_is_rendered_and_sound(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    arguments = ["dataset=synthetic", f"root={tmp_path / 'made'}", "images=2", "seed=3", "progress=false"]
    assert main(arguments) == 0
    assert "rendered 2 trn, 2 val, 2 test images per category" in capsys.readouterr().out
    assert main(["dataset=synthetic", f"root={tmp_path / 'made'}", "verify_only=true", "progress=false"]) == 0


def test_synthetic_counts_are_numbers(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["dataset=synthetic", f"root={tmp_path / 'made'}", "images=few"]) == 2
    assert "images is a whole number, got 'few'" in capsys.readouterr().err


def test_own_images_are_verified(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for name in ("a b.png", "ü.png"):
        Image.new("RGB", (40, 30)).save(tmp_path / name)
    (tmp_path / "points.csv").write_text("image,keypoint,x,y\na b.png,nose,3,4\nü.png,nose,5,6\n", encoding="utf-8")
    assert main(["dataset=folder", f"root={tmp_path}", "keypoints=points.csv", "progress=false"]) == 0
    assert "all pairs                            2" in capsys.readouterr().out
    (tmp_path / "points.csv").write_text("image,keypoint,x,y\nc.png,nose,3,4\n")
    assert main(["dataset=folder", f"root={tmp_path}", "keypoints=points.csv", "progress=false"]) == 1


def test_the_command_line_runs(tmp_path: Path) -> None:
    write_tree(tmp_path)
    command = [sys.executable, "-m", "geoalign.data.prepare", "dataset=spair71k", f"root={tmp_path}"]
    done = subprocess.run([*command, "verify_only=true", "counts=any"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("result: sound\n")
