"""Numbers as binary integers and floats."""

from collections.abc import Callable

import numpy as np

from callward.sweep.needles import Needles, Table
from callward.sweep.octets import NOWHERE, Octets, Places


def binary_places(octets: Octets, needles: Needles) -> Places:
    """Return where eight octets are an integer or float64 that equals a number of 10 to 15 digits (below 2^50)."""
    size = len(octets) - 7
    if needles.binary is None or size <= 0:
        return NOWHERE
    part = [octets[step : size + step] for step in range(8)]
    little = (part[7] == 0) & (part[6] < 4) & (part[3] | part[4] | part[5] != 0)
    big = (part[0] == 0) & (part[1] < 4) & (part[4] | part[3] | part[2] != 0)
    real = (part[0] & np.uint8(7) == 0) & (part[7] - np.uint8(0x41) < 3)
    real |= (part[7] & np.uint8(7) == 0) & (part[0] - np.uint8(0x41) < 3)
    at = np.flatnonzero(little | big | real)
    eight = octets[at[:, None] + np.arange(8)].view("<u8").ravel().astype(np.uint64)
    return at[needles.binary.find(eight)[0]]


def six_octet_places(octets: Octets, table: Table | None, tally: Callable[[float], None]) -> Places:
    """Return where six octets, big-endian, are a number from 2^31 to 2^47 (SQLite file format, serial type 5)."""
    size = len(octets) - 5
    if table is None or size <= 0:
        return NOWHERE
    at = np.flatnonzero(
        (octets[:size] < 128) & (octets[:size] | octets[1 : size + 1] | (octets[2 : size + 2] >> 7) != 0)
    )
    tally(len(at) * len(table.values) / 2.0**47)
    six = np.zeros((len(at), 8), np.uint8)
    six[:, 2:] = octets[at[:, None] + np.arange(6)]
    return at[table.find(six.view(">u8").ravel().astype(np.uint64))[0]]
