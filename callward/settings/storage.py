"""Where things lie: the lake, the database, landing folders and keys."""

import re
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from callward.settings.values import Section, Words, nearest

KEY_DOMAINS = (
    "billing",
    "billing-numbers",
    "assurance",
    "index",
    "sla",
    "suspense",
    "pending",
    "archive",
    "ids",
    "transit",
    "hold",
    "late",
    "release",
)
# What an unknown key of [lake] is called when it holds a credential.
_CREDENTIAL = re.compile(r"key|secret|token|password|credential|passwd|user", re.IGNORECASE)
_BUCKET = re.compile(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](?:/(?!\.{1,2}(?:/|$))[\w.=-]+)*/?", re.ASCII)
_ENDPOINT = re.compile(r"https?://(?:[A-Za-z0-9.-]+|\[[0-9a-fA-F:]+\])(?::\d{1,5})?")
SIGNERS = ("custodian", "retention")  # who signs: registrations of persons; certificates and register exports


class Lake(Section):
    uri: str = Field(
        default="file:lake",
        description="Where data files lie: file:PATH, relative to this file or absolute, or s3://BUCKET/PREFIX.",
    )
    endpoint: str | None = Field(
        default=None,
        description="URL of an object store that is not Amazon's.",
        examples=["https://objects.example:9000"],
    )
    region: str | None = Field(
        default=None, description="Region of the bucket, if not the environment's.", examples=["us-west-2"]
    )
    role: str | None = Field(
        default=None,
        description="ARN of a role to take on for the bucket. Credentials come from the environment or the machine's "
        "own role, and never stand here.",
        examples=["arn:aws:iam::000000000000:role/callward"],
    )
    ca_file: str | None = Field(
        default=None,
        description="Certificates (PEM) that the endpoint's own must rest on, if not the system's.",
        examples=["/etc/ssl/objects.pem"],
    )
    virtual_hosts: bool = Field(
        default=False, description="The endpoint takes the bucket's name in its host name, and not in the path."
    )
    grace_minutes: float = Field(
        default=60.0, ge=0, description="A data file that was replaced stays so long for queries that have begun."
    )
    close_after_hours: float = Field(
        default=48.0,
        ge=0,
        description="So long after its end a date closes: its assurance parts are made anew, in small cells no more.",
    )
    compact_mebibytes: float = Field(
        default=128.0,
        gt=0,
        le=1024,
        description="Data files smaller than so many MiB are merged into ones of that size ...",
    )
    compact_files: int = Field(
        default=8, ge=2, description="... when there are at least so many of one day that belong together."
    )

    @model_validator(mode="before")
    @classmethod
    def _without_credentials(cls, given: Any) -> Any:
        names = given if isinstance(given, dict) else ()
        credentials = [name for name in names if name not in cls.model_fields and _CREDENTIAL.search(str(name))]
        if credentials:
            raise ValueError(
                f"{credentials[0]} does not belong here: credentials come from the environment (AWS_ACCESS_KEY_ID ...) "
                "or from the machine's own role; take it out, and replace it if others could read this file"
            )
        return given

    @field_validator("uri")
    @classmethod
    def _known_store(cls, uri: str) -> str:
        scheme = urlsplit(uri).scheme
        if scheme == "file":
            return uri
        if scheme != "s3":
            raise ValueError("only file: and s3: are built so far, such as file:lake or s3://bucket/prefix")
        if "@" in uri or "?" in uri:
            raise ValueError("credentials and options do not belong in the uri: write s3://bucket/prefix")
        if not _BUCKET.fullmatch(uri):
            raise ValueError("a bucket is written s3://bucket/prefix, the prefix of letters, digits and -_.= alone")
        return uri.rstrip("/")

    @field_validator("endpoint")
    @classmethod
    def _url(cls, endpoint: str | None) -> str | None:
        if endpoint is not None and not _ENDPOINT.fullmatch(endpoint):
            raise ValueError("write https://host:port (http:// for tests), without credentials, path or options")
        return endpoint

    @property
    def is_local(self) -> bool:
        """Return whether the lake is a folder of a file system, and not an object store."""
        return self.uri.startswith("file:")


class Landing(Section):
    folder: str = Field(default="landing", description="Switches write into FOLDER/<source>/.")
    after_commit: Literal["archive", "delete"] = Field(
        default="archive",
        description="What becomes of a landing file after its commit: archive (sealed copy kept) or delete.",
    )
    stable_seconds: float = Field(
        default=60.0,
        ge=0,
        description="A source that promises neither rename nor marker is taken "
        "when size and time have not changed for so long.",
    )
    temporary_suffixes: Words = Field(
        default=[".tmp", ".part", ".filepart", ".writing"],
        description="Names that end so, or begin with a dot, are still being written.",
    )


def _usual_roots() -> dict[str, str]:
    return {name: f"local:keys/{name}.root" for name in KEY_DOMAINS}


def _usual_signers() -> dict[str, str]:
    return {name: f"local:keys/{name}.sign" for name in SIGNERS}


class Keys(Section):
    roots: dict[str, str] = Field(
        default=_usual_roots(),
        description="One key root per key domain; one that is not named lies where it usually does. Whoever may read a "
        "root's file holds that key domain: set the file's owner so.",
    )
    signers: dict[str, str] = Field(
        default=_usual_signers(),
        description="Ed25519 keys that sign: custodian (who is a person), retention (certificates, register exports).",
    )
    export_to: str | None = Field(
        default=None,
        description="A second folder, on another disk or host, for signed exports of the key register.",
        examples=["/mnt/escrow/callward"],
    )

    @field_validator("roots")
    @classmethod
    def _known(cls, roots: dict[str, str]) -> dict[str, str]:
        for name in roots:
            if name not in KEY_DOMAINS:
                raise ValueError(f"no key domain is called {name!r}{nearest(name, KEY_DOMAINS)}")
        return _usual_roots() | roots

    @field_validator("signers")
    @classmethod
    def _local_signers(cls, signers: dict[str, str]) -> dict[str, str]:
        for name, uri in signers.items():
            if name not in SIGNERS:
                raise ValueError(f"no signer is called {name!r}{nearest(name, SIGNERS)}")
            if not uri.startswith("local:"):
                raise ValueError(f"only local: is built so far, such as local:keys/{name}.sign")
        return _usual_signers() | signers
