"""The server of the web page: what it keeps to itself, and how the command fails."""

import importlib.util
import os
import subprocess
import sys

import pytest
from helpers.desk import noise, saved, tiny_desk

import geoalign
from geoalign.cli.__main__ import main
from geoalign.demo import server as demo
from geoalign.demo.examples import Example

VARIABLES = ("ANALYTICS_ENABLED", "TEMP_DIR", "EXAMPLES_CACHE", "SHARE", "MCP_SERVER")


@pytest.fixture
def served(tmp_path, monkeypatch):
    """Calls a function with the page and its address while it is served."""
    gradio = pytest.importorskip("gradio", reason="needs gradio; pip install 'geoalign[demo]'")
    files = [saved(tmp_path, f"{i}.png", noise(seed=i)) for i in range(2)]
    monkeypatch.setattr(demo, "examples", lambda cache: [Example("noise", *files)])
    for name in VARIABLES:
        monkeypatch.setenv(f"GRADIO_{name}", "")

    def serve(check, **how):
        def instead(blocks):
            check(blocks)
            blocks.close(verbose=False)

        monkeypatch.setattr(gradio.Blocks, "block_thread", instead)
        demo.serve(tiny_desk().matcher, cache=tmp_path, **how)

    return serve


def test_the_page_keeps_the_machine_to_itself(served, capsys, monkeypatch):
    import httpx

    def check(blocks):
        address = blocks.local_url
        config = httpx.get(f"{address}config").json()
        assert blocks.allowed_paths == []
        assert not blocks.analytics_enabled
        assert not blocks.share
        assert config["title"] == "geoalign"
        for name in ("/etc/passwd", geoalign.__file__, "../../../../etc/passwd"):
            for route in ("gradio_api/file=", "file=", "gradio_api/file/"):
                answer = httpx.get(f"{address}{route}{name}", follow_redirects=True)
                assert answer.status_code in (403, 404)
                assert "root:" not in answer.text
        big = {"files": ("big.png", b"0" * (41 * 2**20))}
        assert httpx.post(f"{address}gradio_api/upload", files=big, timeout=60).status_code == 413
        page = httpx.get(address).text
        assert "fonts.googleapis" not in page

    served(check)
    told = capsys.readouterr()
    assert "http://127.0.0.1:" in told.out
    assert not told.err
    served(lambda blocks: None, host="0.0.0.0")
    assert "everyone" in capsys.readouterr().err


def test_foreign_names_are_not_answered(served):
    """A page elsewhere may let its own name mean this machine; a browser then sends that name."""
    import httpx

    def check(own, refused):
        def asked(blocks):
            port = blocks.local_url.rstrip("/").rpartition(":")[2]
            for name in (*own, *(f"{name}:{port}" for name in own)):
                assert httpx.get(f"http://127.0.0.1:{port}/config", headers={"Host": name}).status_code == 200, name
            for route in ("", "config", "gradio_api/upload", "gradio_api/queue/join"):
                for name in refused:
                    url, headers = f"http://127.0.0.1:{port}/{route}", {"Host": f"{name}:{port}"}
                    for answer in (httpx.get(url, headers=headers), httpx.post(url, headers=headers, json={})):
                        assert answer.status_code == 400, (route, name)
                        assert "geoalign" not in answer.text

        return asked

    local, foreign = ("localhost", "127.0.0.1", "[::1]", "LocalHost"), ("evil.example", "127.0.0.1.evil.example", "")
    served(check(local, (*foreign, "0.0.0.0", "localhost.evil.example", "xn--localhost")))
    served(check((*local, "0.0.0.0"), foreign), host="0.0.0.0")


def test_without_gradio_it_says_what_to_install(monkeypatch, capsys):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "gradio" else found(name, *a))
    assert main(["demo"]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "pip install 'geoalign[demo]'" in error


BUSY = """
import sys, threading, time
from pathlib import Path
from helpers.desk import noise, saved, tiny_desk
from geoalign.demo.desk import Settings
from geoalign.demo.pair import Mark, Pair
from geoalign.demo.server import leave
folder = Path(sys.argv[1])
desk = tiny_desk()
pair = Pair(*(desk.open(saved(folder, f"{i}.png", noise(seed=i))) for i in range(2)), (Mark("1", (20.0, 50.0)),))
def busy():
    while True:
        desk.match(pair, Settings())
threading.Thread(target=busy, daemon=True).start()
time.sleep(0.3)
leave()
"""


def test_it_ends_though_a_match_runs(tmp_path):
    """Ending the interpreter under a thread that is inside torch aborts the process: seen three times of three."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    ended = subprocess.run([sys.executable, "-c", BUSY, str(tmp_path)], env=environment, check=False)
    assert ended.returncode == 0
