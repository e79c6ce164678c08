"""``vigil backup`` and ``vigil restore``: a site as files, and a site made of them."""

from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.terminal import AsJson, Data, begin, out, out_json, say

if TYPE_CHECKING:
    from service.backup import Part

PARTS = ("spool", "results", "store")


def backup(
    target: Annotated[Path, typer.Argument(help="New folder, or a new file that ends in .tar.")],
    include: Annotated[
        list[str] | None,
        typer.Option(help="Images too: spool, results or store. May be repeated."),
    ] = None,
    keep: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="For a timer: put the time into the name, and keep so many of that name; older ones go.",
        ),
    ] = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Save rows, configuration and site secret of a running site, and images where asked for.

    The backup names patients and holds the site's secret: keep it as you keep the site.
    """
    from service import wiring
    from service.backup import save
    from service.backup.bundle import put_on_disk

    settings = begin(data=data)
    with closing(wiring.open_store(settings)) as store, put_on_disk("the backup"):
        saved = save(settings, store, target.absolute(), _parts(include or []), keep=keep)
    if as_json:
        out_json(asdict(saved))
        return
    out(f"{saved.path}: {saved.rows} rows, {saved.files} files, {saved.bytes} bytes, read back and whole")
    out(f"manifest {saved.sha256}")
    if saved.missing:
        say(
            f"{saved.missing} files that rows speak of were not there. Make the backup where the node runs,"
            " on its data folder; what is not there either has to be sent again."
        )
    for name in saved.expired:
        out(f"expired: {name}")
    for path in saved.elsewhere:
        say(f"not in it, save it apart: {path}")


def restore(
    source: Annotated[Path, typer.Argument(help="Folder or .tar of a backup.")],
    only_check: Annotated[bool, typer.Option("--check", help="Read every byte; restore nothing.")] = False,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Make a site of a backup, in an empty data folder and an empty database."""
    from service import backup
    from service.backup.bundle import put_on_disk
    from service.backup.restoring import check

    settings = begin(data=data)
    if only_check:
        manifest = check(source)
        told = {"intact": True, **manifest.model_dump(mode="json", exclude={"files", "rows", "sequences"})}
        if as_json:
            out_json(told)
        else:
            made_at = f"{manifest.made_at:%Y-%m-%d %H:%M}"
            out(f"intact: {len(manifest.files)} files of {made_at}, head {manifest.head}")
        return
    with put_on_disk("the data folder (VIGIL_DATA)"):
        restored = backup.restore(settings, source)
    if as_json:
        out_json(asdict(restored))
        return
    out(f"{restored.data}: {restored.rows} rows, {restored.files} files, as of {restored.made_at}")
    out(f"audit trail intact, head {restored.head}")
    if restored.unheld is not None:
        say(
            f"the backup kept the head {restored.unheld}, newer than its trail. Vigil made such backups of a"
            " working site once; if that is not why, the trail had been cut: tell the security officer."
        )
    for path in restored.elsewhere:
        say(f"put back by hand: {path}")


def _parts(names: list[str]) -> "frozenset[Part]":
    from service.backup import Part

    unknown = sorted(set(names) - set(PARTS))
    if unknown:
        raise typer.BadParameter(f"{unknown[0]}: spool, results or store", param_hint="--include")
    return frozenset(Part(name) for name in names)
