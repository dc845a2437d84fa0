"""Run the rows of a table, each experiment in a folder of its own; finished rows are kept.

    python -m benchmarks.run_rows results/synthetic synthetic/sparse synthetic/dense --seeds 42 43 44 --jobs 2
    python -m benchmarks.run_rows results/spair71k zero_shot/dinov2 zero_shot/sd15 --set backbone.view_batch=4
    python -m benchmarks.run_rows results/livestock livestock/refined_ways --weights livestock/refined --seeds 42 43

A row that fails does not stop the others; the exit code is 1 where one did.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

PROJECT = Path(__file__).parents[1]


class Job(NamedTuple):
    """One experiment under one seed, and where its run goes."""

    experiment: str
    script: str
    seed: int | None
    folder: Path
    weights: Path | None = None
    """The run whose refiner an evaluation reads."""

    @property
    def done(self) -> bool:
        """Whether its results are there already: the test is the last thing that a run writes."""
        name = "refined" if self.script == "train.py" else "*"
        return any(self.folder.glob(f"results/{name}/summary.json"))

    def command(self, settings: Sequence[str]) -> list[str]:
        """What a user would type."""
        seed = [] if self.seed is None else [f"seed={self.seed}"]
        where = f"hydra.run.dir={self.folder}"
        weights = [] if self.weights is None else [f"checkpoint={self.weights}"]
        return [sys.executable, self.script, f"experiment={self.experiment}", *seed, *weights, where, *settings]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is missing."""
    options = parser().parse_args(arguments)
    try:
        jobs = plan(options.out, options.experiments, options.seeds, options.weights)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    missing = [job for job in jobs if not job.done]
    print(f"{len(jobs)} rows, {len(jobs) - len(missing)} of them done", flush=True)
    with ThreadPoolExecutor(options.jobs) as pool:
        codes = list(pool.map(lambda job: run(job, options.set, options.jobs), missing))
    return int(any(codes))


def plan(out: Path, experiments: Sequence[str], seeds: Sequence[int], weights: str | None = None) -> list[Job]:
    """Every job; evaluations of frozen features draw nothing and get no seeds.

    With ``weights``, the name of a trained row of the same ``out``, evaluations read its runs, seed by seed.
    """
    jobs = []
    for experiment in experiments:
        script, folder = script_of(experiment), row_folder(out, experiment)
        trained = None if weights is None else row_folder(out, weights)
        if script == "train.py" and seeds:
            jobs += [Job(experiment, script, seed, folder / f"seed-{seed}") for seed in seeds]
        elif trained is not None and seeds:
            places = [f"seed-{seed}" for seed in seeds]
            jobs += [Job(experiment, script, None, folder / place, trained / place) for place in places]
        else:
            jobs.append(Job(experiment, script, None, folder, trained))
    return jobs


def row_folder(out: Path, experiment: str) -> Path:
    """Where a row goes."""
    return out / experiment.replace("/", "-")


def script_of(experiment: str) -> str:
    """The script that an experiment's header names.

    Raises:
        ValueError: no such experiment.
    """
    path = PROJECT / "conf" / "experiment" / f"{experiment}.yaml"
    if not path.is_file():
        raise ValueError(f"no experiment {experiment}; see {path.parents[1]}")
    said = re.search(rf"geoalign (train|evaluate) experiment={re.escape(experiment)}\b", path.read_text())
    if said is None:
        raise ValueError(f"{path}: its header names no script; expected '# geoalign train experiment={experiment}'")
    return f"{said.group(1)}.py"


def run(job: Job, settings: Sequence[str], jobs: int) -> int:
    """Run one row with its output in a log; its exit code."""
    log = job.folder.with_name(f"{job.folder.name}.log")
    log.parent.mkdir(parents=True, exist_ok=True)
    threads = str(max(1, (os.cpu_count() or 1) // jobs))
    start = time.monotonic()
    with log.open("w") as file:
        environment = {**os.environ, "OMP_NUM_THREADS": threads}
        command = job.command(settings)
        code = subprocess.run(command, cwd=PROJECT, env=environment, stdout=file, stderr=subprocess.STDOUT).returncode
    seed = f" {job.folder.name.replace('-', ' ')}" if job.folder.name.startswith("seed-") else ""
    said = "done" if code == 0 else f"failed, see {log}"
    print(f"{job.experiment}{seed}: {said} after {(time.monotonic() - start) / 60:.1f} min", flush=True)
    if code:
        print("\n".join(log.read_text(errors="replace").splitlines()[-3:]), file=sys.stderr, flush=True)
    return code


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="python -m benchmarks.run_rows", description=__doc__)
    made.add_argument("out", type=lambda text: Path(text).absolute(), help="one folder per row goes below")
    made.add_argument("experiments", nargs="+", help="names below conf/experiment")
    made.add_argument("--seeds", nargs="+", type=int, default=[], help="one training run each")
    made.add_argument("--weights", metavar="ROW", help="the trained row of the same folder that evaluations read")
    made.add_argument("--jobs", type=int, default=1, help="runs at a time")
    made.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="overrides for every run")
    return made


if __name__ == "__main__":
    sys.exit(main())
