"""Vigil's receiver and sender against Orthanc and dcmtk, paired and interleaved.

Every cell starts every program afresh with an empty store, in an order that changes with the round; what
counts is the median of the rounds' ratios. Asserted in every cell: all statuses are success, and what Vigil
and dcmtk stored is what was sent, bit for bit.

``python -m tests.benchmarks.ingest [--rounds 5] [--cases mr1,ct8,tiny1,tiny8,cr1,indexed] [--json FILE]``;
with ``--sender`` the sending side, with ``--syncs`` synchronous writes counted, with ``--kill`` a kill -9.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from pydicom.uid import ExplicitVRLittleEndian

from dicom_node.caller import Caller
from dicom_node.elements import read_file_meta, text_of
from dicom_node.identity import instance_file_name, load_or_make_secret
from dicom_node.keys import MEDIA_SOP_INSTANCE_UID
from dicom_node.line import Line
from dicom_node.log.keeper import Keeper
from dicom_node.log.segments import Segments
from dicom_node.scu import send_files
from dicom_node.spool import Spool
from tests.benchmarks.receivers import AET, Running, running
from tests.benchmarks.studies import SETS, instance, send_studies, write_study

# Set, associations, floor and goal as ratios to Orthanc. "indexed": the log's record is the index entry.
CASES = {
    "mr1": ("mr", 1, 3.0, 6.0),
    "ct8": ("ct", 8, 3.0, 5.0),
    "tiny1": ("tiny", 1, 3.0, 5.0),
    "tiny8": ("tiny", 8, 4.0, 7.5),
    "cr1": ("cr", 1, 2.5, 4.0),
    "indexed": ("mr", 8, 1.8, 3.5),
}
BASE = "orthanc"


@dataclass(frozen=True)
class Cell:
    """One receiver in one round of one case."""

    receiver: str
    rate: float
    p50_ms: float
    p95_ms: float
    cpu_ms: float
    peak_mb: float
    error: str | None


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cases", default=",".join(CASES))
    parser.add_argument("--receivers", default="orthanc,dcmtk,vigil")
    parser.add_argument("--place", type=Path, help="folder of the stores; unset: the temporary one")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--sender", action="store_true")
    parser.add_argument("--syncs", action="store_true")
    parser.add_argument("--kill", action="store_true")
    given = parser.parse_args()
    print(f"load {os.getloadavg()[0]:.1f}, {os.cpu_count()} processors, {given.rounds} rounds")
    if given.sender:
        compare_senders(given.rounds, given.place)
    elif given.syncs:
        count_syncs(given.place)
    elif given.kill:
        kill_in_a_burst(given.place)
    else:
        cells = compare(given.cases.split(","), given.receivers.split(","), given.rounds, given.place)
        if given.json:
            told = {
                case: [[asdict(cell) for cell in cells_of] for cells_of in rounds]
                for case, rounds in cells.items()
            }
            given.json.write_text(json.dumps(told, indent=1), encoding="utf-8")


def compare(
    cases: list[str], receivers: list[str], rounds: int, place: Path | None
) -> dict[str, list[list[Cell]]]:
    """Measure every receiver in every case, and print the table."""
    found: dict[str, list[list[Cell]]] = {case: [] for case in cases}
    for number in range(rounds):
        turn = number % len(receivers)
        for case in cases:
            order = receivers[turn:] + receivers[:turn]
            found[case].append([measure(name, case, place) for name in order])
            for cell in found[case][-1]:
                print(f"round {number + 1} {case:8} {cell.receiver:12} {cell.rate:8.1f}", file=sys.stderr)
    print(f"{'case':8} {'receiver':12} {'rate':>8} {'ratio':>6} {'floor/goal':>10} "
          f"{'p50 ms':>7} {'p95 ms':>7} {'cpu ms':>7} {'peak MB':>8}")  # fmt: skip
    for case in cases:
        for name in receivers:
            print_row(case, name, found[case])
    print(f"load {os.getloadavg()[0]:.1f}")
    return found


def print_row(case: str, name: str, rounds: list[list[Cell]]) -> None:
    """Print medians of one receiver in one case."""
    mine = [next(cell for cell in cells if cell.receiver == name) for cells in rounds]
    base = [next((cell for cell in cells if cell.receiver == BASE), None) for cells in rounds]
    ratios = [cell.rate / other.rate for cell, other in zip(mine, base, strict=True) if other]
    floor, goal = CASES[case][2:]
    wanted = f"{floor:g}/{goal:g}" if name.startswith("vigil") else ""
    ratio = f"{statistics.median(ratios):6.2f}" if ratios else " " * 6
    middle = {
        key: statistics.median(getattr(cell, key) for cell in mine)
        for key in ("rate", "p50_ms", "p95_ms", "cpu_ms", "peak_mb")
    }
    errors = " ".join({cell.error for cell in mine if cell.error})
    print(f"{case:8} {name:12} {middle['rate']:8.1f} {ratio} {wanted:>10} {middle['p50_ms']:7.2f} "
          f"{middle['p95_ms']:7.2f} {middle['cpu_ms']:7.3f} {middle['peak_mb']:8.0f} {errors}")  # fmt: skip


def measure(name: str, case: str, place: Path | None) -> Cell:
    """Send one burst to one fresh receiver and look at what it kept."""
    made, associations, *_ = CASES[case]
    os.sync()  # what the one before left to write is not charged to this one
    with running(name, place) as receiver:
        cpu = receiver.cpu_s()
        sent = send_studies(_entity(receiver), made, associations)
        cpu = receiver.cpu_s() - cpu
        time.sleep(0.2)  # a last look at the memory
        receiver.stop()
        error = next((one.error for one in sent if one.error), None)
        if error is None and name != BASE:
            error = wrong_bytes(receiver, name, made, associations)
    count = SETS[made][3] * associations
    answered = sorted(took for one in sent for took in one.answered_ms) or [float("nan")]
    wall = max(one.ended for one in sent) - min(one.begun for one in sent)
    return Cell(
        receiver=name,
        rate=count / wall,
        p50_ms=answered[len(answered) // 2],
        p95_ms=answered[int(len(answered) * 0.95)],
        cpu_ms=cpu / count * 1e3,
        peak_mb=receiver.peak_mb,
        error=error,
    )


def wrong_bytes(receiver: Running, name: str, made: str, associations: int) -> str | None:
    """Say what is wrong with what was kept, if anything is."""
    kept = stored(receiver, is_vigil=name.startswith("vigil"))
    for study in range(associations):
        for number in range(SETS[made][3]):
            sop, data = instance(made, study, number)
            path = kept.get(instance_file_name(sop))
            if path is None:
                return "an instance is missing"
            if not path.read_bytes().endswith(data):
                return "an instance differs"
    return None


def stored(receiver: Running, *, is_vigil: bool) -> dict[str, Path]:
    """Files of a receiver by the name Vigil's spool gives them."""
    if is_vigil:
        return {path.name: path for path in (receiver.work / "store" / "spool").rglob("*.dcm")}
    found = {}
    for path in (receiver.work / "store").iterdir():
        with path.open("rb") as file:
            found[instance_file_name(text_of(read_file_meta(file), MEDIA_SOP_INSTANCE_UID))] = path
    return found


def compare_senders(rounds: int, place: Path | None) -> None:
    """Our long-lived sender against dcmtk's, to Orthanc and to dcmtk's receiver."""
    with tempfile.TemporaryDirectory(dir=place) as folder:
        paths = write_study(Path(folder) / "mr", "mr")
        send_with_ours = {"open": _send_open, "files": _send_files}
        for name, floor in (("orthanc", 1.0), ("dcmtk", 0.9)):
            took: dict[str, list[float]] = {"storescu": [], **{way: [] for way in send_with_ours}}
            for _ in range(rounds):
                for way, times in took.items():
                    os.sync()
                    with running(name, place) as receiver:
                        begun = time.perf_counter()
                        if way == "storescu":
                            _send_dcmtk(receiver, Path(folder) / "mr")
                            times.append(time.perf_counter() - begun)
                        else:
                            times.append(send_with_ours[way](receiver, paths))
            for way in send_with_ours:
                ratio = statistics.median(
                    theirs / ours for theirs, ours in zip(took["storescu"], took[way], strict=True)
                )
                print(f"to {name:8} {way:6} {len(paths) / statistics.median(took[way]):8.1f}/s  "
                      f"{ratio:5.2f} of storescu (floor {floor})")  # fmt: skip


def _send_dcmtk(receiver: Running, folder: Path) -> None:
    command = ["storescu", "-xe", "-aec", AET, "+sd", "127.0.0.1", str(receiver.port), str(folder)]
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, "TCP_NODELAY": "1"})


def _send_files(receiver: Running, paths: list[Path]) -> float:
    """Seconds of `send_files`: examined, negotiated, sent, released."""
    begun = time.perf_counter()
    receipts = list(
        send_files(paths, host="127.0.0.1", port=receiver.port, calling_aet="BENCHSCU", called_aet=AET)
    )
    took = time.perf_counter() - begun
    if not all(receipt.is_stored for receipt in receipts):
        raise SystemExit("not every instance was stored")
    return took


def _send_open(receiver: Running, paths: list[Path]) -> float:
    """Seconds on an association that is open already."""
    sop_class = SETS["mr"][0]
    with Caller.call(_entity(receiver), {(sop_class, str(ExplicitVRLittleEndian))}) as caller:
        (context_id,) = caller.accepted.values()
        begun = time.perf_counter()
        for path in paths:
            with path.open("rb") as file:
                meta = read_file_meta(file)
                start = file.tell()
            sop = text_of(meta, MEDIA_SOP_INSTANCE_UID)
            if caller.store_file(path, start, context_id=context_id, sop_class=sop_class, sop_instance=sop):
                raise SystemExit("an instance was not stored")
        return time.perf_counter() - begun


def count_syncs(place: Path | None) -> None:
    """Count the calls that make an instance durable before its answer."""
    with tempfile.TemporaryDirectory(dir=place) as folder:
        for name in ("orthanc", "dcmtk", "vigil", "vigil-files"):
            lines = Path(folder) / name
            with running(name, place, traced=lines) as receiver:
                begun = len(lines.read_text(encoding="utf-8", errors="replace").splitlines())
                send_studies(_entity(receiver), "mr", 1)
                calls = lines.read_text(encoding="utf-8", errors="replace").splitlines()[begun:]
            synced = sum("sync(" in call for call in calls)
            written = sum("pwrite64(" in call for call in calls) if name == "vigil" else 0
            opened = sum("O_DSYNC" in call for call in calls)
            print(f"{name:12} {SETS['mr'][3]} instances: {synced} fsync or fdatasync, "
                  f"{written} writes to {opened} files opened O_DSYNC")  # fmt: skip


def kill_in_a_burst(place: Path | None) -> None:
    """Kill every process while instances come in; all that were confirmed must be there afterwards."""
    with tempfile.TemporaryDirectory(dir=place) as folder:
        paths = write_study(Path(folder) / "ct", "ct")
        confirmed: list[Path] = []
        with running("vigil", place) as receiver:
            for receipt in send_files(
                paths, host="127.0.0.1", port=receiver.port, calling_aet="BENCHSCU", called_aet=AET
            ):
                if receipt.is_stored:
                    confirmed.append(receipt.path)
                if len(confirmed) == len(paths) // 2:
                    receiver.kill()
            store = receiver.work / "store"
            spool = Spool(store / "spool", load_or_make_secret(store / "site.key"), free_mark_bytes=1)
            Keeper(spool, Segments(store / "log", count=1)).recover()
            kept = stored(receiver, is_vigil=True)
            lost = 0
            for path in confirmed:
                number = int(path.stem)
                sop, data = instance("ct", 0, number)
                found = kept.get(instance_file_name(sop))
                lost += found is None or not found.read_bytes().endswith(data)
        print(f"kill -9: {len(confirmed)} of {len(paths)} confirmed, {len(kept)} kept, {lost} lost")
        if lost:
            raise SystemExit("an instance that was answered with success is lost")


def _entity(receiver: Running) -> Line:
    return Line(host="127.0.0.1", port=receiver.port, calling_aet="BENCHSCU", called_aet=AET)


if __name__ == "__main__":
    main()
