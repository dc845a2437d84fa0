"""What stands beside the code and nothing imports: citation, workflows, hooks."""

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PINNED = dict(re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.M))


def test_the_citation_names_this_software_and_the_paper():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert (cited["cff-version"], cited["title"], cited["license"]) == ("1.2.0", "geoalign", "Apache-2.0")
    assert cited["preferred-citation"]["url"].rpartition("/")[2] in (ROOT / "README.md").read_text()


def test_hooks_run_the_formatter_that_the_tests_run():
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert hooks[0]["rev"] == f"v{PINNED['ruff']}"


@pytest.mark.parametrize("path", sorted((ROOT / ".github" / "workflows").glob("*.yml")), ids=lambda p: p.stem)
def test_a_workflow_calls_scripts_that_exist_and_may_write_nothing(path):
    flow = yaml.safe_load(path.read_text())
    assert flow["permissions"] == {"contents": "read"}
    runs = [step["run"] for job in flow["jobs"].values() for step in job["steps"] if "run" in step]
    for script in re.findall(r"\.ci/\w+", " ".join(runs)):
        assert (ROOT / script).stat().st_mode & 0o100
    for named in re.findall(r"-c constraints.txt ([\w -]+)$", "\n".join(runs), re.M):
        assert set(named.split()) <= PINNED.keys()


def test_every_dependency_and_extra_is_pinned():
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [
        *project["dependencies"],
        *(name for extra in project["optional-dependencies"].values() for name in extra),
    ]
    names = {re.split(r"[=<>;]", one)[0] for one in wanted}
    known = {name.lower().replace("_", "-") for name in PINNED}
    assert {name for name in names if name.lower().replace("_", "-") not in known} == set()
