"""Packaging: Beam's --setup_file needs it here. Versions are pinned here alone; tools are set in pyproject.toml."""

from pathlib import Path

from setuptools import find_packages, setup

RUNTIME = [
    "apache-beam==2.77.0",
    "pyarrow==25.0.1",  # Beam needs < 26
    "pandas==3.1.1",
    "numpy==2.4.6",
    "sqlalchemy==2.1.9",
    "alembic==1.20.1",
    "cryptography==50.0.2",
    "typer==0.29.2",
    "rich==15.0.0",
    "jinja2==3.1.6",
    "pydantic==2.14.3",
    "duckdb==2.0.0",
    "phonenumbers==9.0.43",
    "zstandard==0.25.0",
    "confluent-kafka==2.16.1",
    "aiohttp==3.14.5",
    "prometheus-client==0.26.0",
    "opendp==0.16.0",
    "tzdata",
]
POSTGRESQL = ["pg8000==1.31.6"]  # BSD; psycopg is LGPL
EXTRAS = {
    "postgresql": POSTGRESQL,
    "dev": [
        *("pytest==9.2.0", "pytest-xdist==3.8.0", "hypothesis==6.170.15", "moto[server]==5.2.5"),
        *("ruff==0.17.6", "mypy==2.4.1", "types-grpcio==1.85.0.20261028", "types-protobuf==7.35.1.20260906"),
        *POSTGRESQL,
    ],
}
# The four top folders, installed as they are named, and everything in them.
FOLDERS = ("schemas", "callward", "transforms", "pipelines")

setup(
    name="callward",
    version="0.1.0",
    description="CPNI-compliant pipeline for call-detail records",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Environment :: Console",
        "Intended Audience :: Telecommunications Industry",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.11",
        "Topic :: Communications :: Telephony",
        "Topic :: Security :: Cryptography",
    ],
    python_requires=">=3.11",
    packages=find_packages(include=[pattern for name in FOLDERS for pattern in (name, f"{name}.*")]),
    package_data={
        "schemas": ["sources/*.toml", "policies/*.toml", "hotlines/*.toml", "domains/*.toml", "releases/*.toml"],
        "callward.migrations": ["*.mako"],
        "callward.pages": ["templates/*"],
    },
    install_requires=RUNTIME,
    extras_require=EXTRAS,
    entry_points={
        "console_scripts": ["callward = pipelines.cli.main:main", "callward-worker = pipelines.engine.worker:main"]
    },
)
