"""What a change of each setting does: to rows that are committed already, or from when on it counts.

Every key of callward.toml and every table of a declaration stands in exactly one of these lists; a test fails on one
that stands in none.
"""

from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Any, Final

from pydantic import BaseModel

from callward.settings import engine, inputs, storage, tenants
from callward.settings.database import Database
from callward.settings.settings import Settings
from callward.settings.values import NO_NAMES, Section
from schemas.declaration import Declaration

Path = tuple[str, ...]
ITEMS: Final[Mapping[str, int]] = {
    "sources": 2,
    "trunks": 2,
    "tenants": 2,
    "accounts": 3,
}  # steps that name one of them
DECLARATION: Final = "declaration"  # below a source's path: the tables of its format, as they are read


class Effect(StrEnum):
    """What a change of a setting does."""

    ROWS = "rows"  # records would be read or charged otherwise: committed rows stay as they are until reprocessed
    SET_ASIDE = "set aside"  # likewise, but only of files that were set aside whole
    NEXT = "next"  # counts from the next night, purge or command on; for a stream from its start on
    RESTART = "restart"  # counts from the next start of the stream or the receiver on
    PLACE = "place"  # says where something lies, and moves nothing


_ROWS: Final[Mapping[type[BaseModel], str]] = {
    inputs.Source: "zone country international_prefix national_prefix e164_without_plus area_code outside_prefix "
    "operators extension_digits tenant tenant_field tenant_by tenant_pattern tenants billing_rank",
    tenants.Tenant: "zone",
    tenants.Billing: "rows second_elements",
    tenants.Trunk: "name carrier side site account",
    tenants.Account: "id tenant zone codes trunks contexts numbers",
    tenants.NumberRange: "first last since until",
    Declaration: "file shapes time fields cancelled_as timed_out_as identity call leg_a leg_b epoch reached pieces "
    "legs filters tenant_column",
}
_SET_ASIDE: Final[Mapping[type[BaseModel], str]] = {
    inputs.Source: "file_errors_pct",
    engine.Thresholds: "file_errors_pct file_errors_min",
}
_NEXT: Final[Mapping[type[BaseModel], str]] = {
    Settings: "format_version",
    storage.Lake: "region role ca_file virtual_hosts grace_minutes close_after_hours compact_mebibytes compact_files",
    Database: "password tls ca_file patience_seconds",
    storage.Landing: "after_commit stable_seconds temporary_suffixes",
    engine.Engine: "runner workers options flink_master environment worker_command worker_pool parallelism "
    "max_parallelism checkpoint_seconds checkpoint_uri jar java_options flink_version",
    engine.Waves: "records mebibytes block_mebibytes bucket_records file_gibibytes",
    engine.Thresholds: "shares_min missing_pct unknown_direction_pct unassigned_pct other_trunk_pct rise_points "
    "volume_factor volume_nights volume_min empty_days exit_3_for unknown_share_pct few_attempts purge_deviation_pct "
    "second_person",
    engine.Alerts: "command webhook timeout_seconds again_hours",
    tenants.Tenant: "retention",
    tenants.Requests: "regime other_numbers",
    tenants.ReleaseCaps: "rho_month rho_all threshold_outside",
    # What `format` and `declare` name counts as it is read: table by table of the declaration.
    inputs.Source: "name format declare complete horizon_hours expect_every sequence sequence_range",
    Declaration: "format_version name title older_identities",
}
_RESTART: Final[Mapping[type[BaseModel], str]] = {
    engine.Stream: "flush_seconds flush_mebibytes block_seconds block_mebibytes buckets spread blocks_ahead "
    "poll_seconds maintenance_minutes stop_seconds metrics fresh_seconds",
    inputs.Kafka: "bootstrap group protocol ca_file certificate_file key_file key_password sasl_mechanism username "
    "password topics",
    inputs.Topic: "name source source_header sources message_id",
    inputs.Receive: "listen certificate_file key_file metrics_port group_milliseconds body_mebibytes waiting_mebibytes "
    "requests connections body_seconds stop_seconds failures_per_minute senders",
    inputs.Sender: "source addresses username password password_hash",
}
_PLACE: Final[Mapping[type[BaseModel], str]] = {
    Settings: "workspace_id",
    storage.Lake: "uri endpoint",
    Database: "url",
    storage.Landing: "folder",
    storage.Keys: "roots signers export_to",
    tenants.Release: "folder output",
}
EFFECTS: Final[Mapping[tuple[type[BaseModel], str], Effect]] = {
    (table, name): effect
    for effect, tables in (
        (Effect.ROWS, _ROWS),
        (Effect.SET_ASIDE, _SET_ASIDE),
        (Effect.NEXT, _NEXT),
        (Effect.RESTART, _RESTART),
        (Effect.PLACE, _PLACE),
    )
    for table, names in tables.items()
    for name in names.split()
}


def values(settings: Settings) -> Iterator[tuple[Path, Any, bool]]:
    """Yield where each setting stands, its value as JSON has it, and whether it may be stored and shown as it is.

    A source, trunk or account stands under its own name, wherever in its list it is.
    """
    yield from _of_table(settings, ())


def effect(path: Path) -> Effect:
    """Return what a change at a path does; what stands below a path that is none of a table counts as it does."""
    if DECLARATION in path[2:3]:
        return EFFECTS[Declaration, path[3]]
    table: type[BaseModel] = Settings
    for step in (path[0], *path[ITEMS.get(path[0], 1) :]):  # without names that a user has chosen
        if (table, step) in EFFECTS:
            return EFFECTS[table, step]
        table = _table_in(table.model_fields[step].annotation) or table
    return Effect.ROWS if path[0] in ("trunks", "accounts") else Effect.NEXT  # a whole item: it came, or it went


def _of_table(table: Section, place: Path) -> Iterator[tuple[Path, Any, bool]]:
    for name, field in type(table).model_fields.items():
        value, path = getattr(table, name), (*place, name)
        if field.exclude:
            continue
        if isinstance(value, Section):
            yield from _of_table(value, path)
        elif _table_in(field.annotation) is None or (type(table), name) in EFFECTS:
            plain = table.model_dump(mode="json", include={name})[name]
            yield path, plain, name not in NO_NAMES and _is_plain(plain)
        else:
            for key, item in _named(value):
                yield from _of_table(item, (*path, *key))


def _is_plain(value: Any) -> bool:
    """Return whether a value is one, or a list of some, and no table: keys of a table are values of records."""
    return not any(isinstance(item, dict | list) for item in (value if isinstance(value, list) else [value]))


def _named(items: Any) -> Iterator[tuple[Path, Section]]:
    """Yield tables of a list or a table with what names each."""
    for key, item in items.items() if isinstance(items, dict) else ((None, item) for item in items):
        if key is not None:
            yield (key,), item
        else:
            yield (item.tenant, item.id) if isinstance(item, tenants.Account) else (item.name,), item


def _table_in(annotation: Any) -> type[Section] | None:
    """Return the table that a key holds, or holds a list or a table of; None for a plain value."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation
    return next((found for kind in getattr(annotation, "__args__", ()) if (found := _table_in(kind))), None)
