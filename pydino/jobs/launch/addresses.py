"""How processes of several machines connect: an address, a free port, and a network interface.

No name has to resolve: a machine's own address is that of the interface by which the others are reached,
according to the routing table.
"""

import errno
import fcntl
import os
import socket
import struct

from pydino.base import UserError

# below the range from which Linux takes the ports of outgoing connections (32768 on)
_FIRST_PORT, _PORTS = 20000, 10000


def address_towards(others: list[str]) -> str:
    """Return this machine's address as the ``others`` see it: ``PYDINO_MASTER_ADDR``, or that of the
    interface by which the first of them is reached. Nothing is sent.

    Raises:
        UserError: none of them can be resolved, or there is no way to them.
    """
    if chosen := os.environ.get("PYDINO_MASTER_ADDR"):
        return chosen
    for other in others:
        for family in (socket.AF_INET, socket.AF_INET6):
            try:
                return own_address(socket.getaddrinfo(other, 9, family, socket.SOCK_DGRAM)[0][4], family)
            except OSError:
                continue
    raise UserError(
        f"cannot find a route to {' or '.join(others)}: the name does not resolve here, or no network leads "
        "there; set PYDINO_MASTER_ADDR to an address of the first node that the other nodes can reach"
    )


def own_address(destination: tuple, family: int = socket.AF_INET) -> str:
    """Return the address from which this machine would send to ``destination``, an address and a port."""
    with socket.socket(family, socket.SOCK_DGRAM) as s:
        s.connect(destination)
        return s.getsockname()[0]


def free_port(start: int) -> int:
    """Return a port that nothing here listens on, the first from ``start`` (modulo their number) on. Two jobs
    that start at the same moment search from different ports if ``start`` is their own number.
    """
    for offset in range(_PORTS):
        port = _FIRST_PORT + (start + offset) % _PORTS
        with socket.socket() as s:
            try:
                s.bind(("", port))
            except OSError as error:
                if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                    raise
                continue
        return port
    raise UserError(f"all ports from {_FIRST_PORT} to {_FIRST_PORT + _PORTS - 1} of this machine are taken")


def interface_towards(address: str) -> str | None:
    """Return the name of the network interface that ``address`` is reached by, such as ``eth0``; None where
    that is unknown (IPv6).
    """
    try:
        mine = own_address((socket.gethostbyname(address), 9))
    except OSError:
        return None
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        for _, name in socket.if_nameindex():
            try:
                answer = fcntl.ioctl(s, 0x8915, struct.pack("256s", name.encode()[:15]))  # SIOCGIFADDR
            except OSError:
                continue  # an interface without an IPv4 address
            if socket.inet_ntoa(answer[20:24]) == mine:
                return name
    return None
