"""A run's folder has one owner at a time, whose name is in it; a kill at any moment leaves nothing that blocks."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from geoalign import claim
from geoalign.claim import NAME, ClaimError, claimed

HOLD = """
import sys, time, pathlib
from geoalign.claim import claimed
with claimed(pathlib.Path(sys.argv[1]), again=False):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the folder."""
    with subprocess.Popen([sys.executable, "-c", HOLD, tmp_path], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def _state(folder):
    return json.loads((folder / NAME).read_text())


def test_a_held_folder_names_its_owner_and_stays_his(tmp_path, holder):
    with pytest.raises(ClaimError, match=rf"process {holder.pid} on .*hydra.run.dir="), claimed(tmp_path, again=True):
        pass
    assert _state(tmp_path)["pid"] == holder.pid
    assert _state(tmp_path)["state"] == "running"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_owner_is_followed_at_once(tmp_path, holder, number, caplog):
    holder.send_signal(number)
    holder.wait()
    with claimed(tmp_path, again=False):
        assert _state(tmp_path)["pid"] == os.getpid()
    assert f"process {holder.pid}" in caplog.text


def test_children_do_not_keep_the_folder(tmp_path):
    """As a loader's workers do, which live on for seconds after a kill."""
    read, write = os.pipe()
    owner = os.fork()
    if owner == 0:
        with claimed(tmp_path, again=False):
            worker = os.fork()
            if worker == 0:
                time.sleep(30)
                os._exit(0)
            os.write(write, str(worker).encode())
            os.kill(os.getpid(), signal.SIGKILL)
    worker = int(os.read(read, 20))
    os.waitpid(owner, 0)
    with claimed(tmp_path, again=False):
        assert _state(tmp_path)["pid"] == os.getpid()
    os.kill(worker, signal.SIGKILL)


def test_one_process_does_not_hold_a_folder_twice(tmp_path):
    with claimed(tmp_path, again=False):
        with pytest.raises(ClaimError, match="no run is using"), claimed(tmp_path / ".", again=True):
            pass
        assert _state(tmp_path)["state"] == "running"
    assert _state(tmp_path)["state"] == "finished"


def test_a_finished_run_is_left_alone_unless_asked_for(tmp_path):
    with claimed(tmp_path, again=False):
        pass
    with pytest.raises(ClaimError, match="finished run, got one; say so"), claimed(tmp_path, False, "say so"):
        pass
    with pytest.raises(ZeroDivisionError), claimed(tmp_path, again=True):
        raise ZeroDivisionError
    assert _state(tmp_path)["state"] == "finished", "an attempt that failed does not give it up"
    with claimed(tmp_path, again=True):
        pass


def test_a_run_that_stopped_is_no_obstacle(tmp_path):
    with pytest.raises(KeyboardInterrupt), claimed(tmp_path, again=False):
        raise KeyboardInterrupt
    assert _state(tmp_path)["state"] == "stopped"
    with claimed(tmp_path, again=False):
        (tmp_path / "FAILED").touch()  # a job of a sweep
    with claimed(tmp_path, again=False):
        pass


def test_results_without_a_lock_are_a_finished_run(tmp_path):
    (tmp_path / "results" / "refined").mkdir(parents=True)
    (tmp_path / "results" / "refined" / "summary.json").touch()
    with pytest.raises(ClaimError, match="finished"), claimed(tmp_path, again=False):
        pass


@pytest.mark.parametrize("content", ["", "{", '{"state": "run', "[1]", "\x00" * 40])
def test_a_record_in_part_blocks_nothing(tmp_path, content):
    (tmp_path / NAME).write_text(content)
    with claimed(tmp_path, again=False):
        assert _state(tmp_path)["state"] == "running"


@pytest.mark.parametrize(
    ("before", "refused"),
    [
        ({"host": "elsewhere", "boot": "b", "slurm_job": None}, True),
        ({"host": "elsewhere", "boot": "b", "slurm_job": "8"}, True),
        ({"host": "elsewhere", "boot": "b", "slurm_job": "7"}, False),
        ({"host": None, "boot": None, "slurm_job": None}, True),
    ],
)
def test_a_run_on_another_machine_is_followed_only_by_its_own_job(tmp_path, monkeypatch, before, refused):
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    (tmp_path / NAME).write_text(json.dumps({"state": "running", "pid": 1, **before}))
    if refused:
        with pytest.raises(ClaimError, match=f"another machine.*remove .*{NAME}"), claimed(tmp_path, again=True):
            pass
    else:
        with claimed(tmp_path, again=False):
            pass


def test_containers_of_one_machine_are_one_machine(tmp_path):
    with claimed(tmp_path, again=False):
        own = _state(tmp_path)
    (tmp_path / NAME).write_text(json.dumps(own | {"host": "container", "state": "running"}))
    with claimed(tmp_path, again=False):
        pass


@pytest.mark.parametrize("rank", ["RANK", "LOCAL_RANK", "SLURM_PROCID"])
def test_the_ranks_of_one_run_share_its_folder(tmp_path, holder, monkeypatch, rank):
    monkeypatch.setenv(rank, "1")
    with claimed(tmp_path, again=False):
        assert _state(tmp_path)["pid"] == holder.pid


def test_two_starts_at_once_have_one_winner(tmp_path):
    code = HOLD.replace("time.sleep(60)", "time.sleep(2)")
    both = [subprocess.Popen([sys.executable, "-c", code, tmp_path], stderr=subprocess.PIPE) for _ in range(4)]
    errors = [process.communicate()[1].decode() for process in both]
    assert sorted("ClaimError" in error for error in errors) == [False, True, True, True]


def test_a_file_system_without_locks_is_said(tmp_path, monkeypatch, caplog):
    def lockf(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(claim.fcntl, "lockf", lockf)
    with claimed(tmp_path, again=False):
        pass
    assert "cannot be locked (Operation not supported)" in caplog.text
