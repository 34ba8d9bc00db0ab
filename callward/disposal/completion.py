"""The forward part of every disposal: remove the files, destroy the keys, certify. Killed anywhere, it is done again.

Each step finds what the one before left done, so a disposal in state `removing` is completed from the beginning.
"""

from collections.abc import Sequence
from datetime import date

from sqlalchemy import Connection

from callward import database, runs
from callward.disposal import record
from callward.disposal.record import Disposal, Status
from callward.evidence import certificates
from callward.evidence.certificates import Certificate, Facts
from callward.failpoints import point
from callward.keys import exports, rotation, signing
from callward.keys.rotation import Tombstone
from callward.lake import ledger
from callward.lake.removal import FileOnDisk, removing
from callward.settings import Settings


class Particulars:
    """What is particular to the disposals of one reason, from `removing` on; unless said otherwise, nothing."""

    def sentence(self, disposal: Disposal) -> str:
        """Return why the keys go, for the registers of keys and exports."""
        return f"{disposal.reason} {disposal.disposal_id}"

    def files(self, connection: Connection, disposal: Disposal) -> Sequence[FileOnDisk]:
        """Return data files that are still on the disk and must go."""
        return []

    def other_files(self, disposal: Disposal) -> Sequence[str]:
        """Return paths of the lake that no register names and that go as well."""
        return []

    def delete_rows(self, connection: Connection, disposal: Disposal) -> None:
        """Delete rows of the database that go with the files."""

    def key_ids(self, disposal: Disposal) -> Sequence[str]:
        """Return the keys to be destroyed."""
        return []

    def facts(self, settings: Settings, disposal: Disposal, tombstones: Sequence[Tombstone]) -> Facts:
        """Return what the certificate states that no register knows."""
        return Facts(tombstones)

    def end(self, connection: Connection, disposal: Disposal, certificate: Certificate) -> None:
        """Do what belongs into the transaction that ends the disposal."""


def check(settings: Settings) -> None:
    """Raise Problem, before anything is changed, where a certificate could not be signed or an export not written."""
    exports.check(settings)
    signing.sign(settings, certificates.SIGNER, b"callward/disposal/check")


def complete(settings: Settings, disposal: Disposal, particulars: Particulars, run_id: str, today: date) -> Certificate:
    """Bring a disposal from `removing` to its end; returns its certificate. The lease of `run_id` is kept."""
    _remove(settings, disposal, particulars, run_id)
    sentence, key_ids = particulars.sentence(disposal), particulars.key_ids(disposal)
    tombstones = rotation.destroy(settings, key_ids, role=record.ROLE, reason=sentence) if key_ids else []
    point("disposal-keys-destroyed")
    facts = particulars.facts(settings, disposal, tombstones)
    certificate = certificates.issue(settings, disposal.disposal_id, facts, today)
    point("disposal-certified")
    exports.write(settings, sentence)
    with database.writing(settings) as connection:
        particulars.end(connection, disposal, certificate)
        status = Status.DONE if certificate.status == "complete" else Status.PARTIAL
        record.move(connection, disposal.disposal_id, status, certificate_id=certificate.certificate_id)
    point("disposal-finished")
    return certificate


def _remove(settings: Settings, disposal: Disposal, particulars: Particulars, run_id: str) -> None:
    with database.reading(settings) as connection:
        files = particulars.files(connection, disposal)
    for _ in removing(settings, [file.path for file in files], particulars.other_files(disposal)):
        point("disposal-file-removed")
    with database.writing(settings) as connection:
        runs.renew(connection, run_id)
        ledger.note_removed(connection, [file.file_id for file in files])
        particulars.delete_rows(connection, disposal)
        record.note_removed(connection, disposal.disposal_id)
    point("disposal-files-removed")
