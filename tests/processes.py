"""Looks at the processes of this machine through /proc: who belongs to a session, and where they listen."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from pathlib import Path

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_LISTENS = "0A"


def of_session(session: int) -> list[int]:
    """Return the processes of a session that are still at work, in rising order."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            # After the name, which may hold anything: state, parent, group, session.
            state, _, _, its_session = (path / "stat").read_text().rpartition(")")[2].split()[:4]
        except OSError:
            continue
        if int(its_session) == session and state != "Z":
            found.append(int(path.name))
    return sorted(found)


def listening(processes: Iterable[int]) -> list[tuple[Address, int]]:
    """Return the addresses and ports at which any of the processes takes connections over TCP."""
    sockets = _listening_sockets()
    found = set()
    for pid in processes:
        for link in Path(f"/proc/{pid}/fd").glob("*"):
            try:
                target = str(link.readlink())
            except OSError:
                continue
            if target in sockets:
                found.add(sockets[target])
    return sorted(found, key=str)


def _listening_sockets() -> dict[str, tuple[Address, int]]:
    found = {}
    for table in ("tcp", "tcp6"):
        for line in Path("/proc/net", table).read_text().splitlines()[1:]:
            _, local, _, state, *_, inode = line.split()[:10]
            if state == _LISTENS:
                host, port = local.split(":")
                found[f"socket:[{inode}]"] = (_address(host), int(port, 16))
    return found


def _address(host: str) -> Address:
    """Return an address from groups of four bytes, each in the order of this machine."""
    words = bytes.fromhex(host)
    address = ipaddress.ip_address(b"".join(words[at : at + 4][::-1] for at in range(0, len(words), 4)))
    return getattr(address, "ipv4_mapped", None) or address
