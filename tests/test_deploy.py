"""The files to deploy with name commands that exist and leave a stream the time that it needs to stop."""

import configparser
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from typer.main import get_command

from callward.settings import Receive, Stream
from pipelines.cli.main import app

DEPLOY = Path(__file__).resolve().parent.parent / "deploy"
SERVICES = sorted(DEPLOY.glob("systemd/*.service"))
MANIFESTS = sorted(DEPLOY.glob("kubernetes/*.yaml"))
KNOWN = set(get_command(app).commands)


def unit(path: Path) -> configparser.ConfigParser:
    read = configparser.ConfigParser(strict=False, interpolation=None)
    read.optionxform = str
    read.read_string(path.read_text(encoding="utf-8"))
    return read


def documents(name: str) -> list[dict]:
    yaml = pytest.importorskip("yaml")
    return list(yaml.safe_load_all((DEPLOY / "kubernetes" / name).read_text(encoding="utf-8")))


def of_kind(kind: str, name: str = "callward.yaml") -> list[dict]:
    return [document for document in documents(name) if document["kind"] == kind]


@pytest.mark.parametrize("path", SERVICES, ids=lambda path: path.name)
def test_a_service_runs_a_command_that_exists(path):
    program, command = unit(path)["Service"]["ExecStart"].split()[:2]
    assert program == "/opt/callward/bin/callward" and command in KNOWN


@pytest.mark.parametrize("path", SERVICES, ids=lambda path: path.name)
def test_a_service_names_a_page_that_exists(path):
    page = unit(path)["Unit"]["Documentation"].removeprefix("file:///opt/callward/")
    assert DEPLOY.parent.joinpath(page).is_file()


@pytest.mark.parametrize("path", SERVICES, ids=lambda path: path.name)
def test_a_service_lets_no_memory_reach_a_disk(path):
    service = unit(path)["Service"]
    assert (service["LimitCORE"], service["MemorySwapMax"], service["UMask"]) == ("0", "0", "0077")


@pytest.mark.parametrize("path", SERVICES, ids=lambda path: path.name)
def test_a_service_has_no_capability_and_only_the_calls_of_services(path):
    service = unit(path)["Service"]
    assert service["CapabilityBoundingSet"] == "" and service["NoNewPrivileges"] == "yes"
    assert (service["SystemCallFilter"], service["SystemCallArchitectures"]) == ("@system-service", "native")


def test_systemd_reads_the_units_without_a_complaint(tmp_path):
    """As it is where callward is installed: the program and the user are there."""
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd is not installed")
    for path in DEPLOY.glob("systemd/callward-*"):
        text = path.read_text(encoding="utf-8").replace("/opt/callward/bin/callward", "/bin/true")
        (tmp_path / path.name).write_text(text.replace("=callward\n", "=daemon\n"), encoding="utf-8")
    units = sorted(map(str, tmp_path.iterdir()))
    read = subprocess.run([analyze, "verify", "--man=no", *units], capture_output=True, text=True, check=False)
    about_ours = [line for line in read.stderr.splitlines() if "callward" in line]
    assert about_ours == [], read.stderr


@pytest.mark.parametrize("path", SERVICES, ids=lambda path: path.name)
def test_a_timer_has_its_service_and_a_service_starts_somehow(path):
    assert path.with_suffix(".timer").exists() or "Install" in unit(path)


def test_services_are_given_the_time_to_stop():
    stream, receive = (unit(DEPLOY / f"systemd/callward-{name}.service")["Service"] for name in ("stream", "receive"))
    assert int(stream["TimeoutStopSec"]) > Stream().stop_seconds
    assert int(receive["TimeoutStopSec"]) > Receive().stop_seconds
    assert stream["KillMode"] == "mixed", "the supervisor ends Flink itself"


def test_a_pod_is_given_the_time_to_stop():
    (stream,) = of_kind("Deployment")
    assert stream["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] > Stream().stop_seconds
    assert (stream["spec"]["replicas"], stream["spec"]["strategy"]) == (1, {"type": "Recreate"})


def test_pods_run_commands_that_exist():
    pods = [item["spec"]["template"]["spec"] for item in of_kind("Deployment")]
    pods += [item["spec"]["jobTemplate"]["spec"]["template"]["spec"] for item in of_kind("CronJob")]
    commands = [pod["containers"][0]["args"][:2] for pod in pods]
    assert commands and all(program == "callward" and command in KNOWN for program, command in commands)


def test_the_cluster_keeps_beam_out_of_the_memory_that_jobs_leave_behind():
    (cluster,) = of_kind("FlinkDeployment", "flink.yaml")
    assert cluster["spec"]["flinkConfiguration"]["classloader.resolve-order"] == "parent-first"
    assert "job-server-cluster.jar /opt/flink/lib/" in (DEPLOY / "kubernetes/Dockerfile.flink").read_text()


def test_only_who_submits_reaches_the_cluster():
    (policy,) = of_kind("NetworkPolicy", "flink.yaml")
    inside = [rule["from"] for rule in policy["spec"]["ingress"] if "from" in rule]
    assert all("podSelector" in source for rule in inside for source in rule)
    assert [rule["ports"] for rule in policy["spec"]["ingress"] if "from" not in rule] == [[{"port": 9249}]]


@pytest.mark.parametrize("path", [*SERVICES, *MANIFESTS], ids=lambda path: path.name)
def test_options_in_the_files_exist(path):
    flags = set(re.findall(r"ExecStart=.*? (--[a-z-]+)|callward, [a-z]+, (--[a-z-]+)", path.read_text()))
    assert {flag for pair in flags for flag in pair if flag} <= {"--json"}
