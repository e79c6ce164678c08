"""Rows of our schema out of one snapshot, and into a schema of the same revision."""

import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from graphlib import TopologicalSorter
from typing import IO, LiteralString

import psycopg
from psycopg import sql

from service.store.tables import SCHEMA

# A session that was ended since, an invitation that was used since: none may live again. The last is the
# migrations' own.
LEFT_OUT = frozenset({"invitation", "session", "sign_in", "schema_support"})
GZIP, FASTEST = 31, 1  # of zlib: with gzip's header; rows of text shrink to a tenth all the same
CHUNK = 1024 * 1024

Connection = psycopg.Connection[tuple[object, ...]]


@dataclass(frozen=True, slots=True)
class Table:
    """A table and its columns, in their order."""

    name: str
    columns: tuple[str, ...]

    @property
    def file(self) -> str:
        """Name of its file in a backup."""
        return f"database/{self.name}.copy.gz"


def tables(connection: Connection) -> list[Table]:
    """Tables of our schema, each behind those that it refers to."""
    columns: dict[str, list[str]] = {}
    for table, column in connection.execute(
        "SELECT c.relname, a.attname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid"
        " WHERE c.relnamespace = to_regnamespace(%s) AND c.relkind = 'r' AND a.attnum > 0"
        " AND NOT a.attisdropped AND a.attgenerated = '' ORDER BY c.relname, a.attnum",
        [SCHEMA],
    ):
        columns.setdefault(str(table), []).append(str(column))
    before: dict[str, set[str]] = {name: set() for name in columns if name not in LEFT_OUT}
    for table, other in connection.execute(
        "SELECT own.relname, other.relname FROM pg_constraint k"
        " JOIN pg_class own ON own.oid = k.conrelid JOIN pg_class other ON other.oid = k.confrelid"
        " WHERE k.contype = 'f' AND own.relnamespace = to_regnamespace(%s) AND own.oid <> other.oid",
        [SCHEMA],
    ):
        if str(table) in before:
            before[str(table)].add(str(other))
    return [Table(name, tuple(columns[name])) for name in TopologicalSorter(before).static_order()]


def copy_out(connection: Connection, table: Table) -> Iterator[bytes]:
    """Rows of a table as PostgreSQL's text format, compressed."""
    packer = zlib.compressobj(FASTEST, wbits=GZIP)
    with connection.cursor().copy(_statement("COPY {} ({}) TO STDOUT", table)) as copy:
        for data in copy:
            yield packer.compress(bytes(data))
    yield packer.flush()


def count(connection: Connection, table: Table) -> int:
    """Rows of a table."""
    found = connection.execute(
        sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(SCHEMA, table.name))
    ).fetchone()
    return int(str(found[0])) if found else 0


def copy_in(connection: Connection, table: Table, file: IO[bytes]) -> int:
    """Put rows into a table; return how many."""
    cursor = connection.cursor()
    with cursor.copy(_statement("COPY {} ({}) FROM STDIN", table)) as copy:
        for part in _unpacked(file):
            copy.write(part)
    return cursor.rowcount


def sequences(connection: Connection) -> dict[str, int]:
    """Newest number of every sequence that has given one."""
    found = connection.execute(
        "SELECT sequencename, last_value FROM pg_sequences WHERE schemaname = %s AND last_value IS NOT NULL",
        [SCHEMA],
    )
    return {str(name): int(str(value)) for name, value in found}


def set_sequences(connection: Connection, values: dict[str, int]) -> None:
    """Let sequences go on where they were."""
    for name, value in values.items():
        connection.execute(
            "SELECT setval((SELECT oid FROM pg_class WHERE relname = %s"
            " AND relnamespace = %s::regnamespace AND relkind = 'S')::regclass, %s)",
            [name, SCHEMA, value],
        )


def set_triggers(connection: Connection, names: Iterable[str], *, on: bool) -> None:
    """Switch our own triggers, which would tell the news of years again. Foreign keys stay checked."""
    words: LiteralString = (
        "ALTER TABLE {} ENABLE TRIGGER USER" if on else "ALTER TABLE {} DISABLE TRIGGER USER"
    )
    for name in names:
        connection.execute(sql.SQL(words).format(sql.Identifier(SCHEMA, name)))


def _statement(words: LiteralString, table: Table) -> sql.Composed:
    return sql.SQL(words).format(
        sql.Identifier(SCHEMA, table.name), sql.SQL(", ").join(map(sql.Identifier, table.columns))
    )


def _unpacked(file: IO[bytes]) -> Iterator[bytes]:
    """Content of a compressed file, a bounded part at a time."""
    unpacker = zlib.decompressobj(wbits=GZIP)
    while not unpacker.eof:
        part = unpacker.unconsumed_tail or file.read(CHUNK)
        if not part:
            raise EOFError("the file ends early")
        yield unpacker.decompress(part, CHUNK)
