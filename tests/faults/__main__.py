"""``python -m tests.faults [--long] [--seed N] [--only NAME] [--json FILE]``: the table of faults."""

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import groupby
from pathlib import Path

from tests.end_to_end.peers import MISSING
from tests.faults.auditor import Auditor
from tests.faults.places import UnavailableError
from tests.faults.site import Site
from tests.faults.suite import CASES, Case, Outcome, run_case, table


def main() -> int:
    """Run the chosen faults; 0 only if none did any harm."""
    asked = _arguments()
    if MISSING:
        sys.exit(f"not installed: {', '.join(MISSING)}")
    chosen = [case for case in CASES if asked.only is None or asked.only in case.name]
    if not chosen:
        sys.exit(f"no fault has {asked.only!r} in its name")
    outcomes: list[Outcome] = []
    with tempfile.TemporaryDirectory(prefix="vigil-faults-", ignore_cleanup_errors=True) as folder:
        for number, (place, cases) in enumerate(groupby(chosen, key=lambda case: case.place)):
            try:
                with place(Path(folder) / f"site{number}") as running:
                    try:
                        outcomes += _run(list(cases), running, asked)
                    finally:
                        _keep(running.log, asked.keep_log)
            except UnavailableError as error:
                _say(f"skipped: {error}")
    for line in table(outcomes):
        sys.stdout.write(f"{line}\n")
    if asked.json is not None:
        asked.json.write_text(json.dumps(_document(asked.seed, outcomes), indent=1) + "\n")
    return 1 if any(outcome.findings for outcome in outcomes) else 0


def _keep(log: Path, where: Path | None) -> None:
    if where is not None:
        with where.open("ab") as kept:
            kept.write(log.read_bytes())


def _run(cases: Sequence[Case], site: Site, asked: argparse.Namespace) -> Iterator[Outcome]:
    auditor = Auditor(site)
    for case in cases:
        repetitions = asked.repetitions or (case.long if asked.long else case.short)
        if repetitions:
            outcome = run_case(case, site, auditor, seed=asked.seed, repetitions=repetitions)
            _say(f"{outcome.seconds:6.0f} s  {len(outcome.findings)} findings  {case.name}")
            yield outcome


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--long", action="store_true", help="every fault many times; hours")
    parser.add_argument("--seed", type=int, default=1, help="of all random choices")
    parser.add_argument("--only", metavar="NAME", help="faults whose name holds this")
    parser.add_argument("--repetitions", type=int, help="of each fault, in place of its own number")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the table as JSON too")
    parser.add_argument("--keep-log", type=Path, metavar="FILE", help="keep what the roles logged")
    return parser.parse_args()


def _document(seed: int, outcomes: Sequence[Outcome]) -> dict[str, object]:
    return {"seed": seed, "faults": [asdict(outcome) for outcome in outcomes]}


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
