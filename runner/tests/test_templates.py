# SPDX-License-Identifier: GPL-2.0-only
"""The templates for CI services: linted, and the shell one run against a stand-in for twinboot."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from runner import cli
from runner.experiment import ROOT

TEMPLATES = ROOT / "ci/templates"
GATE = TEMPLATES / "gate.sh"
BIN = Path(sys.executable).parent
SCHEMAS = {
    "github-actions.yml": ("--builtin-schema", "vendor.github-workflows"),
    "gitlab-ci.yml": (
        *("--builtin-schema", "vendor.gitlab-ci"),
        *("--data-transform", "gitlab-ci"),
    ),
}
# Notes down how it is called; a run ends as $CODE says, and leaves evidence unless that is 9
STAND_IN = """#!/bin/sh
echo "$@" >>calls
if [ "$1" = merge ]; then exit 7; fi
while [ "$1" != --out ]; do shift; done
mkdir -p "$2"
if [ "$CODE" != 9 ]; then touch "$2/run.json"; fi
exit $(( CODE % 6 ))
"""


def linted(*words: str | Path) -> None:
    argv = [str(word) for word in words]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_yaml_file_is_clean() -> None:
    linted(BIN / "yamllint", "--strict", "--config-file", ROOT / ".yamllint", ROOT / "ci")


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_service_finds_its_own_keys(name: str) -> None:
    linted(BIN / "check-jsonschema", *SCHEMAS[name], TEMPLATES / name)


@pytest.mark.skipif(shutil.which("actionlint") is None, reason="actionlint is not installed")
def test_the_workflow_is_clean() -> None:
    linted("actionlint", TEMPLATES / "github-actions.yml")


def test_every_shell_script_is_clean() -> None:
    scripts = [*ROOT.glob("ci/*.sh"), *TEMPLATES.glob("*.sh"), ROOT / ".ci/run"]
    linted(BIN / "shellcheck", *scripts)


def scripts_of(name: str) -> list[str]:
    """What a template hands to a shell."""
    jobs = yaml.safe_load((TEMPLATES / name).read_text())
    if name == "github-actions.yml":
        steps = [step for job in jobs["jobs"].values() for step in job["steps"]]
        return [step["run"] for step in steps if "run" in step]
    texts = [job["script"] for job in jobs.values() if isinstance(job, dict) and "script" in job]
    return ["\n".join(lines) for lines in texts]


@pytest.mark.parametrize("name", SCHEMAS)
def test_the_scripts_in_a_template_are_clean_and_take_nothing_from_outside(
    name: str, tmp_path: Path
) -> None:
    """A name of a branch or a title put into a script by the service would be run by it."""
    scripts = scripts_of(name)
    assert len(scripts) >= 3
    for number, text in enumerate(scripts):
        assert "${{" not in text
        path = tmp_path / f"{number}.sh"
        path.write_text(f"#!/bin/bash\n{text}\n")
        linted(BIN / "shellcheck", path)


@pytest.mark.parametrize("path", [*TEMPLATES.iterdir()], ids=lambda path: path.name)
def test_a_template_uses_commands_and_options_that_there_are(path: Path) -> None:
    text = path.read_text().replace("\\\n", " ")
    calls = re.findall(r'(?:bin/twinboot|"\$twinboot") (\w+)([^|>]*?)(?:\|\||>|\n)', text)
    assert {command for command, _ in calls} >= {"run"}
    there = {
        each.name or getattr(each.callback, "__name__", "") for each in cli.app.registered_commands
    }
    not_yet = set() if "merge" in there else {"--shard"}
    for command, rest in calls:
        if command in there:
            said = CliRunner().invoke(cli.app, [command, "--help"], env={"COLUMNS": "300"}).output
            for option in set(re.findall(r"--[a-z0-9-]+", rest)) - not_yet:
                assert option in said, f"{command} {option}"


@pytest.fixture
def stand_in(tmp_path: Path) -> Path:
    path = tmp_path / "twinboot"
    path.write_text(STAND_IN)
    path.chmod(0o755)
    return path


def gate(folder: Path, *words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", str(GATE), *words],
        cwd=folder,
        env={**os.environ, "TWINBOOT": str(folder / "twinboot"), "CODE": str(code)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("code", [0, 1, 3, 4])
def test_the_shell_template_runs_each_shard_and_ends_as_their_sum(
    stand_in: Path, tmp_path: Path, code: int
) -> None:
    done = gate(tmp_path, "my patches", "2", code=code)
    assert done.returncode == 7, done.stderr
    calls = (tmp_path / "calls").read_text().splitlines()
    assert [line.split()[0] for line in calls] == ["run", "run", "merge"]
    assert "--patch my patches --shard 2/2 --out twinboot-results/parts/2" in calls[1]
    assert "merge twinboot-results/parts/1 twinboot-results/parts/2 --out" in calls[2]


@pytest.mark.parametrize(("code", "ended"), [(2, 2), (9, 3)])
def test_the_shell_template_stops_where_a_shard_has_no_evidence(
    stand_in: Path, tmp_path: Path, code: int, ended: int
) -> None:
    assert gate(tmp_path, "p", "2", code=code).returncode == ended
    assert len((tmp_path / "calls").read_text().splitlines()) == 1


@pytest.mark.parametrize("words", [[], ["p", "0"], ["p", "two"], ["p", "1;id"], list("abcde")])
def test_the_shell_template_refuses_what_it_cannot_do(
    stand_in: Path, tmp_path: Path, words: list[str]
) -> None:
    assert gate(tmp_path, *words).returncode == 2
    assert not (tmp_path / "calls").exists()


def test_the_shell_template_overwrites_no_earlier_result(stand_in: Path, tmp_path: Path) -> None:
    (tmp_path / "twinboot-results").mkdir()
    assert gate(tmp_path, "p").returncode == 2
