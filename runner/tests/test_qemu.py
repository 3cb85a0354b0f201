# SPDX-License-Identifier: GPL-2.0-only
"""The guest's command line, without starting anything."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from runner import host
from runner.host import How
from runner.qemu import BootFiles, Machine, guest_argv

FILES = BootFiles(Path("/k/bzImage"), Path("/root,fs"), Path("/t/keys"), Path("/t/a,b/results"))


TCG = Machine()


def argv(machine: Machine = TCG, files: BootFiles = FILES) -> tuple[str, ...]:
    return guest_argv(machine, files, 40022)


def test_the_guest_listens_on_loopback_only_and_has_no_way_out() -> None:
    (netdev,) = [word for word in argv() if word.startswith("user,")]
    assert netdev == "user,id=twinboot,restrict=on,hostfwd=tcp:127.0.0.1:40022-:22"


def test_no_host_folder_is_writable_from_the_guest() -> None:
    assert not {"--rw", "--rwdir", "--overlay-rwdir"} & set(argv())


def test_a_comma_in_a_path_does_not_split_a_qemu_option() -> None:
    assert "file,id=twinboot-results,path=/t/a,,b/results" in argv()


def test_virtme_run_takes_a_folder_of_any_name(tmp_path: Path) -> None:
    """Of --rodir it takes letters, digits and few signs: no comma, no = and no @ as of Jenkins."""
    boot = tmp_path / "linux=6.12, é@2:(x)"
    (boot / "keys").mkdir(parents=True)
    for name in ("bzImage", "root.img", "results.log"):
        (boot / name).write_bytes(bytes(4096))
    files = BootFiles(boot / "bzImage", boot / "root.img", boot / "keys", boot / "results.log")
    words = argv(files=files)
    split = words.index("--qemu-opts")
    words = (*words[:split], "--dry-run", "--show-command", *words[split:])
    program = Path(sys.executable).with_name(words[0])
    said = host.run((program, *words[1:]), How(cwd=boot)).stdout
    assert "path=keys,security_model=none,readonly=on" in said


def test_kvm_is_switched_off_unless_it_was_chosen() -> None:
    assert "--disable-kvm" in argv()
    assert "--disable-kvm" not in argv(Machine("kvm"))


def kernel_line(machine: Machine = TCG) -> list[str]:
    """What QEMU hands to the kernel: of several -append it takes the last."""
    words = argv(machine)
    (place,) = [index for index, word in enumerate(words) if word == "-append"]
    assert place > words.index("--qemu-opts")
    return words[place + 1].split()


def test_a_panic_ends_qemu() -> None:
    assert {"panic=-1", "oops=panic"} <= set(kernel_line())


def test_the_first_process_is_ours_and_the_root_is_read_only() -> None:
    assert kernel_line()[-1] == "init=/twinboot/bin/init"
    assert {"root=/dev/vda", "ro"} <= set(kernel_line())


def test_the_swap_disk_is_attached_only_where_it_is_asked_for() -> None:
    disk = replace(FILES, swap_disk=Path("/t/swap.img"))
    assert not any("virtio-blk" in word for word in argv())
    assert any("serial=twinboot-swap" in word for word in argv(files=disk))


def test_the_same_machine_gives_the_same_command_line() -> None:
    assert argv() == argv()
