"""``vigil peers``, ``vigil studies pull`` and ``pack``: who is there, what they hold, and what is here."""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from dicom_node.errors import DeliveryError, MalformedMessageError
from dicom_node.peer import Peer, Pull
from service import terminal
from service.settings import Settings
from service.terminal import EXIT_FAILED, AsJson, Data

peers_app = typer.Typer(help="Peers: who sends to us, and where results go.", no_args_is_help=True)

MOST_ACCESSIONS = 100_000  # lines of a file

Aet = Annotated[str | None, typer.Option(help="AE title of the node.")]
PeersFile = Annotated[Path | None, typer.Option("--peers", help="YAML file of DICOM peers.")]


@peers_app.command("list")
def list_peers(data: Data = None, peers: PeersFile = None, as_json: AsJson = False) -> None:
    """Print every peer with its profile."""
    from service import reception

    known = reception.open_peers(terminal.begin(data=data, peers=peers))
    if as_json:
        terminal.out_json({"peers": [peer.model_dump(mode="json", exclude_none=True) for peer in known.all]})
        return
    table = Table("name", "protocol", "at", "roles", "confirm", "results")
    for peer in known.all:
        at = peer.url or f"{peer.aet} {peer.host}{f':{peer.port}' if peer.port else ''}"
        results = "all" if peer.results is None else " ".join(sorted(peer.results))
        table.add_row(peer.name, peer.protocol, at, " ".join(sorted(peer.roles)), peer.confirm, results)
    Console().print(table)


@peers_app.command("test")
def probe_peer(
    name: str, data: Data = None, peers: PeersFile = None, aet: Aet = None, as_json: AsJson = False
) -> None:
    """Test a peer step by step; fail where it lacks what its profile needs."""
    from dicom_node.services.probe import probe
    from service import reception

    settings = terminal.begin(data=data, peers=peers, aet=aet)
    peer = reception.open_peers(settings).named(name)
    findings = []
    for finding in probe(peer, calling_aet=settings.aet):
        findings.append(finding)
        if not as_json:
            mark = "ok" if finding.is_ok else "FAILED" if finding.is_needed else "no"
            terminal.out(f"{finding.step:14s} {mark:7s} {finding.detail}".rstrip())
    is_ok = all(finding.is_ok or not finding.is_needed for finding in findings)
    if as_json:
        terminal.out_json({"peer": name, "ok": is_ok, "steps": [asdict(finding) for finding in findings]})
    sys.exit(0 if is_ok else EXIT_FAILED)


def pull(
    peer: Annotated[str, typer.Option(help="Name of the archive in the peers file.")],
    accession_file: Annotated[
        Path, typer.Option(exists=True, dir_okay=False, help="Accession numbers, one a line.")
    ],
    way: Annotated[Pull, typer.Option(help="C-GET into the spool, or C-MOVE to the node.")] = Pull.GET,
    data: Data = None,
    peers: PeersFile = None,
    aet: Aet = None,
    as_json: AsJson = False,
) -> None:
    """Fetch studies from an archive by accession number; they are then taken in like any other."""
    from service import reception

    settings = terminal.begin(data=data, peers=peers, aet=aet)
    archive = reception.open_peers(settings).named(peer)
    rows = []
    for number, accession in enumerate(_accessions(accession_file), start=1):
        # An accession number is an identity: rows are told by their place in the file.
        try:
            completed, failed = _pull(settings, archive, accession, way)
            row = {"line": number, "instances": completed, "failed": failed, "error": ""}
        except (DeliveryError, MalformedMessageError) as error:
            row = {"line": number, "instances": 0, "failed": 0, "error": str(error)}
        rows.append(row)
        if not as_json:
            terminal.out(
                f"{number:5d}  {row['instances']} instances, {row['failed']} failed  {row['error']}".rstrip()
            )
    if as_json:
        terminal.out_json({"studies": rows})
    sys.exit(0 if rows and all(row["instances"] and not row["failed"] for row in rows) else EXIT_FAILED)


def pack(
    key: str,
    out: Annotated[Path, typer.Option(help="Folder for the tar; made if it is missing.")],
    data: Data = None,
) -> None:
    """Write all received instances of a study as one tar, as they came. Nothing else need run."""
    from dicom_node.identity import STUDY_KEY
    from dicom_node.pack import write_pack
    from service import reception
    from service.errors import UnknownStudyError

    spool = reception.open_spool(terminal.begin(data=data))
    instances = spool.instances(key) if STUDY_KEY.fullmatch(key) else []
    if not instances:
        raise UnknownStudyError(
            "No received files of such a study are on this machine. List the keys with `vigil studies list`; "
            "files that left for the store are there, as packs/KEY/."
        )
    out.mkdir(parents=True, exist_ok=True)
    terminal.out(str(write_pack(instances, out / f"{key}.tar")))


def _pull(settings: Settings, archive: Peer, accession: str, way: Pull) -> tuple[int, int]:
    """Instances that came, and instances that did not."""
    from dicom_node.line import line_to
    from dicom_node.services.dicomweb import WebPeer
    from dicom_node.services.query import studies_of
    from service import reception
    from service.pull import fetch_study

    if archive.protocol == "dicomweb":
        studies = WebPeer.of(archive).studies_of(accession)
    else:
        studies = studies_of(line_to(archive, calling_aet=settings.aet), accession)
    completed = failed = 0
    for study in studies:
        pulled = fetch_study(
            archive,
            study,
            reception.open_spool(settings),
            way=way,
            aet=settings.aet,
            max_instance_bytes=settings.max_instance_mb * reception.MB,
        )
        completed += pulled.completed
        failed += pulled.failed
    return completed, failed


def _accessions(path: Path) -> list[str]:
    lines = (line.strip() for line in path.read_text(encoding="utf-8").splitlines()[:MOST_ACCESSIONS])
    return list(dict.fromkeys(line for line in lines if line))
