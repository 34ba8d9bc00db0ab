"""The Flink job server and its options: it starts, ends with us, leaves nothing, and says in a sentence what fails."""

import os
import signal
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from apache_beam.options.pipeline_options import PipelineOptions, PortableOptions

from callward.errors import Problem
from callward.settings import Engine, Settings
from pipelines.engine import flink

ROOT = Path(__file__).resolve().parents[3]
# What engine.md found that a stream on Flink hangs or loses its state without.
STREAM_MUST = (
    "--streaming",
    "--finish_bundle_before_checkpointing",
    "--state_backend=rocksdb",
    "--checkpointing_interval=",
    "--state_backend_storage_path=",
    "--max_parallelism=",
    "--parallelism=",
    "--number_of_execution_retries=",
)


def settings_in(folder: Path, **engine: object) -> Settings:
    return Settings(path=folder / "callward.toml", engine=Engine(**{"runner": "FlinkRunner", **engine}))


def rooms(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "engine").iterdir() if path.is_dir())


def listens(endpoint: str) -> bool:
    host, _, port = endpoint.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=1).close()
    except OSError:
        return False
    return True


# -- options -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("master", ["[local]", "jobmanager:8081"])
def test_a_stream_has_the_options_that_it_hangs_without(master, tmp_path):
    given = flink.flags(settings_in(tmp_path, flink_master=master), streaming=True, endpoint="localhost:5")
    for option in STREAM_MUST:
        assert any(item.startswith(option) for item in given), option


def test_a_batch_keeps_no_checkpoints_and_fails_at_its_first_error(tmp_path):
    given = flink.flags(settings_in(tmp_path), streaming=False, endpoint="localhost:5")
    assert not [item for item in given if "checkpoint" in item]
    assert "--number_of_execution_retries=0" in given


def test_checkpoints_of_an_embedded_flink_lie_in_the_folder_that_goes_with_it(tmp_path):
    given = flink.flags(settings_in(tmp_path), streaming=True, endpoint="localhost:5")
    assert f"--state_backend_storage_path=file://{tmp_path}/engine/5/checkpoints" in given


def test_checkpoints_lie_where_the_settings_say(tmp_path):
    chosen = settings_in(tmp_path, flink_master="jobmanager:8081", checkpoint_uri="s3://kept/checkpoints")
    assert "--state_backend_storage_path=s3://kept/checkpoints" in flink.flags(chosen, streaming=True, endpoint="h:5")


def test_beam_reads_the_options(tmp_path):
    given = flink.flags(settings_in(tmp_path, workers=3), streaming=True, endpoint="localhost:5")
    options = PipelineOptions(given).view_as(PortableOptions)
    assert (options.job_endpoint, options.environment_type) == ("localhost:5", "PROCESS")
    assert int(options.sdk_worker_parallelism) == 3


def test_a_loopback_on_a_cluster_is_refused(tmp_path):
    chosen = settings_in(tmp_path, flink_master="jobmanager:8081", environment="LOOPBACK")
    with pytest.raises(Problem, match="LOOPBACK"):
        flink.flags(chosen, streaming=False, endpoint="localhost:5")


def test_a_worker_pool_is_named(tmp_path):
    given = flink.flags(settings_in(tmp_path, environment="EXTERNAL"), streaming=False, endpoint="localhost:5")
    assert {"--environment_type=EXTERNAL", "--environment_config=localhost:50000"} <= set(given)


def test_options_of_ones_own_come_last_so_that_they_win(tmp_path):
    chosen = settings_in(tmp_path, options=["--parallelism=7"])
    assert flink.flags(chosen, streaming=True, endpoint="localhost:5")[-1] == "--parallelism=7"


@pytest.mark.parametrize("master", ["jobmanager", "http://jobmanager:8081", "jobmanager:8081/x", "[auto]", ""])
def test_a_flink_master_is_local_or_a_host_with_its_port(master):
    with pytest.raises(ValueError):
        Engine(flink_master=master)


def test_the_worker_program_runs_this_installation_wherever_it_lies(tmp_path):
    folder = tmp_path / "a 'quoted' $folder"
    folder.mkdir()
    flink.flags(settings_in(folder), streaming=False, endpoint="localhost:5")
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run([folder / "engine" / "worker"], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 2 and "callward-worker" in done.stderr


# -- what it says ------------------------------------------------------------------------------------------------------


def test_a_jar_that_is_not_there_is_one_sentence(tmp_path):
    with pytest.raises(Problem, match=r"^no Flink job server .*nowhere\.jar; 'make engine' .*engine\.jar"):
        flink.jar(settings_in(tmp_path, jar="nowhere.jar"))


def test_a_java_that_is_not_there_is_one_sentence(monkeypatch, tmp_path):
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Problem, match=r"^Java is missing"):
        flink.java()


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("java.io.IOException: error=2, No such file or directory", "worker program"),
        ("java.lang.IllegalStateException: Process died with exit code 1", "worker program"),
        ("java.net.ConnectException: Connection refused", "does not answer"),
        ("java.lang.OutOfMemoryError: Java heap space", "memory"),
        ("java.lang.RuntimeException: SDK Harness connection lost.", "worker process was lost"),
    ],
)
def test_what_fails_in_flink_is_told_in_words(said, meant, tmp_path):
    text = f"RuntimeError: Pipeline BeamApp_1 failed in state FAILED: {said}"
    assert meant in str(flink.failure(settings_in(tmp_path), text))


def test_an_error_of_a_worker_is_its_own(tmp_path):
    text = "java.lang.RuntimeException: Error received from SDK harness: Traceback (most recent call last):\nValueError"
    assert flink.failure(settings_in(tmp_path), text) is None


# -- the server --------------------------------------------------------------------------------------------------------


def test_a_job_server_answers_and_leaves_its_log_alone(flink_jar, tmp_path):
    with flink.job_server(settings_in(tmp_path)) as endpoint:
        assert listens(endpoint)
        assert rooms(tmp_path) == [endpoint.rpartition(":")[2]]
    assert not listens(endpoint)
    assert rooms(tmp_path) == []
    (log,) = (tmp_path / "engine").glob("*.log")
    assert stat.S_IMODE(log.stat().st_mode) == 0o600


def test_a_job_server_that_does_not_start_names_its_log(flink_jar, tmp_path):
    with (
        pytest.raises(Problem, match=r"does not start; its output is in .*job-server-.*\.log"),
        flink.job_server(settings_in(tmp_path, java_options=["-XX:NoSuchOption"])),
    ):
        pass


def test_a_killed_commands_server_dies_and_its_folder_goes_with_the_next(flink_jar, tmp_path):
    program = f"""
import sys, time
from tests.pipelines.engine.test_flink import settings_in
from pathlib import Path
from pipelines.engine import flink
with flink.job_server(settings_in(Path({str(tmp_path)!r}))) as endpoint:
    print(endpoint, flush=True)
    time.sleep(60)
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, env=environment)
    assert command.stdout is not None
    endpoint = command.stdout.readline().strip()
    command.send_signal(signal.SIGKILL)
    command.wait()
    late = time.monotonic() + 20
    while listens(endpoint) and time.monotonic() < late:
        time.sleep(0.05)
    assert not listens(endpoint)
    assert rooms(tmp_path) == [endpoint.rpartition(":")[2]]
    with flink.job_server(settings_in(tmp_path)) as another:
        assert rooms(tmp_path) == [another.rpartition(":")[2]]


def test_pipelines_of_one_process_share_a_server(flink_jar, tmp_path):
    try:
        first = flink.lasting_job_server(settings_in(tmp_path))
        assert flink.lasting_job_server(settings_in(tmp_path)) == first
        other = flink.lasting_job_server(settings_in(tmp_path, workers=1))
        assert listens(other) and not listens(first)
    finally:
        flink.end_lasting()
    assert not listens(other)
