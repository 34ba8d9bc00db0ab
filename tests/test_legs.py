"""Who is charged for a call of several legs: the same, whatever order and night its records come in (docs/legs.md)."""

import json
import random
import signal
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from callward.lake.data_files import DataFiles
from callward.settings import Trunk
from pipelines.suspense.choose import choose
from schemas.cdr import ROLES
from schemas.tables import assurance_trunk_hourly, key_columns, sum_columns
from schemas.views import INDEX, NOT_CHARGED, UNCHARGED, VIEW_BITS
from tests.commands import run
from tests.conftest import Site, source
from tests.examples import tries
from tests.streams import inline
from transforms.legs import Legs, decide

NOON = 1_772_712_000  # 2026-03-05 12:00 UTC
MIDNIGHT = 1_772_755_200  # 2026-03-06 00:00 UTC
MORNING = 1_772_865_600_000  # 2026-03-07 06:40 UTC
TRUNKS = assurance_trunk_hourly.name


def fs(
    uuid: str, call: str = "", at: int = NOON, ring: int = 5, talk: int = 30, to: int = 2, bridged: int = 0, **more: str
) -> str:
    """A line of mod_json_cdr: a leg that rang and talked so many seconds; one of a call that it does not name is a
    b-leg. `to`: the end of the number called; `bridged`: when it was connected to another leg."""
    answer, end = at + ring if talk else 0, at + ring + talk
    variables = {
        "uuid": uuid,
        "call_uuid": call or uuid,
        "direction": "outbound" if call else "inbound",
        "caller_id_number": "13035550101",
        "destination_number": f"130355501{to:02}",
        "accountcode": "ac-0001",
        "hangup_cause": "NORMAL_CLEARING" if talk else "USER_BUSY",
        "duration": str(ring + talk),
        "billmsec": str(talk * 1000),
        **{f"{name}_uepoch": str(s * 1_000_000) for name, s in (("start", at), ("answer", answer), ("end", end))},
        "bridge_uepoch": str(bridged * 1_000_000),
    }
    return json.dumps({"variables": variables | more}) + "\n"


def take_in(site: Site, *nights: Sequence[str], feed: str = "freeswitch_json") -> Site:
    """Take in a file a night."""
    for number, lines in enumerate(nights):
        site.land(feed, f"f{number}", (HEADS.get(feed, "") + "".join(lines)).encode())
        site.night(MORNING)
        check(site)
    return site


def check(site: Site) -> None:
    """Nothing is lost, the derived tables are what the views say, and the index knows which rows there are."""
    assert not site.unbalanced() and site.differing() == 0
    parts = Counter(part for row in index(site).to_pylist() for part in _parts(row))
    stored = ("billing", UNCHARGED, "assurance")
    assert parts == {part: site.view(part).num_rows for part in stored if site.view(part).num_rows}


def _parts(row: dict[str, Any]) -> list[str]:
    of_billing = UNCHARGED if row["kind"] in NOT_CHARGED else "billing"
    names = {"billing": of_billing, "assurance": "assurance"}
    return [names[view] for view in VIEW_BITS if row["parts"] & VIEW_BITS[view]]


def index(site: Site) -> pa.Table:
    files = DataFiles(site.opened, "test")
    tables = [files.rows(file) for file in site.data_files(INDEX)]
    order = [(name, "ascending") for name in ("record_id", "state", "content")]
    return pa.concat_tables(tables, promote_options="permissive").sort_by(order)


def charges(site: Site) -> Counter:
    """How often each number was charged for how many seconds, by the end of the number called."""
    rows = site.view("billing").to_pylist()
    return Counter((int(row["called_number"][-2:]), row["talk_ms"] // 1000) for row in rows)


# What FreeSWITCH writes of a call, and what of it is charged: (end of the number called, seconds).
FREESWITCH = {
    "a-leg, and a b-leg that was answered": (
        lambda n: [fs(f"a{n}", to=10), fs(f"b{n}", f"a{n}", at=NOON + 1, ring=4, to=11)],
        [(10, 30)],
    ),
    "route advance: an attempt failed, the next was answered": (
        lambda n: [
            fs(f"a{n}", to=12),
            fs(f"b{n}", f"a{n}", at=NOON + 1, talk=0, to=13),
            fs(f"c{n}", f"a{n}", at=NOON + 2, ring=3, to=13),
        ],
        [(12, 30)],
    ),
    "b-leg alone: originate, click to call": (lambda n: [fs(f"b{n}", direction="outbound", to=14)], [(14, 30)]),
    "a-leg that was never answered": (
        lambda n: [fs(f"a{n}", talk=0, to=15), fs(f"b{n}", f"a{n}", at=NOON + 1, to=16)],
        [(16, 30)],
    ),
    "a-leg that was never logged, and two b-legs one after the other": (
        lambda n: [fs(f"b{n}", f"a{n}", to=17), fs(f"c{n}", f"a{n}", at=NOON + 60, talk=60, to=18)],
        [(17, 90)],
    ),
    "legs on two sides of midnight": (
        lambda n: [fs(f"a{n}", at=MIDNIGHT - 3, to=19), fs(f"b{n}", f"a{n}", at=MIDNIGHT + 1, ring=1, to=20)],
        [(19, 30)],
    ),
    "nobody answered": (lambda n: [fs(f"a{n}", talk=0, to=21), fs(f"b{n}", f"a{n}", talk=0, to=21)], []),
    "records that come twice": (
        lambda n: [fs(f"a{n}", to=22), fs(f"b{n}", f"a{n}", at=NOON + 1)] * 2,
        [(22, 30)],
    ),
    "an a-leg of which two versions would be charged differently": (
        lambda n: [fs(f"a{n}", to=23), fs(f"a{n}", to=23, talk=31), fs(f"b{n}", f"a{n}", at=NOON + 1, to=24)],
        [],
    ),
    "an a-leg whose first version was not answered": (
        lambda n: [fs(f"a{n}", to=25, talk=0), fs(f"a{n}", to=25), fs(f"b{n}", f"a{n}", at=NOON + 1, to=26)],
        [(25, 30)],
    ),
    "a queue, with an agent behind a gateway": (
        lambda n: [
            fs(f"a{n}", to=27),
            fs(f"b{n}", f"x{n}", cc_member_session_uuid=f"a{n}", cc_side="agent", talk=0, to=28),
            fs(f"c{n}", f"y{n}", at=NOON + 9, cc_member_session_uuid=f"a{n}", cc_side="agent", talk=20, to=29),
            fs(
                f"d{n}", f"z{n}", at=NOON + 19, talk=9, to=30,
                cc_member_session_uuid=f"a{n}", cc_side="agent", sip_gateway_name="northwind",
            ),
        ],
        [(27, 30), (30, 9)],
    ),
    "halves of a loopback channel": (
        lambda n: [
            fs(f"a{n}", to=31),
            fs(f"b{n}", channel_name="loopback/9-a"),
            fs(f"c{n}", channel_name="loopback/9-b"),
        ],
        [(31, 30)],
    ),
    "outbound through a loopback channel, across which the dialplan exported the call": (
        lambda n: [
            fs(f"a{n}", to=34, parent_call_uuid=f"a{n}"),
            fs(f"b{n}", f"a{n}", channel_name="loopback/9-a", parent_call_uuid=f"a{n}", to=35),
            fs(f"c{n}", channel_name="loopback/9-b", parent_call_uuid=f"a{n}", to=35),
            fs(f"d{n}", f"c{n}", at=NOON + 2, sip_gateway_name="eastern", parent_call_uuid=f"a{n}", to=35),
        ],
        [(34, 30)],
    ),
    "forwarded abroad, and transferred on by whom it was forwarded to": (
        lambda n: [
            fs(f"a{n}", to=36, talk=90, call_direction="inbound"),
            fs(f"b{n}", f"a{n}", at=NOON + 2, to=37, talk=40, sip_gateway_name="eastern", call_direction="inbound"),
            fs(f"c{n}", f"a{n}", at=NOON + 50, to=38, sip_gateway_name="eastern", call_direction="inbound"),
            fs(f"d{n}", f"a{n}", at=NOON + 80, to=39, talk=10, call_direction="inbound"),
        ],
        [(36, 90), (37, 40), (38, 30)],
    ),
    "the dialplan answers, and dials: the far end answers later, on the second route": (
        lambda n: [
            fs(f"a{n}", to=41, ring=1, talk=80),
            fs(f"b{n}", f"a{n}", at=NOON + 2, talk=0, to=41),
            fs(f"c{n}", f"a{n}", at=NOON + 9, ring=20, talk=50, to=41),
        ],
        [(41, 50)],
    ),
    "the same for a call that came from outside: it is answered by the dialplan": (
        lambda n: [
            fs(f"a{n}", to=42, ring=1, talk=80, call_direction="inbound"),
            fs(f"b{n}", f"a{n}", at=NOON + 9, ring=20, talk=50, to=43, call_direction="inbound"),
        ],
        [(42, 80)],
    ),
    "the same inside: an extension is no far end": (
        lambda n: [
            fs(f"a{n}", to=44, ring=1, talk=80),
            fs(f"b{n}", f"a{n}", at=NOON + 9, ring=20, talk=50, destination_number="1001"),
        ],
        [(44, 80)],
    ),
    "the dialplan answers, and dials: nobody answers on any route": (
        lambda n: [
            fs(f"a{n}", to=47, ring=1, talk=80),
            fs(f"b{n}", f"a{n}", at=NOON + 2, talk=0, to=47),
            fs(f"c{n}", f"a{n}", at=NOON + 9, talk=0, to=47),
        ],
        [],
    ),
    "the same for a call that came from outside: it talked to the dialplan": (
        lambda n: [
            fs(f"a{n}", to=48, ring=1, talk=80, call_direction="inbound"),
            fs(f"b{n}", f"a{n}", at=NOON + 9, talk=0, to=49, call_direction="inbound"),
        ],
        [(48, 80)],
    ),
    "nobody answers outside, an extension does": (
        lambda n: [
            fs(f"a{n}", to=50, ring=1, talk=80),
            fs(f"b{n}", f"a{n}", at=NOON + 2, talk=0, to=50),
            fs(f"c{n}", f"a{n}", at=NOON + 9, ring=20, talk=50, destination_number="1001"),
        ],
        [(50, 80)],
    ),
    "nobody answers, through a loopback channel": (
        lambda n: [
            fs(f"a{n}", to=51, parent_call_uuid=f"a{n}"),
            fs(f"b{n}", f"a{n}", channel_name="loopback/9-a", parent_call_uuid=f"a{n}", to=52),
            fs(f"c{n}", channel_name="loopback/9-b", parent_call_uuid=f"a{n}", to=52),
            fs(f"d{n}", f"c{n}", at=NOON + 2, talk=0, sip_gateway_name="eastern", parent_call_uuid=f"a{n}", to=52),
        ],
        [],
    ),
    "an outbound call that is transferred on, outside, by the dialplan": (
        lambda n: [
            fs(f"a{n}", to=45, ring=1, talk=200, call_direction="outbound"),
            fs(f"b{n}", f"a{n}", at=NOON + 2, talk=50, to=45, call_direction="outbound"),
            fs(f"c{n}", f"a{n}", at=NOON + 70, ring=30, talk=60, to=46, call_direction="outbound"),
        ],
        [(45, 110)],
    ),
    "no b-leg is logged: the a-leg says when it was bridged": (
        lambda n: [fs(f"a{n}", to=53, ring=1, talk=80, bridged=NOON + 31, call_direction="outbound")],
        [(53, 50)],
    ),
    "no b-leg is logged: the a-leg says that it dialed in vain": (
        lambda n: [
            fs(f"a{n}", to=54, ring=1, talk=80, call_direction="outbound", originate_disposition="SUBSCRIBER_ABSENT")
        ],
        [],
    ),
    "the same, and a b-leg is logged all the same": (
        lambda n: [
            fs(f"a{n}", to=55, ring=1, talk=80, call_direction="outbound", originate_disposition="USER_BUSY"),
            fs(f"b{n}", f"a{n}", at=NOON + 9, ring=20, talk=50, to=55, call_direction="outbound"),
        ],
        [(55, 50)],
    ),
    "who called from outside talked to the switch, whether it reached somebody or not": (
        lambda n: [
            fs(f"a{n}", to=56, talk=80, call_direction="inbound", originate_disposition="USER_BUSY"),
            fs(f"b{n}", to=57, talk=80, call_direction="inbound", bridged=NOON + 31),
            fs(f"c{n}", to=58, talk=80, originate_disposition="USER_BUSY"),
        ],
        [(56, 80), (57, 80), (58, 80)],
    ),
    "an outbound call that was bridged before a second route failed": (
        lambda n: [
            fs(
                f"a{n}", to=59, talk=80, bridged=NOON + 5, last_bridge_to=f"b{n}", originate_disposition="USER_BUSY",
                call_direction="outbound",
            )
        ],
        [(59, 80)],
    ),
    "an a-leg that is sent again with another quality: it is charged as before": (
        lambda n: [
            fs(f"a{n}", to=60, ring=1, talk=80),
            fs(f"a{n}", to=60, ring=1, talk=80, rtp_audio_in_mos="4.1"),
            fs(f"b{n}", f"a{n}", at=NOON + 9, ring=20, talk=50, to=60),
        ],
        [(60, 50)],
    ),
    "a b-leg of which two versions say other times, beside one that answered": (
        lambda n: [
            fs(f"a{n}", to=61, ring=1, talk=80),
            fs(f"b{n}", f"a{n}", at=NOON + 9, ring=20, talk=50, to=61),
            fs(f"c{n}", f"a{n}", at=NOON + 9, ring=20, talk=40, to=61),
            fs(f"c{n}", f"a{n}", at=NOON + 9, ring=20, talk=60, to=61),
        ],
        [(61, 50)],
    ),
    "a b-leg that outlived its bridge, so that its call is its own": (
        lambda n: [fs(f"a{n}", to=32), fs(f"b{n}", f"b{n}", at=NOON + 1, originating_leg_uuid=f"a{n}", to=33)],
        [(32, 30)],
    ),
}  # fmt: skip


def ast(
    n: str,
    channel: str,
    to: str,
    at: int = 0,
    ring: int = 5,
    talk: int = 30,
    seq: int = 1,
    number: int = 2,
    **more: str,
) -> str:
    """A line of Master.csv: a row between two channels of call `n`, so many seconds after its beginning. `was`: its
    disposition."""
    begin = NOON + sum(map(ord, n))
    stamps = [f"{datetime.fromtimestamp(begin + at + s, UTC):%F %T}" for s in (0, ring, ring + talk)]
    values = ["ac-0001", "13035550101", f"130355501{number:02}", "default", "", channel, to, "Dial", "", *stamps]
    values[10] = values[10] if talk else ""
    values += [ring + talk, talk, more.get("was", "ANSWERED" if talk else "NO ANSWER"), "DOCUMENTATION"]
    values += [f"{begin}.{n}9{seq}", "", "", f"{begin}.{n}9", seq]
    return ",".join(str(v) if isinstance(v, int) or not v else f'"{v}"' for v in values) + "\n"


IN, IN2, OUT, OUT2 = (
    "PJSIP/northwind-0000000a",
    "PJSIP/northwind-0000001a",
    "PJSIP/eastern-0000000b",
    "SIP/eastern-0000001b",
)
AGENT, OTHER = "PJSIP/1001-0000000c", "PJSIP/1002-0000000d"
HALF = "Local/{}@from-queue-0000000e;{}"

ASTERISK = {
    "inbound to an extension": (lambda n: [ast(n, IN, AGENT, number=10)], [(10, 30)]),
    "outbound, the second route": (
        lambda n: [ast(n, AGENT, OUT, talk=0, number=11), ast(n, AGENT, OUT2, at=1, seq=2, number=11)],
        [(11, 30)],
    ),
    "the dialplan answers, and dials: the first route is busy": (
        lambda n: [
            ast(n, AGENT, OUT, talk=9, number=30, was="BUSY"),
            ast(n, AGENT, OUT2, at=14, ring=0, seq=2, number=30),
        ],
        [(30, 30)],
    ),
    "the dialplan answers, and dials a trunk or an extension in vain": (
        lambda n: [
            ast(n, AGENT, OUT, number=31, was="CONGESTION"),
            ast(n + "1", IN, AGENT, number=32, was="NO ANSWER"),  # who called from outside heard the dialplan
        ],
        [(32, 30)],
    ),
    "a queue with two agents: the second answers": (
        lambda n: [
            ast(n, IN, HALF.format(1001, 1), talk=0, number=12),
            ast(n, IN, HALF.format(1002, 1), at=20, seq=2, number=12),
            ast(n, HALF.format(1002, 2), OTHER, at=20, talk=22, seq=3, number=13),
        ],
        [(12, 30)],
    ),
    "a queue whose agent leaves, so that another takes over": (
        lambda n: [ast(n, IN, AGENT, talk=20, number=14), ast(n, IN, OTHER, at=25, ring=3, seq=2, number=14)],
        [(14, 50)],
    ),
    "an agent of a queue outside": (
        lambda n: [
            ast(n, IN, HALF.format(1001, 1), number=15),
            ast(n, HALF.format(1001, 2), OUT, at=2, ring=8, talk=25, seq=2, number=16),
        ],
        [(15, 30), (16, 25)],
    ),
    "a ring group": (
        lambda n: [ast(n, IN, AGENT, number=17), ast(n, IN, OTHER, talk=0, seq=2, number=17)],
        [(17, 30)],
    ),
    "one extension calls another": (lambda n: [ast(n, AGENT, OTHER, number=18)], []),
    "forwarded abroad": (
        lambda n: [
            ast(n, IN, "Local/011@from-internal-0000000f;1", number=19),
            ast(n, "Local/011@from-internal-0000000f;2", OUT, at=1, ring=4, seq=2, number=20),
        ],
        [(19, 30), (20, 30)],
    ),
    "outbound through a Local channel": (
        lambda n: [
            ast(n, AGENT, "Local/9@out-0000000f;1", number=21),
            ast(n, "Local/9@out-0000000f;2", OUT, at=1, ring=4, seq=2, number=22),
        ],
        [(22, 30)],
    ),
    "transferred inside: two rows that overlap": (
        lambda n: [ast(n, IN, AGENT, talk=40, number=23), ast(n, IN, OTHER, at=30, seq=2, number=23)],
        [(23, 60)],
    ),
    "voicemail of the switch, and of an extension": (
        lambda n: [ast(n, IN, "", number=24), ast(n + "1", AGENT, "", number=24)],
        [(24, 30)],
    ),
    "three in a conference: two came in, one was called": (
        lambda n: [
            ast(n, IN, "", number=25),
            ast(n, IN2, "", at=5, talk=20, seq=2, number=26),
            ast(n, "Local/600@conference-0000000f;2", OUT, at=9, talk=10, seq=3, number=27),
            ast(n, "CBAnn/600-0000000a;1", "", at=9, talk=9, seq=4, number=27),
        ],
        [(25, 30), (26, 20), (27, 10)],
    ),
    "legs on two sides of midnight": (
        lambda n: [
            ast(n, IN, AGENT, at=MIDNIGHT - NOON - 3000, number=28),
            ast(n, IN, OTHER, at=MIDNIGHT - NOON + 9, seq=2, number=28),
        ],
        [(28, 60)],
    ),
    "a row of which two versions would be charged differently": (
        lambda n: [ast(n, IN, AGENT, number=29), ast(n, IN, AGENT, talk=31, number=29)],
        [],
    ),
}


def sheet(uuid: str, of: str = "", at: int = NOON, talk: int = 30, to: int = 2, template: int = 0) -> str:
    """A line of mod_cdr_csv, by the one shipped template or the other, with the leg that dialed this one at the end."""
    answer, end = at + 5 if talk else 0, at + 5 + talk
    stamps = [f"{datetime.fromtimestamp(s, UTC):%F %T}" if s else "" for s in (at, answer, end)]
    times = [*stamps, 5 + talk, talk, "NORMAL_CLEARING" if talk else "USER_BUSY"]
    numbers = ["13035550101", f"130355501{to:02}", "default"]
    values = ["", *numbers, *times, uuid, "", "ac-0001", "", ""]
    if template:
        values = ["ac-0001", *numbers, '"" <1001>', "sofia/inside/1001@a", "", "", "", *times, "", uuid, ""]
    return ",".join(f'"{value}"' for value in (*values, of)) + "\n"


FREESWITCH_CSV = {
    "a-leg, and a b-leg that was answered": (
        lambda n: [sheet(f"a{n}", to=10), sheet(f"b{n}", f"a{n}", at=NOON + 1, to=11)],
        [(10, 30)],
    ),
    "route advance, by the other template": (
        lambda n: [
            sheet(f"a{n}", to=12, template=1),
            sheet(f"b{n}", f"a{n}", talk=0, to=13, template=1),
            sheet(f"c{n}", f"a{n}", at=NOON + 9, to=13, template=1),
        ],
        [(12, 30)],
    ),
    "the dialplan answers, and dials": (
        lambda n: [sheet(f"a{n}", to=16, talk=50), sheet(f"b{n}", f"a{n}", at=NOON + 20, talk=20, to=16)],
        [(16, 20)],
    ),
    "a-leg that was never answered": (
        lambda n: [sheet(f"a{n}", talk=0, to=14), sheet(f"b{n}", f"a{n}", at=NOON + 1, to=15)],
        [(15, 30)],
    ),
}

NAMES = (
    *("cdrRecordType", "globalCallID_callManagerId", "globalCallID_callId", "origLegCallIdentifier"),
    *("dateTimeOrigination", "callingPartyNumber", "origCause_value", "destLegIdentifier", "originalCalledPartyNumber"),
    *("finalCalledPartyNumber", "destCause_value", "dateTimeConnect", "dateTimeDisconnect", "pkid", "duration"),
    *("origDeviceName", "destDeviceName", "globalCallId_ClusterID"),
)


def cm(n: str, legs: str, at: int = 0, ring: int = 5, talk: int = 30, number: int = 2, begin: int = NOON) -> str:
    """A line of CUCM: between two legs of call `n`, each "device.leg", so many seconds after its beginning."""
    (device, leg), (to_device, to_leg) = (part.split(".") for part in legs.split())
    answer, end = (begin + at + ring if talk else 0), begin + at + ring + talk
    values = [1, 1, n, f"{n}{leg}", begin + at, "13035550101", 16, f"{n}{to_leg}", f"130355501{number:02}"]
    values += [f"130355501{number:02}", 0, answer, end, f"{n}-{at}-{legs}-{talk}", talk, device, to_device, "C1"]
    return ",".join(map(str, values)) + "\n"


PHONE, SECOND = "SEP000000000001", "SEP000000000002"
CUCM = {
    "inbound": (lambda n: [cm(n, f"northwind.1 {PHONE}.2", number=10)], [(10, 30)]),
    "outbound, the second route": (
        lambda n: [cm(n, f"{PHONE}.1 eastern.2", talk=0, number=11), cm(n, f"{PHONE}.1 eastern.3", at=2, number=11)],
        [(11, 30)],
    ),
    "one phone calls another": (lambda n: [cm(n, f"{PHONE}.1 {SECOND}.2", number=12)], []),
    "an attended transfer inside": (
        lambda n: [
            cm(n, f"northwind.1 {PHONE}.2", number=13),
            cm(n + "1", f"{PHONE}.3 {SECOND}.4", at=20, ring=2, talk=13, number=14),
            cm(n, f"northwind.1 {SECOND}.4", at=35, ring=0, talk=60, number=14),
        ],
        [(13, 90)],
    ),
    "a call that went out, and was transferred to another phone": (
        lambda n: [
            cm(n, f"{PHONE}.1 eastern.2", number=15),
            cm(n, f"{SECOND}.3 eastern.2", at=35, ring=0, talk=20, number=15),
        ],
        [(15, 50)],
    ),
    "a conference: one came in, one was called": (
        lambda n: [
            cm(n, f"northwind.1 {PHONE}.2", talk=20, number=16),
            cm(n, f"{PHONE}.3 eastern.4", at=10, ring=5, talk=10, number=17),
            cm(n, "northwind.1 CFB_1.5", at=25, ring=0, talk=40, number=18),
            cm(n, "eastern.4 CFB_1.6", at=25, ring=0, talk=30, number=18),
            cm(n, f"{PHONE}.2 CFB_1.7", at=25, ring=0, talk=40, number=18),
        ],
        [(16, 60), (17, 40)],
    ),
    "a hunt group": (
        lambda n: [cm(n, f"northwind.1 {PHONE}.2", talk=0, number=19), cm(n, f"northwind.1 {SECOND}.3", number=19)],
        [(19, 30)],
    ),
    "legs on two sides of midnight": (
        lambda n: [
            cm(n, f"northwind.1 {PHONE}.2", begin=MIDNIGHT - 20, number=20),
            cm(n, f"northwind.1 {SECOND}.3", begin=MIDNIGHT + 15, ring=0, talk=9, number=20),
        ],
        [(20, 39)],
    ),
}
SCENES = {"freeswitch_json": FREESWITCH, "freeswitch": FREESWITCH_CSV, "asterisk": ASTERISK, "cucm": CUCM}
HEADS = {"cucm": ",".join(NAMES) + "\n"}
COPIES = 6


def records(scenes: dict) -> list[str]:
    every = enumerate(lines for lines, _ in scenes.values())
    return [line for number, lines in every for copy in range(COPIES) for line in lines(f"{number + 100}{copy}")]


def expected(scenes: dict) -> Counter:
    return Counter(charge for _, charged in scenes.values() for charge in charged for _ in range(COPIES))


def state(site: Site) -> dict:
    """All that must not hang on the order of arrival."""
    what = ["record_id", "state", "content", "kind", "leg", "parts", "talk_ms", "role", "event"]
    return {
        "billing": site.view("billing"),
        "uncharged": site.view(UNCHARGED),
        "assurance": site.view("assurance"),
        "index": index(site).select(what),
        "entries": site.entries(),
        "derived": site.derived(),
    }


@pytest.fixture(scope="module", params=sorted(SCENES))
def switch(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def one_night(workspace, switch) -> dict:
    site = take_in(workspace(source(switch, zone="UTC")), records(SCENES[switch]), feed=switch)
    return state(site) | {"charges": charges(site)}


def test_each_edge_leg_is_charged_once(one_night, switch):
    assert one_night["charges"] == expected(SCENES[switch])


@pytest.mark.parametrize("seed", [1, *(pytest.param(seed, marks=pytest.mark.endurance) for seed in range(2, 9))])
def test_any_nights_and_order_end_in_the_same_state(workspace, one_night, switch, seed):
    shuffle, lines = random.Random(seed), records(SCENES[switch])
    shuffle.shuffle(lines)
    site = take_in(workspace(source(switch, zone="UTC")), lines[::3], lines[1::3], lines[2::3], feed=switch)
    assert charges(site) == expected(SCENES[switch])
    ended = state(site)
    for what in ended:
        assert ended[what] == one_night[what], what


SELDOM = [pytest.param(name, marks=pytest.mark.endurance) for name in sorted(SCENES) if name != "asterisk"]


@pytest.mark.parametrize("switch", ["asterisk", *SELDOM], indirect=True)
def test_a_stream_whose_flushes_part_the_legs_ends_in_the_state_of_one_night(workspace, one_night, switch):
    lines = records(SCENES[switch])
    random.Random(5).shuffle(lines)
    site = workspace(source(switch, zone="UTC"))
    with inline(site.settings, [switch]) as work:
        reader, before = work.reader(), 0
        for part in range(3):
            site.land(switch, f"f{part}", (HEADS.get(switch, "") + "".join(lines[part::3])).encode())
            for block in work.works(reader):
                work.take(block)
            work.flush_all()
            assert site.view("assurance").num_rows > before
            before = site.view("assurance").num_rows
    check(site)
    ended = state(site)
    for what in ended:
        assert ended[what] == one_night[what], what


def test_a_night_killed_while_its_legs_change_committed_rows_ends_as_one_that_was_not(workspace):
    first = [fs(f"b{n}", f"a{n}", at=NOON + 1, to=n) for n in range(9)]
    late = [fs(f"a{n}", at=NOON, talk=40, to=20 + n) for n in range(6)]  # they take over
    late += [fs(f"c{n}", f"a{n}", at=NOON + 60, talk=9, to=40) for n in range(6, 9)]  # the call is longer
    site, clean = take_in(workspace("freeswitch_json"), first), take_in(workspace("freeswitch_json"), first, late)
    site.land("freeswitch_json", "f1", "".join(late).encode())
    for where in ("commit-half", "commit-ready", "committed"):
        killed = run("nightly", "--config", str(site.folder), environment={"CALLWARD_CRASH_AT": where})
        assert killed.code == -signal.SIGKILL, f"{where}: {killed.err[-300:]}"
    run("nightly", "--config", str(site.folder)).check_clean()
    check(site)
    assert charges(site) == Counter({(20 + n, 30): 1 for n in range(6)} | {(n, 39): 1 for n in range(6, 9)})
    ended, expected_state = state(site), state(clean)
    for what in ended:
        assert ended[what] == expected_state[what], what


@pytest.mark.parametrize("exported", [True, False])
def test_a_call_beyond_a_loopback_channel_that_names_no_caller_calls_a_person(workspace, exported):
    parent = {"parent_call_uuid": "a"} if exported else {}
    halves = [fs("b", "a", channel_name="loopback/9-a", **parent), fs("c", channel_name="loopback/9-b", **parent)]
    beyond = fs("d", "c", at=NOON + 2, sip_gateway_name="eastern", to=3, **parent)
    site = workspace("freeswitch_json")
    for number, (lines, alarms) in enumerate([([fs("a", **parent), *halves], 0), ([beyond], not exported)]):
        site.land("freeswitch_json", f"f{number}", "".join(lines).encode())
        night = site.night(MORNING)
        assert len(night.alarms) == alarms
    assert charges(site).total() == 2 - exported


def test_a_call_that_reached_nobody_is_not_charged_until_a_leg_tells_otherwise(workspace):
    steps = [fs("a", ring=1, talk=80), fs("b", "a", at=NOON + 2, talk=0), fs("c", "a", at=NOON + 9, ring=20, talk=50)]
    site = workspace("freeswitch_json")
    for number, (line, charged) in enumerate(zip(steps, [{(2, 80): 1}, {}, {(2, 50): 1}], strict=True)):
        site.land("freeswitch_json", f"f{number}", line.encode())
        site.night(MORNING)
        check(site)
        assert charges(site) == charged and site.view(UNCHARGED).num_rows == (not charged)
    other = take_in(workspace("freeswitch_json"), steps[::-1])
    assert site.view("billing").drop_columns(["billing_id"]) == other.view("billing").drop_columns(["billing_id"])


def test_a_version_that_is_chosen_takes_the_charge_from_the_other_leg(workspace):
    site = take_in(workspace("freeswitch_json"), [fs("a"), fs("b", "a", at=NOON + 1, to=3)], [fs("a", talk=31)])
    assert charges(site) == Counter() and site.view("assurance").num_rows == 1
    assert choose(site.settings, 1).chosen == 1
    check(site)
    assert charges(site) == Counter({(2, 30): 1})


def test_a_later_version_of_an_edge_leg_of_its_own_takes_the_place_of_the_committed_one(workspace):
    agent = {"cc_member_session_uuid": "a", "cc_side": "agent", "sip_gateway_name": "northwind", "to": 3}
    legs = [fs("a"), fs("b", "x", at=NOON + 1, **agent), fs("c", "y", at=NOON + 9, talk=20, **agent)]
    site = take_in(workspace("freeswitch_json"), legs, [fs("b", "x", at=NOON + 1, talk=31, **agent)])
    assert charges(site) == Counter({(2, 30): 1, (3, 20): 1})
    assert choose(site.settings, 1).chosen == 1
    check(site)
    assert charges(site)[3, 20] == 1 and charges(site).total() == 3


def test_legs_of_a_template_without_the_leg_that_dialed_are_calls_of_their_own(workspace):
    shipped = [line.rpartition(",")[0] + "\n" for line in (sheet("a"), sheet("b", "a", to=3))]
    site = take_in(workspace(source("freeswitch", zone="UTC")), shipped, feed="freeswitch")
    assert charges(site) == Counter({(2, 30): 1, (3, 30): 1}) and index(site)["role"].null_count == 2


def test_where_every_attempt_has_a_row_an_attempt_that_was_answered_for_another_has_none(workspace):
    site = workspace("freeswitch_json", billing_rows="attempts")
    take_in(site, [fs("b", "a", at=NOON + 1, to=3), fs("c", "a", talk=0, to=4)], [fs("a")])
    assert charges(site) == Counter({(2, 30): 1, (4, 0): 1})


def test_a_late_leg_takes_the_charge_while_the_window_lasts_and_changes_nothing_after_it(workspace):
    windows = {"assurance_metrics": "10 days", "call_detail": "1 month", "billing_transaction": "4 months"}
    site = workspace("freeswitch_json", retention=windows)
    take_in(site, [fs(f"b{n}", f"a{n}", at=NOON + 1, to=n) for n in range(2)])
    clock = datetime(2026, 3, 6, 6, tzinfo=UTC) + timedelta(days=31)
    for number, days in enumerate((15, 200)):
        site.land("freeswitch_json", f"late{number}", fs(f"a{number}", to=9).encode())
        site.night(int((clock + timedelta(days=days)).timestamp() * 1000))
        assert not site.unbalanced() and site.differing() == 0
        assert charges(site) == Counter({(9, 30): 1, (1, 30): 1})


PROXIED = [
    "INVITE|f|x1|c1|486|Busy|{}||13035550101|13035550102|ac-0001||peer-1|peer-2\n",
    "INVITE|f|x2|c1|487|Terminated|{}||13035550101|13035550102|ac-0001||peer-1|peer-2\n",
    "INVITE|f|t|c1|200|OK|{}||13035550101|13035550102|ac-0001||peer-1|peer-3\n",
    "BYE|f|t|c1|200|OK|{}||13035550101|13035550102|ac-0001||peer-1|peer-3\n",
    "INVITE|f|x1|c2|486|Busy|{}||13035550101|13035550102|ac-0001||peer-1|peer-2\n",
    "INVITE|f|x2|c2|503|Unavailable|{}||13035550101|13035550102|ac-0001||peer-1|peer-3\n",
]


@pytest.mark.parametrize("order", [(0, 1, 2, 3, 4, 5), (5, 2, 3, 0, 1, 4)])
def test_branches_of_a_proxy_are_one_callers_call_where_it_came_in(workspace, order):
    peers = [Trunk(name=f"peer-{n}", carrier=f"c-{n}") for n in range(1, 4)]
    site = workspace(source("opensips", zone="UTC"), trunks=peers)
    lines = [PROXIED[n].format(NOON + 10 * n) for n in order]
    take_in(site, lines[::2], lines[1::2], feed="opensips")
    names = [*key_columns(assurance_trunk_hourly), *sum_columns(assurance_trunk_hourly)]
    hours = [dict(zip(names, (*key, *sums), strict=True)) for key, sums in site.derived()[TRUNKS].items()]
    asked = {(row["side"], row["trunk"]): (row["attempts"], row["answered"], row["rescued"]) for row in hours}
    assert asked == {("ingress", "peer-1"): (2, 1, 0), ("egress", "peer-2"): (2, 0, 1), ("egress", "peer-3"): (2, 1, 0)}
    assert charges(site) == Counter({(2, 10): 1})


# -- the decision, against its rule written out ------------------------------------------------------------------------

LEG = st.tuples(
    st.integers(0, 1),  # call
    st.integers(0, 2),  # edge leg, 0: the call's own
    st.sampled_from([role for role in range(len(ROLES)) if role != ROLES.index("onward")]),  # that names its edge leg
    st.integers(0, 9),  # start
    st.integers(0, 9),  # talk
    st.integers(0, 9),  # wait before it
    st.booleans(),  # answered
    st.sampled_from([True, True, True, False]),  # accepted, or held
)


def legs_of(drawn: list[tuple], numbers: Sequence[int]) -> Legs:
    call, event, role, start, talk, wait, answered, accepted = zip(*(drawn[n] for n in numbers), strict=True)
    rows = {
        "call_id": [bytes([c + 1]) * 16 for c in call],
        "event": [bytes([e]) * 16 if e else None for e in event],
        "role": role,
        "start_time": start,
        "sequence": [None] * len(numbers),
        "record_id": [bytes([n + 1]) * 16 for n in numbers],
        "disposition": ["answered" if was else "busy" for was in answered],
        "answer_time": [s + w for s, w in zip(start, wait, strict=True)],
        "end_time": [s + w + t for s, w, t in zip(start, wait, talk, strict=True)],
        "talk_ms": talk,
        "leg": [0] * len(numbers),
    }
    kinds = {"call_id": pa.binary(16), "event": pa.binary(16), "record_id": pa.binary(16), "sequence": pa.int64()}
    times = dict.fromkeys(("start_time", "answer_time", "end_time"), pa.timestamp("ms", "UTC"))
    kinds |= times | {"role": pa.int8(), "leg": pa.int16(), "talk_ms": pa.int64(), "disposition": pa.string()}
    table = pa.table({name: pa.array(values, kinds[name]) for name, values in rows.items()})
    return Legs.of(table, accepted=pa.array(accepted).to_numpy(zero_copy_only=False))


def charged_of(drawn: list[tuple]) -> dict[int, int]:
    """Which legs are charged, and for how long: the rule, leg by leg."""
    found = {}
    for name in {leg[:2] for leg in drawn}:
        second = ("unreached",) if name[1] else ("attempt", "egress")
        those = [n for n, leg in enumerate(drawn) if leg[:2] == name and leg[6] and ROLES[leg[2]] != "internal"]
        mine = [(ROLES[drawn[n][2]] in second, drawn[n][3], n) for n in those]
        if not mine:
            continue
        first_role, _, first = min(mine)
        tried = any(leg[0] == name[0] and ROLES[leg[2]] == "egress" and leg[7] for leg in drawn)
        role_of_first = ROLES[drawn[first][2]]
        unreached = role_of_first == "unreached" or (role_of_first == "outward" and tried)
        unreached &= bool(name[1]) or not any(at for at, *_ in mine)
        if drawn[first][7] and not unreached:
            left = [drawn[n] for n in those if ROLES[drawn[n][2]] == "egress" and drawn[n][7]]
            counts = [drawn[n] for at, _, n in mine if at == first_role and drawn[n][7]]
            counts = left if left and role_of_first in ("outward", "unreached") else counts
            moments = {m for leg in counts for m in range(leg[3] + leg[5], leg[3] + leg[5] + leg[4])}
            found[first] = len(moments)
    return found


@given(drawn=st.lists(LEG, min_size=1, max_size=8), shuffle=st.randoms(use_true_random=False))
@tries(150)
def test_the_first_of_the_records_of_an_edge_leg_is_charged_for_the_union_of_their_times(drawn, shuffle):
    numbers = list(range(len(drawn)))
    shuffle.shuffle(numbers)
    decided = decide(legs_of(drawn, numbers))
    charged = {numbers[at]: int(decided.talk[at]) for at in range(len(numbers)) if decided.charged[at]}
    assert charged == charged_of(drawn)


# -- many random calls, against pandas ---------------------------------------------------------------------------------

EDGES = ("PJSIP/northwind-", "SIP/eastern-")
INSIDE = ("PJSIP/1001-", "SIP/1002-")


def random_rows(rng: np.random.Generator, calls: int) -> pd.DataFrame:
    """Rows of Asterisk between random channels: extensions, trunks, halves of Local channels."""
    rows = np.repeat(np.arange(calls), rng.integers(1, 5, calls))
    frame = pd.DataFrame({"call": rows})
    frame["seq"] = frame.groupby("call").cumcount()
    number = rng.integers(0, 2, (2, len(frame)))
    kind = rng.integers(0, 4, (2, len(frame)))
    for side, name in enumerate(("channel", "dst")):
        picked = zip(kind[side], number[side], strict=True)
        frame[name] = [("" if k > 2 else (EDGES[n] if k < 2 else INSIDE[n]) + f"{n:08x}") for k, n in picked]
    frame["channel"] = frame["channel"].where(frame["channel"] != "", "Local/9@out-0000000f;2")
    frame["start"] = NOON + frame["call"] % 70_000 - 35_000 + rng.integers(0, 200, len(frame))
    frame["ring"], frame["talk"] = rng.integers(0, 30, len(frame)), rng.integers(0, 90, len(frame))
    frame["talk"] = frame["talk"].where(rng.random(len(frame)) < 0.7, 0)
    frame["account"] = rng.integers(0, 200, len(frame))
    out = frame["channel"].str.match("Local/|(PJSIP|SIP)/100") & frame["dst"].str.startswith(EDGES)
    frame["vain"] = out & (rng.random(len(frame)) < 0.1)  # it was answered by the dialplan alone
    return frame


def line_of(row: Any) -> str:
    stamps = [f"{datetime.fromtimestamp(at, UTC):%F %T}" for at in (row.start, row.start + row.ring)]
    stamps.append(f"{datetime.fromtimestamp(row.start + row.ring + row.talk, UTC):%F %T}")
    was = "BUSY" if row.vain else "ANSWERED" if row.talk else "NO ANSWER"
    stamps[1] = stamps[1] if row.talk else ""
    values = [f"ac-{row.account:04d}", "13035550101", "13035550102", "default", "", row.channel, row.dst, "Dial", ""]
    values += [*stamps, row.ring + row.talk, row.talk, was]
    values += ["DOCUMENTATION", f"{NOON}.{row.call}", "", "", f"{NOON}.{row.call}", row.seq]
    return ",".join(str(v) if isinstance(v, int) or not v else f'"{v}"' for v in values) + "\n"


def charged_by_pandas(rows: pd.DataFrame) -> Counter:
    """Which account is charged, for which leg, and how long: by the page's own words."""
    inside = rows[["channel", "dst"]].apply(lambda names: names.str.match(r"^(Local/|(PJSIP|SIP)/100\d-|$)"))
    half = rows["channel"].str.startswith("Local/")
    rows = rows.assign(edge=rows["channel"].where(~inside["channel"], rows["dst"]))
    rows = rows[(rows["talk"] > 0) & ~rows["vain"] & ~inside.all(axis=1) & ~(half & inside["dst"])]
    found: Counter = Counter()
    for _, leg in rows.sort_values(["start", "seq"]).groupby(["call", "edge"], sort=False):
        seconds = {s for row in leg.itertuples() for s in range(row.start + row.ring, row.start + row.ring + row.talk)}
        head = leg.iloc[0]
        found[int(head.start), int(head.account), len(seconds), max(seconds) + 1] += 1
    return found


@pytest.mark.parametrize("calls", [5_000, pytest.param(50_000, marks=pytest.mark.endurance)])
def test_many_random_calls_are_charged_as_pandas_says(workspace, calls):
    rng = np.random.default_rng(3)
    rows = random_rows(rng, calls)
    lines, night = [line_of(row) for row in rows.itertuples(index=False)], rng.integers(0, 2, len(rows))
    site = workspace(source("asterisk", zone="UTC"))
    take_in(
        site, *([lines[n] for n in rng.permutation(np.flatnonzero(night == of))] for of in range(2)), feed="asterisk"
    )
    billed = site.view("billing").to_pandas()
    seconds = billed[["start", "end"]].astype("datetime64[s, UTC]").astype("int64")
    account = billed["account"].str[-4:].astype(int)
    assert charged_by_pandas(rows) == Counter(
        zip(seconds["start"], account, billed["talk_ms"] // 1000, seconds["end"], strict=True)
    )
