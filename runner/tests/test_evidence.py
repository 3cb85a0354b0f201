# SPDX-License-Identifier: GPL-2.0-only
"""Evidence survives its folder, and the JSON document is what its schema says."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest

from runner import evidence
from runner.comparison import Comparison, compare_transcripts
from runner.document import document, save_document, schema
from runner.errors import UserError
from runner.experiment import Plan, command_of
from runner.qemu import Machine
from runner.row import Change
from runner.tests import corpus
from runner.tests.arms import CRASH, FAIL, REUSE, TWINS, compared, reused, run, splat
from runner.tests.corpus import LEAK
from runner.transcript import ArmLabel, Transcript

SCHEMA = Path(__file__).resolve().parents[2] / "docs" / "twinboot-comparison.schema.json"


def recorded(name: str, arm: ArmLabel, repeat: int) -> Transcript:
    transcript = corpus.read(corpus.FOLDER / f"{name}.transcript").transcript
    return replace(transcript, boot=replace(transcript.boot, arm=arm, repeat=repeat))


def kept_run(folder: Path, base: str, patched: str) -> None:
    evidence.begin_run(folder, TWINS, (LEAK, REUSE))
    for repeat in (0, 1):
        evidence.save_transcript(folder, recorded(base, "base", repeat))
        evidence.save_transcript(folder, recorded(patched, "patched", repeat))


def rejudged(folder: Path) -> Comparison:
    saved = evidence.load_run(folder)
    return compare_transcripts(saved.cases, saved.transcripts, saved.twins)


@pytest.mark.parametrize("each", corpus.everything(), ids=lambda each: each.path.stem)
def test_a_transcript_comes_back_as_it_was(tmp_path: Path, each: corpus.Recorded) -> None:
    path = evidence.save_transcript(tmp_path, each.transcript)
    assert evidence.load_transcript(path) == each.transcript


def test_a_run_comes_back_as_it_was(tmp_path: Path) -> None:
    kept_run(tmp_path, "pass", "panic")
    saved = evidence.load_run(tmp_path)
    assert (saved.twins, saved.cases) == (TWINS, (LEAK, REUSE))
    assert len(saved.transcripts) == 4


def test_a_kept_run_can_be_judged_again(tmp_path: Path) -> None:
    kept_run(tmp_path, "pass", "panic")
    rows = {row.case.id: row for row in rejudged(tmp_path).rows}
    assert rows[LEAK.id].change is Change.REGRESSED
    assert rows["guest/boot"].change is Change.SAME
    assert REUSE.id not in rows


@pytest.mark.parametrize("each", corpus.everything(), ids=lambda each: each.path.stem)
def test_the_same_evidence_in_both_arms_is_never_a_change(
    tmp_path: Path, each: corpus.Recorded
) -> None:
    kept_run(tmp_path, each.path.stem, each.path.stem)
    assert {row.change for row in rejudged(tmp_path).rows} <= {Change.SAME, Change.UNDECIDED}


def test_an_interrupted_run_is_judged_by_what_there_is(tmp_path: Path) -> None:
    evidence.begin_run(tmp_path, TWINS, (LEAK,))
    assert rejudged(tmp_path).exit_code == 3
    evidence.save_transcript(tmp_path, recorded("pass", "base", 0))
    assert rejudged(tmp_path).exit_code == 3


def test_the_console_can_be_read_without_us(tmp_path: Path) -> None:
    path = evidence.save_transcript(tmp_path, recorded("panic", "base", 0))
    assert "Kernel panic" in path.with_suffix(".console").read_text()


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"format": "else", "version": 1}', "\x00"])
def test_what_is_no_run_is_refused_with_one_sentence(tmp_path: Path, content: str) -> None:
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(UserError) as caught:
        evidence.load_run(tmp_path)
    assert "\n" not in caught.value.message


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not the folder of a run"):
        evidence.load_run(tmp_path / "nowhere")


def test_a_damaged_transcript_is_named(tmp_path: Path) -> None:
    kept_run(tmp_path, "pass", "pass")
    (tmp_path / "transcripts" / "base-zram-0-0.json").write_text("{")
    with pytest.raises(UserError, match=r"base-zram-0-0\.json is not a transcript"):
        evidence.load_run(tmp_path)


def changed(path: Path, *keys: str, value: object) -> None:
    """One value of a JSON file; None: the key is gone."""
    told = json.loads(path.read_text())
    place = told
    for key in keys[:-1]:
        place = place[key]
    if value is None:
        del place[keys[-1]]
    else:
        place[keys[-1]] = value
    path.write_text(json.dumps(told))


@pytest.mark.parametrize(
    ("keys", "value", "why"),
    [
        (("boot", "repeat"), "x", "its boot.repeat is damaged: input should be a valid integer"),
        (("boot", "arm"), None, "its boot.arm is missing"),
        (("end",), "happily", "its end is damaged: input should be 'poweroff', "),
        (("boot", "planned"), ["../x"], "it is about '../x', which is no case of it"),
        (("boot", "seed"), 77, "its seed is 77, not 1"),
        (("boot", "shard"), 3, "it is of a shard 3, which the run has not"),
        (("logs",), [], ""),
    ],
)
def test_a_transcript_that_cannot_be_of_the_run_says_what_is_wrong(
    keys: tuple[str, ...], value: object, why: str, tmp_path: Path
) -> None:
    kept_run(tmp_path, "pass", "pass")
    changed(tmp_path / "run.json", "twins", "seed", value=1)
    changed(tmp_path / "transcripts/base-zram-0-0.json", *keys, value=value)
    if not why:
        evidence.load_run(tmp_path)
        return
    with pytest.raises(UserError) as caught:
        evidence.load_run(tmp_path)
    assert why in caught.value.message
    assert "\n" not in caught.value.message


def test_a_transcript_of_other_cases_than_were_planned_is_refused(tmp_path: Path) -> None:
    kept_run(tmp_path, "pass", "pass")
    path = tmp_path / "transcripts/base-zram-0-0.json"
    told = json.loads(path.read_text())
    changed(path, "logs", value=[{**told["logs"][0], "case": REUSE.id}])
    with pytest.raises(UserError, match="what ran is not what was planned"):
        evidence.load_run(tmp_path)


@pytest.mark.parametrize(
    ("text", "why"), [('{"boot": {"ar', "it ends early"), ("no", "it is invalid json: expected")]
)
def test_a_transcript_that_was_cut_ends_early(text: str, why: str, tmp_path: Path) -> None:
    kept_run(tmp_path, "pass", "pass")
    (tmp_path / "transcripts/base-zram-0-0.json").write_text(text)
    with pytest.raises(UserError, match=f"is not a transcript of twinboot: {why}"):
        evidence.load_run(tmp_path)


def test_one_boot_told_twice_is_refused(tmp_path: Path) -> None:
    kept_run(tmp_path, "pass", "pass")
    for ending in ("json", "console"):
        path = tmp_path / f"transcripts/base-zram-0-0.{ending}"
        path.with_stem("copy").write_bytes(path.read_bytes())
    with pytest.raises(UserError, match=r"copy\.json and base-zram-0-0\.json are of the same boot"):
        evidence.load_run(tmp_path)


def test_a_console_that_is_gone_is_named(tmp_path: Path) -> None:
    kept_run(tmp_path, "pass", "pass")
    path = tmp_path / "transcripts/base-zram-0-0.console"
    path.unlink()
    with pytest.raises(UserError, match=rf"{path} cannot be read: No such file"):
        evidence.load_run(tmp_path)


def examples() -> tuple[Comparison, ...]:
    return (
        compared([], []),
        compared([reused(958)] * 2, [reused(0)] * 2),
        compared([run(no_leak=FAIL, tries=(8, 8))] * 2, [run(tries=(8, 0))] * 2),
        compared([run()] * 2, [run(process=CRASH, splats=(splat("new"),)), run()]),
        compared([run()] * 2, []),
    )


@pytest.mark.parametrize("number", range(5))
def test_documents_are_what_the_schema_says(number: int) -> None:
    checker = jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text()))
    checker.validate(document(examples()[number]))


def test_the_schema_that_is_checked_in_is_fresh() -> None:
    assert SCHEMA.read_text() == schema(), "regenerate it with python -m runner.document"


def test_the_schema_refuses_what_is_not_ours() -> None:
    checker = jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text()))
    page = document(examples()[1])
    for broken in (page | {"version": 2}, page | {"verdict": "fine"}, page | {"more": 1}):
        assert not checker.is_valid(broken)


def test_a_document_has_what_the_report_has(tmp_path: Path) -> None:
    save_document(examples()[2], tmp_path / "out.json")
    page = json.loads((tmp_path / "out.json").read_text())
    assert (page["format"], page["version"]) == ("twinboot-comparison", 1)
    (row,) = page["cases"]
    assert (row["case"], row["swap"], row["change"]) == ("cow/wr_hit", "nullblk", "FIXED")
    assert row["base"]["verdict"] == "FAIL"
    assert row["base"]["runs"][0]["invariants"]["no_leak"]["failed"] == 8
    assert row["findings"][0]["sentence"].startswith("the parent's secret reaches the child: 16")
    assert page["arms"]["patched"]["patches"] == ["0001-sketch.patch"]
    assert page["machine"]["accelerator"] == "tcg"


def test_a_document_keeps_every_value_of_a_measure() -> None:
    (row,) = document(examples()[1])["cases"]
    assert row["base"]["measures"]["pages_reused"] == {
        "unit": "pages",
        "better": "higher",
        "median": 958.0,
        "values": [958.0, 958.0],
    }


def test_a_run_says_the_whole_command_that_makes_it_again(tmp_path: Path) -> None:
    plan = Plan(
        tmp_path,
        patch="my patch.patch",
        compiler="gcc-11",
        cases=("gup",),
        machine=Machine(cpus=4),
        confirm=0,
        commands=("vm=stress-ng --vm 1",),
    )
    told = json.dumps(dataclasses.asdict(plan), default=str)
    (tmp_path / "plan.json").write_text(told)
    assert command_of(tmp_path) == (
        "twinboot run --source debian:linux-source-5.10 --patch 'my patch.patch' --case gup"
        " --command 'vm=stress-ng --vm 1' --repeats 2 --seed 1 --cc gcc-11 --confirm 0 --cpus 4"
    )
