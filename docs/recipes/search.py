"""Optuna looks for learning rate and weight decay; one `geoalign train` per trial: pip install optuna

python docs/recipes/search.py runs/search 16 [overrides of every trial]
"""

import subprocess
import sys
from pathlib import Path

import optuna
import pandas as pd

OBJECTIVE = "val/synthetic/pck@0.10/image"  # the best validation counts; another dataset has its name here


def train(folder: Path, overrides: list[str]) -> float | None:
    """Best validation score of one run; None where it failed, and its train.log says why."""
    if subprocess.run(["geoalign", "train", f"hydra.run.dir={folder}", *overrides], check=False).returncode:
        return None
    return float(pd.read_csv(folder / "csv" / "metrics.csv")[OBJECTIVE].max())


def search(root: Path, trials: int, fixed: list[str]) -> optuna.Study:
    """A study kept on disk: the same command goes on with it, and several may run at once."""
    root.mkdir(parents=True, exist_ok=True)
    study = optuna.create_study(
        storage=f"sqlite:///{root}/study.db", study_name="search", direction="maximize", load_if_exists=True,
        sampler=optuna.samplers.TPESampler(seed=0),
    )  # fmt: skip
    while len(study.trials) < trials:
        trial = study.ask()
        chosen = [
            f"optimizer.lr={trial.suggest_float('lr', 1e-4, 1e-2, log=True)}",
            f"optimizer.weight_decay={trial.suggest_float('weight_decay', 1e-5, 1e-2, log=True)}",
        ]
        score = train(root / str(trial.number), ["data.test=null", *fixed, *chosen])  # never the test split
        study.tell(trial, score, state=None if score is not None else optuna.trial.TrialState.FAIL)
    return study


if __name__ == "__main__":
    found = search(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
    print(found.best_value, found.best_params)
