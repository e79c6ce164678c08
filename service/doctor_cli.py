"""``vigil doctor``: is everything there, and what to do where it is not."""

import sys
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from service.errors import SettingsError
from service.terminal import EXIT_FAILED, AsJson, Data, begin, out, out_json


def doctor(
    data: Data = None,
    peers: Annotated[Path | None, typer.Option("--peers", help="YAML file of DICOM peers.")] = None,
    as_json: AsJson = False,
) -> None:
    """Look at database, disk, models, GPU, clock, certificates, peers, store, queue and audit trail.

    Each check is ok, warning, failed or not used, with what would mend it. Exit code 1 if one failed.
    """
    from service.doctor import Check, Outcome, examine
    from service.doctor.answers import failure

    found: list[Check] = []

    def tell(check: Check) -> None:
        found.append(check)
        if not as_json:
            out(f"{check.outcome:8s}  {check.part}: {check.about}: {check.told}")
            if check.remedy:
                out(f"{'':8s}  → {check.remedy}")

    try:
        settings = begin(data=data, peers=peers)
    except SettingsError as error:
        tell(failure("settings", "values", error, remedy="Correct the named setting; see docs/settings.md."))
    else:
        for check in examine(settings):
            tell(check)
    counted = Counter(check.outcome for check in found)
    is_ok = not counted[Outcome.FAILED]
    if as_json:
        out_json({"ok": is_ok, "checks": [asdict(check) for check in found]})
    else:
        out(", ".join(f"{counted[outcome]} {outcome}" for outcome in Outcome))
    sys.exit(0 if is_ok else EXIT_FAILED)
