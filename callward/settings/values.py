"""What the tables of callward.toml have in common: sections, and checks of single values."""

import difflib
import re
from collections import Counter
from collections.abc import Iterable
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar
from urllib.parse import quote
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, ValidationInfo, field_validator

from callward.redaction import number_at

Item = TypeVar("Item")
_LISTED: Final = 40  # of known words at most, where none is near


def known_zone(name: str) -> str:
    """Return an IANA time zone's name; raises ValueError for an unknown one."""
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError(
            f"no time zone is called {name!r} (write an IANA name such as America/Denver or UTC)"
        ) from error
    return name


def is_loopback(host: str) -> bool:
    """Return whether an address is this machine's own; of names only localhost is, and none is resolved."""
    if host.rstrip(".").lower() == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def host_port(address: str) -> tuple[str, int]:
    """Return HOST:PORT as its parts; an IPv6 address stands in brackets. Raises ValueError."""
    host, _, port = address.rpartition(":")
    host = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536 or "/" in host:
        raise ValueError(f"write HOST:PORT, not {address!r}")
    return host, int(port)


_UNITS: Final = {"minute": 60, "hour": 3600, "day": 86_400, "week": 604_800}


def seconds(span: str) -> int:
    """Return how many seconds "90 minutes", "26 hours" or "2 weeks" are; raises ValueError for what is no span."""
    match = re.fullmatch(r"([1-9][0-9]{0,5}) (minute|hour|day|week)s?", span)
    if match is None:
        raise ValueError(f'write a number and minutes, hours, days or weeks, such as "26 hours", not {span!r}')
    return int(match[1]) * _UNITS[match[2]]


def secret_place(place: str | None) -> str | None:
    """Return where a secret is found.

    Raises ValueError for what is no place, and does not repeat it: it may be the secret itself.
    """
    if place is not None and not re.fullmatch(r"env:[A-Za-z_][A-Za-z0-9_]*|file:.+", place):
        raise ValueError("a secret is never written here: name where it is found, as env:NAME or file:PATH")
    return place


# Keys whose values are no names, and are not stored or shown as such.
_ADDRESSES: Final = {
    "addresses",
    "bootstrap",
    "endpoint",
    "flink_master",
    "listen",
    "metrics",
    "role",
    "uri",
    "url",
    "webhook",
}
_FILES: Final = {"ca_file", "certificate_file", "checkpoint_uri", "export_to", "folder", "format", "jar"}
_PLACES: Final = {"key_file", "output", "path", "variables", "roots", "signers", "worker_command", "worker_pool"}
_SECRETS: Final = {"digest", "key_password", "password", "password_hash", "username"}
_TEXTS: Final = {"command", "declare", "java_options", "options"}  # for others to read
# Compared with records alone; `numbers` of an account are what they say.
_COMPARED: Final = {
    "codes",
    "command",
    "declare",
    "first",
    "java_options",
    "last",
    "options",
    "sequence",
    "tenant_pattern",
}
NO_NAMES: Final = _ADDRESSES | _FILES | _PLACES | _SECRETS | _TEXTS | _COMPARED


def repeated(items: Iterable[Item]) -> Item | None:
    """Return the first item that stands in a list twice; None where each stands there once."""
    return next((item for item, times in Counter(items).items() if times > 1), None)


def distinct(words: list[str]) -> list[str]:
    """Return a list in which each word stands once; raises ValueError for another."""
    if (word := repeated(words)) is not None:
        raise ValueError(f"{word!r} is there twice; write it once")
    return words


def _as_list(given: object) -> object:
    return [given] if isinstance(given, str) else given


Words = Annotated[list[str], AfterValidator(distinct)]
# One text, or a list of them: both forms mean the same.
OneOrMore = Annotated[list[str], BeforeValidator(_as_list), AfterValidator(distinct)]


class Section(BaseModel):
    """A table of callward.toml; every key has a description, which `callward init` writes beside it."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    @field_validator("*")
    @classmethod
    def _without_numbers(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse a name that looks like a number: names from settings are stored and shown."""
        if info.field_name not in NO_NAMES and number_at(_without_addresses(value)) is not None:
            raise ValueError(
                "this looks like a phone number, and names are stored and shown in the clear: write another"
            )
        return value


def _without_addresses(value: Any) -> Any:
    """Return a value without its internet addresses, which are no numbers: switches name trunks by them."""
    if isinstance(value, list):
        return [_without_addresses(item) for item in value]
    try:
        return "" if isinstance(value, str) and ip_address(value) else value
    except ValueError:
        return value


def nearest(word: str, words: Any) -> str:
    """Return the end of a sentence about an unknown word: the known one that is nearest, else all, if not too many."""
    known = [str(known) for known in words]
    close = difflib.get_close_matches(str(word), known, n=1, cutoff=0.5)
    if close:
        return f"; did you mean {close[0]!r}?"
    more = f" and {len(known) - _LISTED:,} more" if len(known) > _LISTED else ""
    return f" (known: {', '.join(known[:_LISTED])}{more})"


def local_uri(path: str | Path) -> str:
    """Return the URI of a root key file; characters that mean something in a URI are quoted."""
    return "local://" + quote(str(Path(path).absolute()))
