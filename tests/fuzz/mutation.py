"""Ways to damage a recorded conversation. Every one is a function of its source of chance alone."""

import struct
from collections.abc import Callable, Sequence
from random import Random

HEADER = struct.Struct(">BBI")  # type, reserved, length of the rest (PS3.8 9.3.1)
P_DATA = 4
ABORT = bytes.fromhex("07000000000400000200")

Pdus = list[bytes]
Mutation = Callable[[Random, Pdus], Pdus]


def split(stream: bytes) -> Pdus:
    """PDUs of a conversation."""
    pdus, place = [], 0
    while place < len(stream):
        _, _, length = HEADER.unpack_from(stream, place)
        end = place + HEADER.size + length
        pdus.append(bytes(stream[place:end]))
        place = end
    return pdus


def pdu(kind: int, body: bytes) -> bytes:
    return HEADER.pack(kind, 0, len(body)) + body


def values(p_data: bytes) -> list[tuple[int, int, bytes]]:
    """Presentation data values of a P-DATA-TF: context, control header, fragment (PS3.8 9.3.5)."""
    found, place = [], HEADER.size
    while place + 6 <= len(p_data):
        length, context, control = struct.unpack_from(">IBB", p_data, place)
        found.append((context, control, p_data[place + 6 : place + 4 + length]))
        place += 4 + length
    return found


def value(context: int, control: int, fragment: bytes) -> bytes:
    return struct.pack(">IBB", len(fragment) + 2, context, control) + fragment


def fragmented(chance: Random, pdus: Pdus) -> Pdus:
    """The same conversation in smaller pieces: commands and data sets in many fragments. Still valid."""
    made: Pdus = []
    for one in pdus:
        if one[0] != P_DATA:
            made.append(one)
            continue
        pieces: list[bytes] = []
        for context, control, fragment in values(one):
            size = chance.choice((2, 8, 64, 4096)) if control & 1 else chance.choice((512, 4096, 1 << 15))
            for start in range(0, max(len(fragment), 1), size):
                is_end = start + size >= len(fragment)
                pieces.append(
                    value(
                        context,
                        control if is_end else control & ~2,  # bit 1: the last fragment
                        fragment[start : start + size],
                    )
                )
        while pieces:
            count = chance.randint(1, 4)
            made.append(pdu(P_DATA, b"".join(pieces[:count])))
            del pieces[:count]
    return made


def flip_bits(chance: Random, pdus: Pdus) -> Pdus:
    place = chance.randrange(len(pdus))
    damaged = bytearray(pdus[place])
    for _ in range(chance.choice((1, 1, 2, 8, 64))):
        damaged[chance.randrange(len(damaged))] ^= 1 << chance.randrange(8)
    return [*pdus[:place], bytes(damaged), *pdus[place + 1 :]]


def lie_about_a_length(chance: Random, pdus: Pdus) -> Pdus:
    """The length of a PDU, of a value in it, or of any four bytes that look like one."""
    place = chance.randrange(len(pdus))
    damaged = bytearray(pdus[place])
    where = chance.choice((2, HEADER.size, chance.randrange(max(len(damaged) - 4, 1))))
    lie = chance.choice(
        (0, 1, 2, max(len(damaged) - 7, 0), len(damaged), 1 << 16, 1 << 20, (1 << 31) - 1, (1 << 32) - 1)
    )
    order = ">I" if where <= HEADER.size else chance.choice((">I", "<I"))
    damaged[where : where + 4] = struct.pack(order, lie)
    return [*pdus[:place], bytes(damaged), *pdus[place + 1 :]]


def cut(chance: Random, pdus: Pdus) -> Pdus:
    """End anywhere."""
    place = chance.randrange(len(pdus))
    return [*pdus[:place], pdus[place][: chance.randrange(len(pdus[place]))]]


def reorder(chance: Random, pdus: Pdus) -> Pdus:
    shuffled = pdus[:]
    first = chance.choice((0, 1))  # sometimes a valid request stays first
    rest = shuffled[first:]
    chance.shuffle(rest)
    return shuffled[:first] + rest


def repeat(chance: Random, pdus: Pdus) -> Pdus:
    place = chance.randrange(len(pdus))
    return pdus[:place] + [pdus[place]] * chance.choice((2, 3, 50)) + pdus[place + 1 :]


def leave_out(chance: Random, pdus: Pdus) -> Pdus:
    place = chance.randrange(len(pdus))
    return pdus[:place] + pdus[place + 1 :]


def claim_a_huge_pdu(chance: Random, pdus: Pdus) -> Pdus:
    place = chance.randrange(len(pdus) + 1)
    kind = chance.choice((1, 4, 5, 7, 0, 9, 255))
    size = chance.choice((1 << 20, 1 << 24, 1 << 31, (1 << 32) - 1))
    return [*pdus[:place], HEADER.pack(kind, 0, size) + chance.randbytes(chance.choice((0, 100, 70_000)))]


def change_contexts(chance: Random, pdus: Pdus) -> Pdus:
    """Presentation contexts that were never accepted, and control headers that contradict."""
    made = []
    for one in pdus:
        if one[0] == P_DATA and chance.random() < 0.5:
            pieces = [
                value(
                    chance.choice((context, chance.randrange(256))),
                    chance.choice((control, control ^ 1, control ^ 2, chance.randrange(256))),
                    fragment,
                )
                for context, control, fragment in values(one)
            ]
            one = pdu(P_DATA, b"".join(pieces))  # noqa: PLW2901 - the damaged one in its place
        made.append(one)
    return made


def abort_within(chance: Random, pdus: Pdus) -> Pdus:
    place = chance.randrange(len(pdus) + 1)
    return [*pdus[:place], ABORT, *(pdus[place:] if chance.random() < 0.5 else [])]


def insert_noise(chance: Random, pdus: Pdus) -> Pdus:
    place = chance.randrange(len(pdus) + 1)
    noise = pdu(chance.randrange(256), chance.randbytes(chance.choice((0, 4, 68, 1000))))
    return [*pdus[:place], noise, *pdus[place:]]


MUTATIONS: Sequence[Mutation] = (
    flip_bits, lie_about_a_length, cut, reorder, repeat, leave_out, claim_a_huge_pdu, change_contexts,
    abort_within, insert_noise, fragmented,
)  # fmt: skip


def mutated(chance: Random, recorded: Sequence[Pdus]) -> bytes:
    """One conversation, damaged once or a few times; sometimes with the end of another."""
    pdus = list(chance.choice(recorded))
    if chance.random() < 0.1:
        pdus = pdus[: chance.randrange(1, len(pdus) + 1)] + list(chance.choice(recorded))
    for _ in range(chance.choice((1, 1, 1, 2, 4))):
        if pdus:
            pdus = chance.choice(MUTATIONS)(chance, pdus)
            pdus = [one for one in pdus if one]
    return b"".join(pdus)
