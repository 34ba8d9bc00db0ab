"""What a running stream answers by HTTP, asked over real HTTP: metrics, health and readiness, whatever is away."""

import json
import re
import socket
import sqlite3
import threading
import time
import urllib.error
import urllib.request
from contextlib import closing, contextmanager
from datetime import timedelta
from http.client import HTTPConnection
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import insert, update

from callward import database, runs
from callward.errors import Problem
from callward.settings import host_port
from callward.streaming import metrics as watching
from pipelines.stream import metrics_server as monitors
from schemas.streaming import block_slices, kafka_inputs, stream_counts, streams
from schemas.tables import blocks, input_files

ROOT = Path(__file__).resolve().parents[3]
LEASES = ["kafka/cdr-east", "source/asterisk"]


def free_port():
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        return made.getsockname()[1]


@pytest.fixture
def site(workspace):
    made = workspace("asterisk", "cucm")
    made.set(stream={"metrics": f"127.0.0.1:{free_port()}"})
    return made


def begin(site, age_s=30.0):
    """A stream at work: a block of a topic of two slices, one of them committed, the oldest of it `age_s` old."""
    run_id = runs.start(site.settings, "stream", LEASES)
    now = database.now()
    counters = {"commits": 7, "retries": 2, "rows": 40, "suspended": 3, "last_commit_at": now}
    row = {"sources": json.dumps(LEASES), "engine": "[local]", "started_at": now - timedelta(hours=1)}
    file = {"source": "cucm", "name": "x", "name_sealed": b"", "name_id": "x", "size": 0, "modified_ns": 0}
    file |= {"status": "reading", "path_form": "kafka", "run_id": run_id, "seen_at": now}
    with database.writing(site.settings) as connection:
        connection.execute(insert(streams).values(run_id=run_id, **row, **counters))
        file_no = connection.execute(insert(input_files).values(**file)).inserted_primary_key[0]
        connection.execute(insert(kafka_inputs).values(file_no=file_no, topic="cdr-east", partition=0))
        block = {"file_no": file_no, "run_id": run_id, "registered_at": now, "generation": 1, "bytes": 700, "slices": 2}
        block["oldest_at"] = now - timedelta(seconds=age_s)
        connection.execute(insert(blocks).values(block=0, first=0, last=50, committed_by=run_id, **block))
        connection.execute(insert(blocks).values(block=1, first=50, last=90, **block))
        done = {"file_no": file_no, "run_id": run_id, "committed_at": now, "rows": 20}
        connection.execute(insert(block_slices).values(block=1, slice=0, **done))
        for bucket, code, rows in (("in", "", 40), ("suspended", "TIME", 3), ("accepted", "", 37)):
            counted = {"run_id": run_id, "source": "cucm", "bucket": bucket, "code": code, "rows": rows}
            connection.execute(insert(stream_counts).values(**counted))
    return run_id


def ask(address, path, method="GET"):
    """(status, headers, body) of a request."""
    request = urllib.request.Request(f"http://{address}{path}", method=method)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code, refused.headers, refused.read()


def scrape(monitor):
    """{(metric's name, labels): value} of /metrics, as Prometheus reads it."""
    status, _, body = ask(monitor.address, "/metrics")
    assert status == 200
    families = list(text_string_to_metric_families(body.decode()))
    return {(s.name, *sorted(s.labels.items())): s.value for family in families for s in family.samples}


def of(metrics, name, **labels):
    return metrics.get((monitors.PREFIX + name, *sorted(labels.items())))


def until(check, patience_s=30):
    """Wait until `check()` holds; what is checked comes from another thread."""
    deadline = time.monotonic() + patience_s
    while not check():
        assert time.monotonic() < deadline, "it did not come to hold"
        time.sleep(0.05)


def high(mark):
    return lambda: {("cdr-east", 0): (0, mark), ("cdr-east", 1): (5, 9)}


# -- figures -----------------------------------------------------------------------------------------------------------


def test_metrics_are_the_figures(site):
    run_id = begin(site)
    with monitors.serve(site.settings, run_id, high(100)) as monitor:
        monitor.heartbeat(job_runs=True)
        metrics = scrape(monitor)
        with database.reading(site.settings) as connection:
            now = watching.figures(connection, run_id, high(100)())
    assert (of(metrics, "up"), of(metrics, "job_running"), of(metrics, "broker_up")) == (1, 1, 1)
    assert (of(metrics, "commits_total"), of(metrics, "retries_total")) == (now.commits, now.retries) == (7, 2)
    assert of(metrics, "suspended_records_total", source="cucm", code="TIME") == 3
    for source in now.sources:
        told = {name: of(metrics, name, source=source.source) for name, *_ in monitors._OF_SOURCES}
        assert told["blocks_in_flight"] == source.blocks
        assert told["bytes_in_flight"] == source.bytes
        assert told["slices_waiting"] == source.slices
        assert told["freshness_seconds"] == pytest.approx(source.freshness_s, abs=30)
        assert of(metrics, "records_total", source=source.source) == source.rows
    assert {s.source for s in now.sources} == {"cucm", "asterisk"}
    for p in now.partitions:
        labels = {"topic": p.topic, "partition": str(p.partition)}
        assert of(metrics, "lag_records", **labels) == p.lag
        assert of(metrics, "next_offset", **labels) == p.next_offset
        assert of(metrics, "committed_offset", **labels) == p.committed_offset
        assert of(metrics, "missed_records", **labels) == p.missed
    assert [(p.partition, p.lag) for p in now.partitions] == [(0, 50), (1, 4)]


def test_labels_are_sources_topics_partitions_and_codes_alone(site):
    with monitors.serve(site.settings, begin(site), high(100)) as monitor:
        metrics = scrape(monitor)
    ours = [key for key in metrics if key[0].startswith(monitors.PREFIX)]
    labels = {(name, value) for key in ours for name, value in key[1:]}
    sources = {("source", "cucm"), ("source", "asterisk")}
    assert labels == sources | {("code", "TIME"), ("topic", "cdr-east"), ("partition", "0"), ("partition", "1")}


@pytest.mark.parametrize("away", [lambda: 1 / 0, dict], ids=["it fails", "it says nothing"])
def test_a_broker_that_is_away_makes_lags_unknown_and_not_zero(site, away):
    with monitors.serve(site.settings, begin(site), away) as monitor:
        metrics = scrape(monitor)
    assert of(metrics, "up") == 1
    assert of(metrics, "broker_up") == (0 if away is not dict else 1)
    assert of(metrics, "next_offset", topic="cdr-east", partition="0") == 90
    assert of(metrics, "lag_records", topic="cdr-east", partition="0") is None
    assert of(metrics, "missed_records", topic="cdr-east", partition="0") is None


def test_a_broker_that_hangs_delays_no_figure_of_the_database(site):
    answered = threading.Event()
    with monitors.serve(site.settings, begin(site), answered.wait) as monitor:
        metrics = scrape(monitor)
        answered.set()
    assert (of(metrics, "up"), of(metrics, "broker_up")) == (1, 0)
    assert of(metrics, "blocks_in_flight", source="cucm") == 1


# -- a database that is away -------------------------------------------------------------------------------------------


def file_of(site):
    return site.settings.database_file


@contextmanager
def locked(site):
    """The database as one that nobody may even read."""
    database.engine(site.settings).dispose()
    with closing(sqlite3.connect(file_of(site), isolation_level=None)) as connection:
        connection.execute("PRAGMA locking_mode=EXCLUSIVE")
        connection.execute("BEGIN EXCLUSIVE")
        yield
        connection.execute("ROLLBACK")


def test_a_locked_database_is_not_waited_for(site):
    """The last figures are told, as old ones, and again as new ones when the lock is gone."""
    with monitors.serve(site.settings, begin(site), keep_s=0.1) as monitor:
        monitor.heartbeat(job_runs=True)
        assert of(scrape(monitor), "up") == 1
        with locked(site):
            until(lambda: of(scrape(monitor), "up") == 0)
            old = scrape(monitor)
            assert of(old, "blocks_in_flight", source="cucm") == 1
            assert of(old, "figures_age_seconds") > 0
            status, _, body = ask(monitor.address, "/readyz")
            assert (status, json.loads(body)["reasons"]) == (503, ["the database does not answer"])
            assert ask(monitor.address, "/healthz")[0] == 200
        until(lambda: of(scrape(monitor), "up") == 1)


def test_a_database_that_is_gone_leaves_the_last_figures(site):
    run_id = begin(site)
    with monitors.serve(site.settings, run_id, keep_s=0.1) as monitor:
        assert of(scrape(monitor), "up") == 1
        away = file_of(site).rename(file_of(site).with_suffix(".away"))
        until(lambda: of(scrape(monitor), "up") == 0)
        assert of(scrape(monitor), "commits_total") == 7
        away.rename(file_of(site))
        until(lambda: of(scrape(monitor), "up") == 1)


def test_a_stream_that_the_database_does_not_know_has_no_figures(site):
    with monitors.serve(site.settings, "nosuchrun") as monitor:
        metrics = scrape(monitor)
    assert of(metrics, "up") == 0 and of(metrics, "commits_total") is None


# -- health and readiness ----------------------------------------------------------------------------------------------


def ready(monitor):
    status, _, body = ask(monitor.address, "/readyz")
    document = json.loads(body)
    assert document["ready"] == (status == 200) == (not document["reasons"])
    return document["reasons"]


def test_ready_is_a_job_that_runs_and_is_fresh(site):
    run_id = begin(site, age_s=30)
    with monitors.serve(site.settings, run_id, keep_s=0.05) as monitor:
        assert ready(monitor) == ["the job does not run"]
        monitor.heartbeat(job_runs=True)
        assert ready(monitor) == []
        with database.writing(site.settings) as connection:
            old = database.now() - timedelta(seconds=site.settings.stream.fresh_seconds + 60)
            connection.execute(update(blocks).values(oldest_at=old))
        until(lambda: ready(monitor) == ["records wait longer than fresh_seconds"])
        with database.writing(site.settings) as connection:
            connection.execute(update(blocks).values(oldest_at=database.now()))
            connection.execute(update(streams).values(stop_requested_at=database.now()))
        until(lambda: ready(monitor) == ["a stop was asked for"])
        monitor.heartbeat(job_runs=False)
        assert ready(monitor) == ["the job does not run", "a stop was asked for"]


def test_a_supervisor_that_hangs_is_not_healthy(site, monkeypatch):
    with monitors.serve(site.settings, begin(site)) as monitor:
        monitor.heartbeat(job_runs=True)
        assert ask(monitor.address, "/healthz")[0] == 200
        monkeypatch.setattr(monitors, "_HEARTBEAT_S", -1.0)
        status, _, body = ask(monitor.address, "/healthz")
        assert (status, json.loads(body)["healthy"]) == (503, False)
        assert "the supervisor hangs" in ready(monitor)


# -- the server --------------------------------------------------------------------------------------------------------


def test_nothing_is_served_where_the_settings_name_no_address(site):
    site.set(stream={"metrics": ""})
    with monitors.serve(site.settings, "any") as monitor:
        monitor.heartbeat(job_runs=True)
        assert monitor.address is None and monitor.health()["healthy"]


def test_an_address_that_is_taken_is_one_sentence(site):
    with (
        monitors.serve(site.settings, "any"),
        pytest.raises(Problem, match=r"\[stream\] metrics: 127\.0\.0\.1:\d+ cannot be had"),
        monitors.serve(site.settings, "any"),
    ):
        pass
    with monitors.serve(site.settings, "any") as monitor:  # and it is free again at the end
        assert ask(monitor.address, "/healthz")[0] == 200


def test_other_paths_and_methods_are_refused(site):
    with monitors.serve(site.settings, "any") as monitor:
        assert ask(monitor.address, "/")[0] == 404
        assert ask(monitor.address, "/metrics?x=1")[0] == 200
        assert ask(monitor.address, "/healthz", "POST")[0] == 501
        status, headers, body = ask(monitor.address, "/healthz", "HEAD")
        assert (status, body) == (200, b"") and int(headers["Content-Length"]) > 0
        assert headers["Server"].strip() == "callward"


def test_clients_that_hold_on_to_their_connections_do_not_shut_out_others_for_ever(site, monkeypatch):
    monkeypatch.setattr(monitors._Handler, "timeout", 0.3)
    with monitors.serve(site.settings, "any") as monitor:
        held = [socket.create_connection(host_port(monitor.address)) for _ in range(monitors._CLIENTS + 3)]
        until(lambda: answers(monitor))
        for connection in held:
            connection.close()


def answers(monitor):
    connection = HTTPConnection(monitor.address, timeout=5)
    try:
        connection.request("GET", "/healthz")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def test_ipv6(site):
    with socket.socket(socket.AF_INET6) as made:
        try:
            made.bind(("::1", 0))
        except OSError:
            pytest.skip("this machine has no IPv6")
        port = made.getsockname()[1]
    site.set(stream={"metrics": f"[::1]:{port}"})
    with monitors.serve(site.settings, "any") as monitor:
        assert ask(monitor.address, "/healthz")[0] == 200


# -- what is deployed with it ------------------------------------------------------------------------------------------

_NAMED = re.compile(r"\b(?:callward_stream|process)_[a-z_]+")
DASHBOARD, ALERTS = ROOT / "deploy/grafana/callward-stream.json", ROOT / "deploy/prometheus/alerts.yml"


@pytest.fixture
def exported(site):
    """Names of all metrics that a stream exports."""
    with monitors.serve(site.settings, begin(site), high(100)) as monitor:
        return {key[0] for key in scrape(monitor)}


def panels(board):
    for panel in board["panels"]:
        yield panel
        yield from panel.get("panels", [])


def test_every_metric_on_the_dashboard_is_exported_and_every_one_exported_is_explained(exported):
    board = json.loads(DASHBOARD.read_text())
    named = {name for panel in panels(board) for t in panel.get("targets", []) for name in _NAMED.findall(t["expr"])}
    assert named and named - exported == set()
    explained = set(_NAMED.findall((ROOT / "docs/monitoring.md").read_text()))
    ours = {name for name in exported if name.startswith(monitors.PREFIX)}
    assert ours - explained == set()
    assert {name for name in explained if name.startswith(monitors.PREFIX)} - ours == set()


def test_panels_of_the_dashboard_have_places_of_their_own_and_questions():
    board = json.loads(DASHBOARD.read_text())
    places = [panel["gridPos"] for panel in board["panels"]]
    squares = [(x, y) for p in places for x in range(p["x"], p["x"] + p["w"]) for y in range(p["y"], p["y"] + p["h"])]
    assert len(squares) == len(set(squares)) and all(x < 24 for x, _ in squares)
    ids = [panel["id"] for panel in board["panels"]]
    assert len(ids) == len(set(ids))
    assert all(panel["targets"] for panel in board["panels"] if panel["type"] != "row")


def test_every_alert_is_about_exported_metrics_and_is_explained(exported):
    rules = [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]
    text = (ROOT / "docs/monitoring.md").read_text()
    assert len({rule["alert"] for rule in rules}) == len(rules)
    for rule in rules:
        named = set(_NAMED.findall(rule["expr"]))
        assert named and named - exported == set(), rule["alert"]
        assert rule["labels"]["severity"] in ("page", "ticket")
        assert rule["annotations"]["summary"].endswith(".")
        assert f"`{rule['alert']}`" in text
    about = " ".join(rule["expr"] for rule in rules)
    for figure in ("freshness_seconds", "lag_records", "retries_total", "last_commit_time", "suspended_records_total"):
        assert monitors.PREFIX + figure in about
