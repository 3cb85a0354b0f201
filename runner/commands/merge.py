# SPDX-License-Identifier: GPL-2.0-only
"""`merge`: the shards of one run as one run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from runner.boots import compare_saved
from runner.commands.deliver import Outputs, problems, publish
from runner.commands.options import (
    B4Option,
    HtmlOption,
    JsonOption,
    JunitOption,
    KnownOption,
    KtapOption,
    MailOption,
    MarkdownOption,
    guarded,
)
from runner.merge import merge as merge_parts


@guarded
def merge(
    folders: Annotated[list[Path], typer.Argument(help="The folders of the shards.")],
    out: Annotated[Path, typer.Option(help="Folder for the whole run; must be new.")],
    json: JsonOption = None,
    markdown: MarkdownOption = None,
    junit: JunitOption = None,
    ktap: KtapOption = None,
    mail: MailOption = None,
    html: HtmlOption = None,
    b4: B4Option = None,
    known: KnownOption = None,
) -> None:
    """Join the shards of a run, and judge it as a whole; a missing shard leaves it undecided."""
    wanted = Outputs(json, markdown, junit, ktap, mail, html, b4, problems(known))
    merge_parts(folders, out.absolute())
    publish(compare_saved(out), out.absolute(), wanted)
