# SPDX-License-Identifier: GPL-2.0-only
"""A real kernel tree that makes in a second: Makefile, Kconfig, mm/*.c, an ELF vmlinux.

It has the targets and files that the pipeline uses of a kernel, and nothing that boots.
"""

from __future__ import annotations

import difflib
import sys
from pathlib import Path

MAKEFILE = """\
# SPDX-License-Identifier: GPL-2.0
VERSION = 5
PATCHLEVEL = 10
SUBLEVEL = 7
EXTRAVERSION =
NAME = Tiny

PYTHON = @PYTHON@
CC = gcc
KCONFIG_CONFIG ?= .config
export KCONFIG_CONFIG
export srctree = .
KERNELVERSION = $(VERSION).$(PATCHLEVEL).$(SUBLEVEL)
OBJECTS = mm/memory.o mm/swapfile.o init/version.o $(EXTRA)
-include Makefile.extra

bzImage: arch/x86/boot/bzImage
arch/x86/boot/bzImage: vmlinux
\t@mkdir -p $(@D)
\tcp vmlinux $@

vmlinux: $(OBJECTS)
\t@echo '  LD      $@'
\t@$(CC) -nostdlib -static -Wl,--build-id -Wl,-e,start_kernel -o $@ $(OBJECTS)
\t@nm $@ > System.map
\t@mkdir -p include/config
\t@echo '$(KERNELVERSION)$(LOCALVERSION)' > include/config/kernel.release

%.o: %.c include/generated/autoconf.h
\t@echo '  CC      $@'
\t@$(CC) -O1 -fno-pic -ffreestanding -fno-asynchronous-unwind-tables \\
\t\t-DSTAMP='"$(KBUILD_BUILD_TIMESTAMP) $(KBUILD_BUILD_USER)"' \\
\t\t-Iinclude -include include/generated/autoconf.h -MMD -MF $*.d -c -o $@ $<
-include mm/memory.d mm/swapfile.d init/version.d

include/generated/autoconf.h: .config
\t@mkdir -p $(@D)
\t@sed -n 's/^CONFIG_\\([A-Z_0-9]*\\)=y/#define CONFIG_\\1 1/p' .config > $@.new
\t@cmp -s $@.new $@ && rm $@.new || mv $@.new $@

allnoconfig olddefconfig:
\t$(PYTHON) -m $@

kernelrelease:
\t@echo '$(KERNELVERSION)$(LOCALVERSION)'

mrproper:
\trm -rf include/config include/generated vmlinux System.map arch/x86/boot/bzImage .config
\tfind . -name '*.o' -delete -o -name '*.d' -type f -delete
.PHONY: bzImage allnoconfig olddefconfig kernelrelease mrproper
"""

KCONFIG = """\
mainmenu "Tiny"

config MODULES
\tbool "Loadable modules"
\toption modules

config GENERIC_BUG_RELATIVE_POINTERS
\tdef_bool y

config DEBUG_BUGVERBOSE
\tbool "Verbose BUG()"

config BLOCK
\tbool "Block devices"

config MMU
\tdef_bool y

config SWAP
\tbool "Swap"
\tdepends on MMU && BLOCK

config ZPOOL
\ttristate

config ZSWAP
\ttristate "Compressed swap"
\tdepends on SWAP
\tselect ZPOOL

config TRANSPARENT_HUGEPAGE
\tbool "Huge pages"
\tselect COMPACTION

config COMPACTION
\tbool "Compaction"

choice
\tprompt "Compression"

config KERNEL_GZIP
\tbool "gzip"

config KERNEL_LZ4
\tbool "lz4"

endchoice
"""

# Merges the way the kernel's own script does with -m and -O: later files win, no make.
MERGE = """\
#!/bin/sh
[ "$1" = -m ] && [ "$2" = -O ] || exit 1
out=$3/.config; shift 3
cat "$@" > "$out"
"""

MEMORY = """\
// SPDX-License-Identifier: GPL-2.0
#include <linux/bug.h>

int reuse_swap_page(int count);

int do_wp_page(int count)
{
	WARN_ON(count < 0);
	return reuse_swap_page(count);
}

void start_kernel(void)
{
	do_wp_page(1);
	for (;;)
		;
}
"""

SWAPFILE = """\
// SPDX-License-Identifier: GPL-2.0
#include <linux/bug.h>

int reuse_swap_page(int count)
{
#ifdef CONFIG_SWAP
	return count <= 1;
#else
	return 0;
#endif
}
"""

BUG = """\
#define WARN_ON(condition) do { \\
	if (condition) \\
		asm volatile("1: ud2\\n.pushsection __bug_table, \\"aw\\"\\n" \\
			".long 1b - .\\n.long 0\\n.word %c0\\n.word 0\\n.popsection" \\
			: : "i" (__LINE__)); \\
} while (0)
"""

VERSION = """\
const char linux_banner[] = "Linux tiny " STAMP;
"""

FILES = {
    "Makefile": MAKEFILE,
    "Kconfig": KCONFIG,
    "scripts/kconfig/merge_config.sh": MERGE,
    "mm/memory.c": MEMORY,
    "mm/swapfile.c": SWAPFILE,
    "init/version.c": VERSION,
    "include/linux/bug.h": BUG,
    "Documentation/notes.txt": "Nothing is compiled from here.\n",
    "fs/link.c": "/* the file behind a link */\n",
}

BASE = """\
# The fragment that every configuration of the tiny tree starts from.
CONFIG_DEBUG_BUGVERBOSE=y
CONFIG_KERNEL_LZ4=y
"""

SWAP = "CONFIG_BLOCK=y\nCONFIG_SWAP=y\n"


def write(top: Path) -> Path:
    """Write the tree to `top`; returns it."""
    for name, text in FILES.items():
        path = top / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.replace("@PYTHON@", sys.executable))
    (top / "scripts/kconfig/merge_config.sh").chmod(0o755)
    (top / "fs/alias").symlink_to("../mm")
    return top


def write_fragments(top: Path) -> Path:
    """A folder of kconfig fragments that fit the tiny tree."""
    top.mkdir(parents=True, exist_ok=True)
    (top / "base.config").write_text(BASE)
    (top / "swap.config").write_text(SWAP)
    return top


def patch_of(name: str, old: str, new: str) -> str:
    """A diff in git's form that turns `old` into `new` in the file `name`."""
    lines = difflib.unified_diff(
        old.splitlines(keepends=True), new.splitlines(keepends=True), f"a/{name}", f"b/{name}"
    )
    return f"diff --git a/{name} b/{name}\n{''.join(lines)}"
