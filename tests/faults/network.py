"""Several machines on this one: network namespaces with addresses of their own, on one switch.

Each machine has a cable to the switch, which can be pulled (its own link goes down) or broken behind the
wall (the link stays up and nothing arrives, so that connections hang and are not refused).
"""

import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum

HOSPITAL = "hospital"  # this process's own namespace: senders, archives, whoever looks


class Cut(StrEnum):
    """How a machine loses its network."""

    PULLED = "cable pulled"
    BROKEN = "packets vanish"


@dataclass(frozen=True, slots=True)
class Network:
    """Machines by name.

    Attributes
    ----------
    name : str
        Beginning of all its names in the system.
    subnet : str
        First three numbers of every address.
    machines : tuple of str
    """

    name: str
    subnet: str
    machines: tuple[str, ...]

    def address(self, machine: str) -> str:
        """IPv4 address of a machine, or of this process as the others see it."""
        last = 254 if machine == HOSPITAL else 1 + self.machines.index(machine)
        return f"{self.subnet}.{last}"

    def on(self, machine: str) -> tuple[str, ...]:
        """Command prefix that runs something on a machine."""
        return ("ip", "netns", "exec", self._space(machine))

    @contextmanager
    def cut(self, machine: str, how: Cut) -> Iterator[None]:
        """The machine has no network inside the block."""
        port = self._port(machine)
        if how is Cut.PULLED:
            _ip("-n", self._space(machine), "link", "set", "eth0", "down")
        else:
            _ip("-n", self._space("switch"), "link", "set", port, "nomaster")
        try:
            yield
        finally:
            if how is Cut.PULLED:
                _ip("-n", self._space(machine), "link", "set", "eth0", "up")
            else:
                _ip("-n", self._space("switch"), "link", "set", port, "master", "br0")

    def build(self) -> None:
        switch = self._space("switch")
        _ip("netns", "add", switch)
        _ip("-n", switch, "link", "add", "br0", "type", "bridge")
        _ip("-n", switch, "link", "set", "br0", "up")
        for machine in (*self.machines, HOSPITAL):
            cable, port = f"{self.name}c{self._number(machine)}", self._port(machine)
            _ip("link", "add", cable, "type", "veth", "peer", "name", port)
            _ip("link", "set", port, "netns", switch)
            _ip("-n", switch, "link", "set", port, "master", "br0", "up")
            if machine == HOSPITAL:
                _ip("address", "add", f"{self.address(machine)}/24", "dev", cable)
                _ip("link", "set", cable, "up")
                continue
            space = self._space(machine)
            _ip("netns", "add", space)
            _ip("link", "set", cable, "netns", space, "name", "eth0")
            _ip("-n", space, "link", "set", "lo", "up")
            _ip("-n", space, "address", "add", f"{self.address(machine)}/24", "dev", "eth0")
            _ip("-n", space, "link", "set", "eth0", "up")

    def remove(self) -> None:
        """Take everything down; the cables go with their namespaces."""
        for machine in (*self.machines, "switch"):
            subprocess.run(["ip", "netns", "delete", self._space(machine)], capture_output=True, check=False)

    def _space(self, machine: str) -> str:
        return f"{self.name}-{machine}"

    def _number(self, machine: str) -> str:
        return "h" if machine == HOSPITAL else str(self.machines.index(machine))

    def _port(self, machine: str) -> str:
        return f"{self.name}p{self._number(machine)}"


def why_not() -> str | None:
    """Say what keeps this machine from making namespaces; None where nothing does."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if shutil.which("ip") is None:
        return "ip (Debian: iproute2) is not installed"
    probe = Network(_name(), "10.213.0", ())
    try:
        probe.build()
    except RuntimeError as error:
        return str(error)
    finally:
        probe.remove()
    return None


@contextmanager
def network(machines: Sequence[str]) -> Iterator[Network]:
    """Machines that reach each other and this process until the block ends."""
    made = Network(_name(), f"10.213.{secrets.randbelow(250) + 1}", tuple(machines))
    try:
        made.build()
        yield made
    finally:
        made.remove()


def _name() -> str:
    return f"vg{secrets.token_hex(3)}"  # names of links are short


def _ip(*words: str) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, timeout=30, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"ip {' '.join(words)}: {done.stderr.strip()}")
