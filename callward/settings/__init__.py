"""callward.toml: one file of settings, checked as a whole; an unknown key is refused with the nearest right one."""

from callward.settings.database import Database
from callward.settings.engine import EMBEDDED, FLINK, Engine, Stream, Thresholds, Waves
from callward.settings.inputs import Kafka, Receive, Sender, Source, Topic
from callward.settings.loading import FILE_NAME, find, load
from callward.settings.settings import FORMAT_VERSION, Settings
from callward.settings.storage import KEY_DOMAINS, SIGNERS, Keys, Lake, Landing
from callward.settings.tenants import Account, Billing, NumberRange, Release, ReleaseCaps, Requests, Tenant, Trunk
from callward.settings.values import host_port, is_loopback, local_uri, nearest

__all__ = [
    "EMBEDDED",
    "FILE_NAME",
    "FLINK",
    "FORMAT_VERSION",
    "KEY_DOMAINS",
    "SIGNERS",
    "Account",
    "Billing",
    "Database",
    "Engine",
    "Kafka",
    "Keys",
    "Lake",
    "Landing",
    "NumberRange",
    "Receive",
    "Release",
    "ReleaseCaps",
    "Requests",
    "Sender",
    "Settings",
    "Source",
    "Stream",
    "Tenant",
    "Thresholds",
    "Topic",
    "Trunk",
    "Waves",
    "find",
    "host_port",
    "is_loopback",
    "load",
    "local_uri",
    "nearest",
]
