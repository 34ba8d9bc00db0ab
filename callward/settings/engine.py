"""What runs the work, how much it takes at a time, and when a person must look."""

import re
from typing import Final, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from callward.settings.values import Section, Words, host_port, is_loopback

EMBEDDED: Final = "FnApiRunner"
FLINK: Final = "FlinkRunner"


class Engine(Section):
    runner: Literal["FnApiRunner", "FlinkRunner"] = Field(
        default="FnApiRunner",
        description="What runs nights and purges: FnApiRunner (embedded: nothing to install, nothing downloaded) or "
        "FlinkRunner (see flink_master). The stream always runs on Flink.",
    )
    workers: int = Field(
        default=2, ge=1, le=64, description="Workers of the embedded runner; on Flink worker processes a TaskManager."
    )
    options: list[str] = Field(
        default=[],
        description="Further Beam options, passed on as written.",
        examples=[["--experiments=NAME"]],
    )
    flink_master: str = Field(
        default="[local]",
        description="[local] is a Flink inside the job server that callward starts; a cluster is its REST HOST:PORT.",
        pattern=r"^(\[local\]|[^\s/:\[\]]+:\d{1,5})$",
    )
    environment: Literal["PROCESS", "EXTERNAL", "LOOPBACK"] = Field(
        default="PROCESS",
        description="Where Python work is done on Flink: in processes that each TaskManager starts (PROCESS), in a "
        "worker pool beside it (EXTERNAL), or in the command's own process (LOOPBACK, only for [local]).",
    )
    worker_command: str = Field(
        default="",
        description="The callward-worker program as it is called on every TaskManager; empty: this installation's own.",
        examples=["/opt/callward/bin/callward-worker"],
    )
    worker_pool: str = Field(default="localhost:50000", description="HOST:PORT of the worker pool, for EXTERNAL.")
    parallelism: int = Field(default=0, ge=0, le=4096, description="Subtasks of each step on Flink; 0: as `workers`.")
    max_parallelism: int = Field(
        default=128, ge=1, le=32768, description="Upper limit of parallelism; as a running stream's state is cut by it."
    )
    checkpoint_seconds: float = Field(
        default=10.0, gt=0, description="How often Flink keeps the stream's state, to go on from after a failure."
    )
    checkpoint_uri: str = Field(
        default="",
        description="Where it keeps it, as a URI that every TaskManager reaches; empty: engine/ below this folder.",
        examples=["file:///shared/checkpoints"],
    )
    jar: str = Field(
        default="",
        description="Flink job server of Beam, as one jar; empty: the one that `make engine` builds.",
        examples=["/opt/callward/job-server.jar"],
    )
    java_options: list[str] = Field(default=["-Xmx1g"], description="Options of the Java that runs the job server.")
    flink_version: str = Field(default="1.19", description="The Flink that the jar is made for.")


class Waves(Section):
    records: int = Field(
        default=4_000_000, ge=1, description="A wave is committed by itself: so many records at most ..."
    )
    mebibytes: int = Field(default=1536, ge=1, description="... or so many MiB of decompressed input.")
    block_mebibytes: float = Field(
        default=16.0, gt=0, le=64, description="Input is cut at record ends into blocks of about so many MiB."
    )
    bucket_records: int = Field(
        default=700_000, ge=1, description="Groups of the shuffle are planned to be about so many records."
    )
    file_gibibytes: float = Field(
        default=64.0, gt=0, description="A compressed file that unpacks to more than this is not read (a gzip bomb)."
    )


class Stream(Section):
    flush_seconds: float = Field(
        default=30.0, gt=0, le=3600, description="What was read is committed after so long at the latest ..."
    )
    flush_mebibytes: float = Field(
        default=64.0, gt=0, description="... or when so many MiB (sealed) of one bucket have gathered."
    )
    block_seconds: float = Field(
        default=2.0, gt=0, description="Messages of a partition are gathered into blocks for so long at most ..."
    )
    block_mebibytes: float = Field(default=16.0, gt=0, le=64, description="... or until they are about so many MiB.")
    buckets: int = Field(
        default=2, ge=1, le=256, description="Records are deduplicated in so many groups side by side (a power of two)."
    )
    spread: Words = Field(
        default=[],
        description="Tenants so large that their records are spread over all buckets; if there is one tenant, it is.",
    )
    blocks_ahead: int = Field(
        default=64, ge=1, description="A reader waits when so many of its blocks are read and not committed."
    )
    poll_seconds: float = Field(default=1.0, gt=0, description="How often landing folders are looked into.")
    maintenance_minutes: float = Field(
        default=5.0, gt=0, description="How often pending pieces are looked through and small files are merged."
    )
    stop_seconds: float = Field(
        default=300.0, gt=0, description="How long a stop waits for what was read to be committed."
    )

    metrics: str = Field(
        default="127.0.0.1:9404",
        description="HOST:PORT where Prometheus finds the stream's figures, and others /healthz and /readyz; empty: "
        "nowhere. Whoever reaches it may read it, so keep it on this machine or in a network of your own.",
    )
    fresh_seconds: float = Field(
        default=180.0, gt=0, description="A stream whose oldest uncommitted record waits longer is behind."
    )

    @field_validator("metrics")
    @classmethod
    def _address(cls, metrics: str) -> str:
        if metrics:
            host_port(metrics)
        return metrics

    @field_validator("buckets")
    @classmethod
    def _power(cls, buckets: int) -> int:
        if buckets & (buckets - 1):
            raise ValueError("write a power of two")
        return buckets


class Thresholds(Section):
    file_errors_pct: float = Field(
        default=10.0, ge=0, le=100, description="A file with a larger share of suspended records is set aside whole."
    )
    file_errors_min: int = Field(default=20, ge=1, description="... but only when it has at least so many of them.")
    shares_min: int = Field(
        default=10, ge=1, description="A share of a source's records is looked at when it is of at least so many:"
    )
    missing_pct: float = Field(
        default=90.0, ge=0, le=100, description="records without a called number, or without answer and talk,"
    )
    unknown_direction_pct: float = Field(default=100.0, ge=0, le=100, description="records of unknown direction,")
    unassigned_pct: float = Field(default=100.0, ge=0, le=100, description="records that no account pays for,")
    other_trunk_pct: float = Field(default=100.0, ge=0, le=100, description="records over a trunk that is not listed,")
    rise_points: float = Field(
        default=25.0,
        ge=0,
        le=100,
        description="and each of these, when it is so many points above the source's last nights.",
    )
    volume_factor: float = Field(
        default=3.0,
        ge=0,
        description="A night of a source (of a stream: a day) with less than the median of its last eight same "
        "weekdays divided by this, or more than that times this, is warned of; 0: none is.",
    )
    volume_nights: int = Field(
        default=4, ge=1, le=8, description="... when there are at least so many of these same weekdays,"
    )
    volume_min: int = Field(default=100, ge=1, description="... and the larger of both figures is at least this.")
    empty_days: float = Field(
        default=7.0,
        gt=0,
        description="A source without expect_every of which nothing came for so long is warned of.",
    )
    exit_3_for: list[Literal["folder", "silent", "empty", "volume", "gap", "repeat", "shrank"]] = Field(
        default=["folder", "silent", "gap", "shrank"],
        description="Of these warnings of a feed a night ends with exit code 3; others of folder, silent, empty, "
        "volume, gap, repeat and shrank (docs/nights.md) are only said.",
    )
    unknown_share_pct: float = Field(
        default=5.0, ge=0, le=100, description="ASR and NER are null where more dispositions than this are unknown."
    )
    few_attempts: int = Field(default=100, ge=0, description="Ratios over fewer attempts are marked as not meaningful.")
    purge_deviation_pct: float = Field(
        default=10.0, ge=0, description="A purge that would take so much more or less than foreseen waits for a person."
    )
    second_person: int = Field(
        default=100_000,
        ge=0,
        description="Corrections and assignments of more records, and imports that change more entries of the account "
        "directory, wait for a second person, an approver; 0: none does.",
    )


class Alerts(Section):
    """Who is told of what a person must look at. No variable of the environment sets any of it: it names a program."""

    command: list[str] = Field(
        default=[],
        description="A program and its words, run without a shell for each warning; it finds a JSON document on "
        "standard input.",
        examples=[["/usr/local/bin/page-ops", "callward"]],
    )
    webhook: str | None = Field(
        default=None,
        description="Where the same document is posted to: an https URL (http on this machine alone), or where one is "
        "found, as env:NAME or file:PATH.",
        examples=["file:/run/secrets/callward-webhook"],
    )
    timeout_seconds: float = Field(default=10.0, gt=0, le=60, description="How long either may take.")
    again_hours: float = Field(
        default=20.0, gt=0, description="What still stands so long after its alert is told again."
    )

    @field_validator("command")
    @classmethod
    def _program(cls, command: list[str]) -> list[str]:
        if command and not command[0].strip():
            raise ValueError("write the program first, then its words, each a text of its own")
        return command

    @field_validator("webhook")
    @classmethod
    def _address(cls, place: str | None) -> str | None:
        if place is None or re.fullmatch(r"env:[A-Za-z_][A-Za-z0-9_]*|file:.+", place):
            return place
        return webhook_url(place)


def webhook_url(url: str) -> str:
    """Return a URL that alerts may be posted to; raises ValueError, which does not repeat it: it may hold a secret."""
    parts = urlsplit(url)
    if not parts.hostname or parts.scheme not in ("http", "https") or parts.username is not None:
        raise ValueError("a webhook is an https URL without credentials, or env:NAME or file:PATH where one is found")
    if parts.scheme == "http" and not is_loopback(parts.hostname):
        raise ValueError("a webhook beyond this machine is https")
    return url
