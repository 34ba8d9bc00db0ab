"""Profiles: an account that is known in another table by a token alone, found by what it did when, and how often."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from callward.release.attack.attacks import Ints
from callward.release.attack.linkage import Billing, Column, Table, codes


@dataclass(frozen=True, eq=False)
class Amounts:
    """What a side says of its accounts: lines of (who, what, how many), which add up; shape [n] each.

    Attributes:
        owner: an account, or whatever stands for one.
        what: the columns of a line's key: a day, an hour, a prefix.
        many: how many, or how much.
        account: the account that the owner truly is, for the count alone.
    """

    owner: Column
    what: Sequence[Column]
    many: Ints
    account: Column


def profiles(name: str, role: str, billing: Amounts, table: Amounts) -> tuple[Billing, Table]:
    """Return accounts of billing, and those of a table of `role`, to be compared by their whole profiles."""
    what, size = codes(billing.what, table.what), len(billing.owner)
    left, left_account = _of_owners(billing, what[:size])
    right, right_account = _of_owners(table, what[size:])
    number = codes([left_account], [right_account])
    accounts = Billing(number[: len(left)], left_account)
    return accounts, Table(name, role, [left], [right], number[len(left) :], names_account=True)


def _of_owners(amounts: Amounts, what: Ints) -> tuple[Ints, Column]:
    """Return a hash of each owner's profile, and the account it truly is."""
    owners, index, owner = np.unique(amounts.owner, return_index=True, return_inverse=True)
    key = codes([owner, what], [owner[:0], what[:0]])
    _, first, line = np.unique(key, return_index=True, return_inverse=True)
    many = np.zeros(len(first), np.int64)
    np.add.at(many, line, amounts.many)
    hashes = np.zeros(len(owners), np.uint64)
    np.add.at(hashes, owner[first], _mixed(what[first], many))
    return hashes.view(np.int64), amounts.account[index]


def _mixed(what: Ints, many: Ints) -> np.ndarray:
    """Return 64 bits of each line (splitmix64), whose sums are equal for equal profiles alone; 0 for an amount of 0."""
    bits = _mix(what.view(np.uint64)) ^ many.view(np.uint64)
    return np.where(many == 0, np.uint64(0), _mix(bits))


def _mix(bits: np.ndarray) -> np.ndarray:
    bits = bits + np.uint64(0x9E3779B97F4A7C15)
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(bits ^ (bits >> np.uint64(31)))
