# SPDX-License-Identifier: GPL-2.0-only
"""A bundle: what is in it, that nothing in it names the host, and what its repro.sh says."""

from __future__ import annotations

import io
import os
import socket
import subprocess
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from runner import bundle, cpio
from runner.bundle import Member, Parts, packed, refuse_dependent
from runner.errors import InfraError, UserError
from runner.evidence import Evidence
from runner.experiment import ROOT, Plan
from runner.recall import Former
from runner.tests.arms import FAIL, REUSE, TWINS, compared, run
from runner.tests.test_recall import kernel_at
from runner.transcript import BootRecord, CaseLog, Transcript

PASSED = """\
twinboot: begin cow/wr_hit 1
KTAP version 1
1..2
# proof: swapped_out ok 960 of 960 pages swapped
# measure: pages_reused 960 pages
# measure: copies 0 pages
# measure: faults 7 faults
ok 1 data_intact
ok 2 no_leak
twinboot: end cow/wr_hit 1 exit=0 taint=0
"""
FAILED = PASSED.replace("ok 2 no_leak", "not ok 2 no_leak 8 of 8 tries").replace("exit=0", "exit=1")


@pytest.fixture
def parts(tmp_path: Path) -> Parts:
    """A run in which the patch breaks no_leak; its console names the folder of the run."""
    root = tmp_path / "root"
    for name in ("bin/busybox", "twinboot/bin/cow", "twinboot/bin/swap-probe", "etc/passwd"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())
    for name in ("etc/group", "twinboot/guest/run-case", "twinboot/guest/swap-up"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())
    folder = tmp_path / "runs/mine"
    log = CaseLog("cow/wr_hit", "nullblk", 1, PASSED, 0, "exit", 1.0)
    said = f"Linux\nroot={folder}/trials on {socket.gethostname()}\n"
    scripts = tuple(
        Transcript(BootRecord(arm, "nullblk", 0, 0, 1, ("cow/wr_hit",)), (log,), said, "poweroff")
        for arm in ("base", "patched")
    )
    compare = compared([run()], [run(no_leak=FAIL)])
    former = Former(folder, Plan(folder), Evidence(TWINS, (REUSE,), scripts), compare)
    (row,) = [row for row in compare.rows if row.case == REUSE]
    kernels = {"base": kernel_at(tmp_path / "a"), "patched": kernel_at(tmp_path / "b")}
    return Parts(former, row, kernels, (), root)  # type: ignore[arg-type]


def members(parts: Parts) -> dict[str, Member]:
    words = bundle.private_words(parts.former, Path("/somebodys/cache"))
    return bundle.clean_members(parts, words)


def test_a_bundle_has_all_that_is_needed_and_is_the_same_every_time(parts: Parts) -> None:
    raw = packed("top", members(parts))
    assert raw == packed("top", members(parts))
    with tarfile.open(fileobj=io.BytesIO(raw)) as tar:
        infos = tar.getmembers()
    assert {each.name for each in infos} >= {
        *("top/README", "top/settings", "top/repro.sh", "top/initramfs.cpio"),
        *(f"top/{arm}/{name}" for arm in ("base", "patched") for name in ("bzImage", "config")),
        *("top/base/console.log", "top/patched/console.log", "top/source/cow.c"),
    }
    assert {(each.uid, each.gid, each.uname, each.mtime) for each in infos} == {(0, 0, "", 0)}
    assert [each.name for each in infos if each.mode == 0o755] == ["top/repro.sh"]


def test_nothing_in_a_bundle_names_the_host(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/zaphod")
    monkeypatch.setattr(socket, "gethostname", lambda: "heartofgold")
    kernel = parts.kernels["base"]
    kernel.config.write_text("CONFIG_X=y\n# built on heartofgold in /home/zaphod/linux by zaphod\n")
    whole = b"".join(each.content for each in members(parts).values())
    for word in ("heartofgold", "zaphod", str(ROOT), str(parts.former.folder)):
        assert word.encode() not in whole
    assert b"# built on HOST in HOME/linux by USER" in whole


def test_an_image_that_names_the_host_is_not_given_away(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "heartofgold")
    parts.kernels["patched"].image.write_bytes(b"\0(me@heartofgold) #1\0")
    with pytest.raises(InfraError, match="patched/bzImage of the bundle would name this host"):
        members(parts)


@pytest.mark.parametrize("place", ["home", "login"])
def test_an_image_that_names_the_user_is_not_given_away(
    place: str, parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    if place == "home":
        monkeypatch.setenv("HOME", "/home/zaphod")
    else:
        monkeypatch.setattr(bundle, "_login", lambda: "zaphod")
    (parts.root / "twinboot/bin/cow").write_bytes(b"\0zaphods zaphod_2 x-zaphod\0")
    assert members(parts)
    (parts.root / "twinboot/bin/cow").write_bytes(b"\0made by zaphod\0")
    with pytest.raises(InfraError, match=r"initramfs.cpio .* names? this host or user: .* zaphod"):
        members(parts)


@pytest.mark.parametrize("user", ["root", "bob", "ubuntu", "mark"])
def test_a_name_that_names_nobody_is_not_looked_for(
    user: str, parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", f"/home/{user}")
    monkeypatch.setattr(bundle, "_login", lambda: user)
    (parts.root / "bin/busybox").write_bytes(b"\0mark\0")
    (parts.root / "twinboot/bin/cow").write_bytes(f"\0{user}\0".encode())
    assert members(parts)


def test_the_readme_says_what_was_seen_and_what_it_means(parts: Parts) -> None:
    said = " ".join(bundle.readme(parts).split())
    assert "REGRESSED: the parent's secret reaches the child: none of 1 run on base" in said
    assert "base: PASS" in said
    assert "patched: FAIL (made up)" in said
    assert "sh repro.sh" in said


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"program": ("python3", "/twinboot/python/x.py")}, "is a Python case"),
        ({"foreign": True}, "is a foreign program"),
        ({"program": ("/twinboot/bin/../../etc/passwd",)}, "no program below"),
        ({"id": "../../escape"}, "no program below"),
    ],
)
def test_what_cannot_be_carried_is_refused_with_a_sentence(
    changed: dict[str, object], words: str, parts: Parts
) -> None:
    case = replace(parts.row.case, **changed)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=words):
        refuse_dependent(replace(parts.row, case=case))


def test_where_a_bundle_cannot_be_written_is_said_before_a_kernel_is_built(
    parts: Parts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runner.recall.programs", lambda *_: pytest.fail("it was built"))
    for path, why in ((tmp_path, "Is a directory"), (Path("-"), "a bundle is no text")):
        with pytest.raises(UserError, match=why):
            bundle.bundle(parts.former, parts.row, path, print)


def test_an_initramfs_is_read_by_cpio(tmp_path: Path) -> None:
    entries = (
        cpio.file("a/b/script", b"#!/bin/sh\n", executable=True),
        cpio.link("a/link", "b/script"),
        cpio.file("plain", b"12345"),
    )
    raw = cpio.archive(entries)
    done = subprocess.run(["cpio", "-id", "--quiet"], input=raw, cwd=tmp_path, check=False)
    assert done.returncode == 0
    assert (tmp_path / "a/link").read_text() == "#!/bin/sh\n"
    assert os.access(tmp_path / "a/b/script", os.X_OK)
    assert (tmp_path / "plain").read_bytes() == b"12345"
    assert len(cpio.archive([cpio.console()])) % 4 == 0


FAKE_QEMU = """\
#!/bin/sh
for word; do
	case $word in
	*,path=*) results=${word##*path=} ;;
	file:*) console=${word#file:} ;;
	esac
done
arm=$(basename "$(dirname "$results")")
cat "$FAKE/$arm.results" >"$results"
cat "$FAKE/$arm.console" >"$console" 2>/dev/null
[ ! -e "$FAKE/$arm.hangs" ] || exec sleep 60
"""


@pytest.mark.parametrize(
    ("patched", "console", "code", "words"),
    [
        (PASSED, "", 0, "not worse with the patch"),
        (FAILED, "", 1, "patched: FAIL no_leak"),
        (PASSED.replace("not ok", "ok"), "WARNING: CPU: 0 at mm/memory.c", 1, "NEW_SPLAT"),
        (PASSED.replace("reused 960", "reused 100"), "", 1, "WORSENED: pages_reused"),
        (PASSED.replace("reused 960", "reused 959"), "", 0, "pages_reused: 960 pages on base"),
        (
            PASSED.replace("# proof: swapped_out ok", "# proof: swapped_out missing"),
            "",
            3,
            "swapped",
        ),
        (PASSED.replace("ok 1 data_intact\n", ""), "", 3, "not shown: data_intact"),
        ("twinboot: begin cow/wr_hit 1\n", "Kernel panic - not syncing: x", 1, "patched: CRASH"),
        ("", "", 3, "did not come to its end"),
        (PASSED.replace("ok 2 no_leak", "ok 2 no_leak # SKIP no vmsplice"), "", 1, "patched: SKIP"),
        (PASSED.replace("exit=0", "exit=139"), "", 1, "FAIL exit code 139"),
    ],
)
def test_repro_sh_says_what_twinboot_would(  # noqa: PLR0913, PLR0917
    patched: str, console: str, code: int, words: str, parts: Parts, tmp_path: Path
) -> None:
    done = reproduce(parts, tmp_path, patched, console)
    assert words in done.stdout
    assert done.returncode == code, done.stdout + done.stderr
    assert done.stderr == ""


def test_repro_sh_ends_a_guest_that_hangs(parts: Parts, tmp_path: Path) -> None:
    (tmp_path / "patched.hangs").touch()
    case = replace(parts.row.case, deadline=-149.0)
    parts = replace(parts, row=replace(parts.row, case=case))
    done = reproduce(parts, tmp_path, "twinboot: begin cow/wr_hit 1\n", "")
    assert "patched: HANG" in done.stdout
    assert done.returncode == 1


def test_repro_sh_says_when_there_is_no_qemu(parts: Parts, tmp_path: Path) -> None:
    done = reproduce(parts, tmp_path, PASSED, "", QEMU="no-such-qemu")
    assert done.returncode == 2
    assert "there is no no-such-qemu" in done.stderr


def reproduce(
    parts: Parts, tmp_path: Path, patched: str, console: str, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Unpack a bundle into a bare folder and run it in an empty environment."""
    bare = tmp_path / "bare folder"
    bare.mkdir()
    raw = packed("top", members(parts))
    subprocess.run(["tar", "xzf", "-"], input=raw, cwd=bare, check=True)
    qemu = tmp_path / "qemu"
    qemu.write_text(FAKE_QEMU)
    qemu.chmod(0o755)
    for name, text in (
        *(("base.results", PASSED), ("base.console", "")),
        *(("patched.results", patched), ("patched.console", console)),
    ):
        (tmp_path / name).write_text(text)
    given = {"PATH": "/usr/bin:/bin", "QEMU": str(qemu), "FAKE": str(tmp_path), **variables}
    argv = ["sh", str(bare / "top/repro.sh")]
    return subprocess.run(
        argv, env=given, cwd="/", capture_output=True, text=True, timeout=60, check=False
    )
