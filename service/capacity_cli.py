"""``vigil capacity``: what a load needs, with the inputs of the answer beside it."""

import json
import math
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Column, Table

from service.errors import SettingsError
from service.terminal import AsJson, out_json

if TYPE_CHECKING:
    from service.capacity import Costs


def capacity(
    studies_hour: Annotated[
        list[float] | None, typer.Option(min=0.1, help="Load of the busiest hour; several may be given.")
    ] = None,
    wait_s: Annotated[float, typer.Option(min=1, help="Longest wait of 95 of 100 studies.")] = 60.0,
    costs: Annotated[
        Path | None, typer.Option(help="JSON file of measured costs, over the built-in ones.")
    ] = None,
    device_samples_s: Annotated[
        float | None, typer.Option(min=0.1, help="Slices a second of one of your devices.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Print how many nodes, workers, devices, GB and disk operations a load needs."""
    from service.capacity import LOADS, SOURCES, Load, Need, plan

    known = _costs(costs, device_samples_s)
    for name, value in (("--wait-s", wait_s), *(("--studies-hour", rate) for rate in studies_hour or ())):
        _require_countable(name, value)
    loads = [Load(name=f"{rate:g} studies an hour", studies_hour=rate) for rate in studies_hour or ()]
    needs = [(load, plan(load, known, wait_s=wait_s)) for load in loads or LOADS]
    if as_json:
        out_json(
            {
                "loads": [{"load": asdict(load), "need": asdict(need)} for load, need in needs],
                "costs": asdict(known),
                "sources": SOURCES,
                "wait_s": wait_s,
            }
        )
        return
    console = Console()
    table = Table(Column("", no_wrap=True), *(load.name for load, _ in needs))
    for field in fields(Need):
        table.add_row(field.name, *(_told(getattr(need, field.name)) for _, need in needs))
    console.print(table)
    inputs = Table("input", "value", "from")
    for name, value in asdict(known).items():
        inputs.add_row(name, f"{value:g}", SOURCES[name])
    console.print(inputs)


def _told(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:,.1f}"


def _costs(file: Path | None, device_samples_s: float | None) -> "Costs":
    """Return the built-in costs with what was measured elsewhere over them.

    Raises
    ------
    SettingsError
        If the file is none of costs, or one of them is no number to count with.
    """
    from service.capacity import Costs

    costs = Costs()
    if file is not None:
        try:
            given = json.loads(file.read_text(encoding="utf-8"))
            costs = replace(costs, **{str(name): float(value) for name, value in given.items()})
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise SettingsError(
                f"{file.name} is no file of costs: `python -m tests.benchmarks.capacity --json` makes one."
            ) from error
    costs = costs if device_samples_s is None else replace(costs, device_samples_s=device_samples_s)
    for name, value in asdict(costs).items():
        _require_countable(name, value)
    return costs


def _require_countable(name: str, value: float) -> None:
    """Refuse what nothing can be counted with: a queue of such studies never ends."""
    if not (math.isfinite(value) and value > 0):
        raise SettingsError(f"{name} is {value:g}. Give a finite number above zero.")
