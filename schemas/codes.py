"""Codes that the registers use: few, documented, and never carrying content of a record."""

from enum import StrEnum
from typing import Final


class Suspense(StrEnum):
    """Why a record was set aside. Each can be fixed (settings, declaration, policy) and recycled."""

    COLUMNS = "COLUMNS"  # the number of columns fits no declared shape
    QUOTING = "QUOTING"  # quotes are torn
    TORN = "TORN"  # the last line of a file, without a line end, that does not fit the file's other lines
    ENCODING = "ENCODING"  # bytes that the declared encoding does not have, or NUL
    JSON = "JSON"  # not a JSON object
    TOO_LONG = "TOO_LONG"  # a record longer than the limit (1 MiB)
    IDENTITY = "IDENTITY"  # a field of the record's identity is empty, or rounded by a spreadsheet
    FIELD = "FIELD"  # a number or a word that the declaration does not know
    TIME = "TIME"  # no start time, or an impossible date
    ORDER = "ORDER"  # ends before it starts, or is answered before it starts; or a piece that makes its call so
    DURATION = "DURATION"  # a negative duration, talk longer than the call or than 31 days; or a piece that makes it so
    FUTURE = "FUTURE"  # starts more than a day after it was read
    NUMBER = "NUMBER"  # a party's number longer than 32 characters, or rounded by a spreadsheet
    UNKNOWN_TENANT = "UNKNOWN_TENANT"  # the tenant rule knows no such tenant
    PARTIAL = "PARTIAL"  # a piece of a call whose other pieces did not come within the horizon
    CONFLICT = "CONFLICT"  # same identity as another record, other content; the later version is the row
    HELD = "HELD"  # answered versions of one record would be charged differently: none is billed until one is chosen
    FILE = "FILE"  # a sound record of a file that was set aside whole, over its error threshold


class Filter(StrEnum):
    """Why a record was counted and left out, by a rule that the declaration states."""

    RECORDING_LEG = "RECORDING_LEG"  # a built-in-bridge or other recording leg
    NOT_A_CALL = "NOT_A_CALL"  # a transaction that opens or closes no call
    AUTH_CHALLENGE = "AUTH_CHALLENGE"  # 401 or 407: the retry is the attempt (RFC 6076, formats.md section 3)
    LOCAL_LEG = "LOCAL_LEG"  # the inner half of a switch's local channel
    EXPIRED = "EXPIRED"  # past its retention window when it arrived
    ERASED = "ERASED"  # delivered again after its person had it erased


class Bucket(StrEnum):
    """Where each input record went; the balance of promise 1 is over these."""

    ACCEPTED = "accepted"
    MERGED = "merged"
    DUPLICATE = "duplicate"
    SUSPENDED = "suspended"
    FILTERED = "filtered"
    PENDING = "pending"
    WITHDRAWN = "withdrawn"  # of a delivery that was backed out
    WRITTEN_OFF = "written_off"  # of what was suspended: somebody gave it up, and said why


class DisposalReason(StrEnum):
    """Why something is destroyed with proof."""

    PURGE = "purge"  # it is past its window
    ERASURE = "erasure"  # its person asked for it
    TENANT_END = "tenant end"  # the keys of a tenant that left, once nothing is under them


ERASED_ACCOUNT: Final = "erased"  # in place of the account of a person who had it erased
