"""Packaging. Beam's --setup_file needs it here; the tools' settings are in pyproject.toml. Versions are pinned here alone."""

from setuptools import setup

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
    "pydantic==2.14.3",
    "duckdb==2.0.0",
    "phonenumbers==9.0.43",
    "zstandard==0.25.0",
    "tzdata",
]
EXTRAS = {
    "postgresql": ["pg8000==1.31.6"],  # BSD; psycopg is LGPL
    "dev": ["pytest==9.2.0", "hypothesis==6.170.15", "ruff==0.17.6", "mypy==2.4.1", "pg8000==1.31.6"],
}

setup(
    name="callward",
    version="0.1.0",
    description="CPNI-compliant pipeline for call-detail records",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=["schemas", "callward", "callward.feeds", "callward.migrations", "callward.migrations.versions", "transforms", "pipelines"],
    package_data={"schemas": ["sources/*.toml"], "callward.migrations": ["*.mako"]},
    install_requires=RUNTIME,
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["callward = pipelines.cli:main"]},
)
