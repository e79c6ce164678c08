"""``vigil models activate | shadow | compare | promote | rollback``: which model serves, which watches."""

from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Column, Table

from service.errors import TriageError
from service.terminal import AsJson, Data, begin, out, out_json, say

if TYPE_CHECKING:
    from service.changing import Changed
    from service.comparing import Comparison, Figure

Artefact = Annotated[Path, typer.Argument(help="Artefact folder, where every role can read it.")]


def activate_model(artefact: Artefact, data: Data = None) -> None:
    """Score with another model from now on; running workers change to it without a restart."""
    from service import changing, wiring

    settings = begin(data=data)
    with closing(wiring.open_store(settings)) as store:
        _tell(changing.put_in_service(settings, store, artefact), "in service")


def promote_model(data: Data = None) -> None:
    """Let the shadow serve from now on. The model before it is remembered: `vigil models rollback`."""
    from service import changing, wiring

    settings = begin(data=data)
    with closing(wiring.open_store(settings)) as store:
        _tell(changing.promote(settings, store), "in service, promoted from the shadow")


def roll_back_model(data: Data = None) -> None:
    """Let the model serve again that served before this one."""
    from service import changing, wiring

    settings = begin(data=data)
    with closing(wiring.open_store(settings)) as store:
        _tell(changing.roll_back(settings, store), "in service again")


def shadow_model(
    artefact: Annotated[
        Path | None, typer.Argument(help="Artefact folder, where every role can read it.")
    ] = None,
    none: Annotated[bool, typer.Option("--none", help="Let nothing watch any more.")] = False,
    catch_up: Annotated[
        int, typer.Option(min=0, help="Studies scored before, newest first, that it looks at as well.")
    ] = 0,
    data: Data = None,
) -> None:
    """Let a model only watch: it scores what was scored, after everything else, and sends nothing."""
    from service import changing, wiring

    if none == (artefact is not None):
        raise TriageError("Name one artefact, or say --none.")
    settings = begin(data=data)
    with closing(wiring.open_store(settings)) as store:
        if artefact is None:
            gone = changing.stop_watching(settings, store)
            out("nothing watches" if gone is None else f"{gone[:16]}: watches no more")
            return
        changed = changing.watch(settings, store, artefact, catch_up=catch_up)
    _tell(changed, "watches")
    if changed.queued:
        say(f"it catches up with {changed.queued} studies, while nothing else waits")


def compare_models(
    top: Annotated[int, typer.Option(min=0, help="Studies named that move most.")] = 20,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Print how far the shadow and the model in service agree on the same studies."""
    from service import wiring
    from service.comparing import compare
    from service.shadowed import shadow_of
    from service.store import shadows

    settings = begin(data=data)
    chosen, served = shadow_of(settings.data), wiring.model_identity(settings)
    if chosen is None:
        raise TriageError("No model watches. Name one by `vigil models shadow ARTEFACT`.")
    with closing(wiring.open_store(settings)) as store, store.transaction() as session:
        found = compare(shadows.pairs(session, served.sha256, chosen.sha256), most_moves=top)
        counts = shadows.count(session, chosen.sha256)
    if as_json:
        out_json({"served": served.sha256, "shadow": chosen.sha256, "rows": counts, **asdict(found)})
        return
    waits = ", ".join(f"{number} {state.value}" for state, number in counts.items())
    say(f"shadow {chosen.sha256[:16]} beside {served.name} {served.version}: {waits}")
    _print(found)


def _tell(changed: "Changed", what: str) -> None:
    out(f"{changed.name} {changed.version}, {changed.sha256[:16]}: {what}")
    say(f"percentiles rest on: {changed.calibration}")


def _print(found: "Comparison") -> None:
    console = Console()
    out(f"{found.studies} studies looked at by both, {found.scored} scored by both")
    out(f"Spearman {_figure(found.spearman)}, Kendall {_figure(found.kendall)}")
    sides = Table("p at most", "both", "in service only", "shadow only", "neither", "same side", "kappa")
    for line in found.sides:
        share = "-" if line.same.share is None else f"{100 * line.same.share:.0f} %"
        counts = (line.both, line.served_only, line.shadow_only, line.neither)
        sides.add_row(f"{line.level:g}", *(str(one) for one in counts), share, _figure(line.kappa))
    console.print(sides)
    for who, reasons in (("in service", found.only_served), ("shadow", found.only_shadow)):
        for reason, number in reasons.items():
            out(f"declined by the model {who} alone: {number} {reason}")
    for who, taken in (("in service", found.served_seconds), ("shadow", found.shadow_seconds)):
        if taken.median is not None:
            out(f"seconds a study, {who}: median {taken.median:.2f}, 95th percentile {taken.late:.2f}")
    moves = Table(
        Column("study", no_wrap=True),
        "rank in service",
        "rank of the shadow",
        "percentiles",
        title="What moves most",
    )
    for move in found.moves:
        percentiles = f"{move.served_percentile:.1f} to {move.shadow_percentile:.1f}"
        moves.add_row(move.key, f"{move.served_rank:g}", f"{move.shadow_rank:g}", percentiles)
    console.print(moves)


def _figure(figure: "Figure") -> str:
    if figure.value is None:
        return "-"
    if figure.low is None or figure.high is None:
        return f"{figure.value:.2f}"
    return f"{figure.value:.2f} ({figure.low:.2f} to {figure.high:.2f})"
