"""Whether there is room, what is written survives, and nobody else may read it."""

import errno
import os
import secrets
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from dicom_node.durable import write_durably
from dicom_node.log.segments import backlog
from dicom_node.quota import read_used
from service.doctor.answers import AS_VIGIL, Check, failed, ok, unused, warning
from service.settings import Settings

MB = 1024 * 1024
LITTLE = 0.1  # share of a disk below which somebody should look
NEAR = 0.9  # share of the quota above which somebody should look
LOG_S = 120.0  # for what was received to become files of the spool; else it takes seconds
SLOW_S = 0.5  # to write and sync a small file: a modality waits for that


def examine(settings: Settings) -> Iterator[Check]:
    """The data folder, the spool, scratch, the quota and the log."""
    data = settings.data
    if not data.is_dir():
        yield failed(
            "disk",
            "data",
            "the data folder is not there",
            "Start Vigil once, which makes it, or correct VIGIL_DATA; on a mount, mount it first.",
        )
        return
    if not os.access(data, os.R_OK | os.X_OK):
        yield failed("disk", "data", "this user may not enter the data folder", AS_VIGIL)
        return
    yield _privacy(data)
    mark = settings.free_mark_mb * MB
    for about, folder, setting, least in (
        ("data", data, "VIGIL_DATA", mark),
        ("spool", settings.spool_folder, "VIGIL_DATA", mark),
        ("scratch", settings.scratch_folder, "VIGIL_SCRATCH", 0),
    ):
        if folder.exists():
            yield _room(about, folder, setting, least)
            yield _durability(about, folder, setting)
        else:
            yield unused("disk", about, "made at the first start")
    yield _quota(settings)
    yield _log(settings)


def _privacy(data: Path) -> Check:
    mode = stat.S_IMODE(data.stat().st_mode)
    if mode & stat.S_IRWXO:  # a volume of a cluster is its group's, and writable by it
        return warning(
            "disk",
            "privacy",
            f"others may enter the data folder, which holds images and names ({mode:04o})",
            "Run `chmod 0700` on the data folder.",
        )
    return ok("disk", "privacy", f"mode {mode:04o}")


def _room(about: str, folder: Path, setting: str, least: int) -> Check:
    disk = shutil.disk_usage(folder)
    told = f"{disk.free // MB} MB free, {disk.free / disk.total:.0%}"
    if disk.free < least:
        return failed(
            "disk",
            f"{about} room",
            f"{told}: below the mark, senders are answered 0xA700",
            f"Free room on the disk of {setting}, set VIGIL_KEEP_... ages, or lower VIGIL_FREE_MARK_MB.",
        )
    if disk.free < LITTLE * disk.total or disk.free < 2 * least:
        return warning(
            *("disk", f"{about} room", told), f"Free room on the disk of {setting} before it is full."
        )
    return ok("disk", f"{about} room", told)


def _durability(about: str, folder: Path, setting: str) -> Check:
    """Write, sync and remove a small file, as the node does before it answers success."""
    probe = folder / f".doctor-{secrets.token_hex(8)}"
    begun = time.monotonic()
    try:
        write_durably(probe, b"doctor")
    except OSError as error:
        remedy = (
            f"Free room, or inodes (`df --inodes`), on the disk of {setting}."
            if error.errno in {errno.ENOSPC, errno.EDQUOT}
            else f"Let the user that runs Vigil write to the folder of {setting}, on a disk that takes fsync."
        )
        told = f"a file cannot be written and synced: {error.strerror}"
        return failed("disk", f"{about} writing", told, remedy)
    finally:
        with suppress(OSError):  # where nothing could be written there is nothing to remove
            probe.unlink(missing_ok=True)
    took_s = time.monotonic() - begun
    told = f"written and synced in {took_s * 1000:.0f} ms"
    if took_s > SLOW_S:
        return warning(
            "disk",
            f"{about} writing",
            told,
            f"Put {setting} on a faster local disk: every instance waits for one such write.",
        )
    return ok("disk", f"{about} writing", told)


def _quota(settings: Settings) -> Check:
    if settings.spool_quota_mb is None:
        return unused("disk", "quota", "VIGIL_SPOOL_QUOTA_MB is unset")
    used = read_used(settings.spool_folder)
    if used is None:
        return unused("disk", "quota", "nobody has measured the spool yet")
    share = used / (settings.spool_quota_mb * MB)
    told = f"{used // MB} of {settings.spool_quota_mb} MB"
    if share >= 1:
        return failed(
            "disk",
            "quota",
            f"{told}: senders are answered 0xA700",
            "Raise VIGIL_SPOOL_QUOTA_MB, or set VIGIL_KEEP_... ages; see `vigil retention report`.",
        )
    if share >= NEAR:
        return warning("disk", "quota", told, "Raise VIGIL_SPOOL_QUOTA_MB or let more go before it is full.")
    return ok("disk", "quota", told)


def _log(settings: Settings) -> Check:
    found = backlog(settings.log_folder)
    if found.oldest_s > LOG_S:
        return failed(
            "disk",
            "log",
            f"received instances wait for {found.oldest_s / 60:.0f} min to become files of the spool",
            "Look into the node's log for `log not emptied`, free room, start it again: nothing is lost.",
        )
    if found.damaged:
        return failed(
            "disk",
            "log",
            f"{found.damaged} segments with damaged records were put by: an instance may be missing",
            "Look after the disk; have what was sent then sent again, and remove `damaged.*` from the log.",
        )
    return ok("disk", "log", "nothing waits")


def is_readable(path: Path) -> bool:
    """Whether this process may read a file."""
    return os.path.isfile(path) and os.access(path, os.R_OK)  # noqa: PTH113 - Path.is_file raises where a folder is closed
