"""Parquet modular encryption with throw-away keys, as the lake uses it: what the floor and the rival write."""

import base64
import os

import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.parquet.encryption as pe
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_KEY_ID = "bench"


class _OneKey(pe.KmsClient):
    def __init__(self, secret: bytes) -> None:
        super().__init__()
        self._cipher = AESGCM(secret)

    def wrap_key(self, key: bytes, key_id: str) -> str:
        nonce = os.urandom(12)
        return base64.b64encode(nonce + self._cipher.encrypt(nonce, key, key_id.encode())).decode()

    def unwrap_key(self, wrapped: str, key_id: str) -> bytes:
        blob = base64.b64decode(wrapped)
        return self._cipher.decrypt(blob[:12], blob[12:], key_id.encode())


def writer(path: str, schema: pa.Schema) -> pq.ParquetWriter:
    """A writer of one file: AES_GCM_V1 with 256-bit keys, encrypted footer, every column encrypted, zstd level 1."""
    secret = AESGCM.generate_key(256)
    factory = pe.CryptoFactory(lambda _: _OneKey(secret))
    configuration = pe.EncryptionConfiguration(
        footer_key=_KEY_ID,
        uniform_encryption=True,
        encryption_algorithm="AES_GCM_V1",
        double_wrapping=False,
        data_key_length_bits=256,
    )
    properties = factory.file_encryption_properties(pe.KmsConnectionConfig(), configuration)
    return pq.ParquetWriter(path, schema, compression="zstd", compression_level=1, encryption_properties=properties)
