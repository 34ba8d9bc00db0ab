"""Packaging: Beam's --setup_file needs it here. Tools are set in pyproject.toml.

Here stand the versions that fit; requirements/ has those that `make`, CI and the image install (`make lock`).
"""

from pathlib import Path

from setuptools import find_packages, setup

RUNTIME = [
    "apache-beam==2.77.0",  # the job server of engine/ is tested with this one alone
    "pyarrow>=25.0.1,<26",
    "grpcio>=1.85,<2",
    "protobuf>=6.33,<7",
    "pandas>=3.1,<4",
    "numpy>=2.4,<3",
    "sqlalchemy>=2.1,<3",
    "alembic>=1.20,<2",
    "cryptography>=50,<51",
    "typer>=0.29,<1",
    "rich>=15,<16",
    "jinja2>=3.1,<4",
    "markupsafe>=3.0,<4",
    "pydantic>=2.14,<3",
    "pydantic-core>=2.50,<3",
    "annotated-types>=0.7,<1",
    "pydantic-settings>=2.16,<3",
    "duckdb>=2.0,<3",
    "phonenumbers>=9.0.43,<10",
    "zstandard>=0.25,<1",
    "prometheus-client>=0.26,<1",
    "tzdata>=2026.3",
]
# What a part of callward needs, for those who use that part: callward/extras.py names them to who does not have them.
OPTIONAL = {
    "release": ["opendp>=0.16,<0.17"],  # 265 MB
    "kafka": ["confluent-kafka>=2.16,<3"],
    "receive": ["aiohttp>=3.14,<4"],
    "postgresql": ["pg8000>=1.31,<2"],  # BSD; psycopg is LGPL
}
DEV = [
    "pytest>=9.2,<10",
    "pytest-xdist>=3.8,<4",
    "hypothesis>=6.170,<7",
    "moto[server]>=5.2,<6",
    "ruff>=0.17.6,<0.18",
    "mypy>=2.4,<2.5",
    "types-grpcio>=1.85",
    "types-protobuf>=7.35",
    "pip-audit>=2.10,<3",
    "uv>=0.13,<0.14",
]
ALL = [requirement for requirements in OPTIONAL.values() for requirement in requirements]
EXTRAS = {**OPTIONAL, "all": ALL, "dev": [*ALL, *DEV]}
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
