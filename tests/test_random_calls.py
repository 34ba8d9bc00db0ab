"""Random calls of a FreeSWITCH, a CUCM and a SIP proxy, against pandas: who pays, for how long, what a trunk was asked.

A call is made up as a story: what happened, and the records that the switch writes of it (docs/legs.md). With each
record goes what is true of it, so that the answer is worked out without a look at callward's declarations.
"""

import json
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import pandas as pd
import pytest

from callward.settings import Trunk
from schemas.tables import assurance_trunk_hourly, key_columns, sum_columns
from tests.conftest import Site, source

MIDNIGHT = 1_772_755_200  # 2026-03-06 00:00 UTC
MORNING = 1_772_865_600_000  # 2026-03-07 06:40 UTC
GATEWAYS = ("northwind", "eastern", "pacific")  # of the FreeSWITCH
CUCM_TRUNKS = ("gw-north", "gw-east", "trunk-west")
PEERS = ("peer-1", "peer-2")  # of the proxy
CALLER, ATTEMPT, INSIDE = range(3)  # of the records of one charge, those of the lowest count


class Record(NamedTuple):
    """A record of a switch, and what is true of it.

    `charge`: what it is charged with, as one; `first`: which of that counts first. `talk` in seconds, None where nobody
    answered. `call`: whose caller is counted where it came in; `met`: which of its records says what the caller met.
    """

    charge: str
    first: int
    start: int
    ring: int
    talk: int | None
    account: int
    call: str
    met: int
    trunk_in: str
    trunk_out: str
    line: str
    given_up: bool = False  # an attempt that the switch took back: it counts where nobody else answered
    outward: bool = False  # a caller's leg whose call may have left, or a leg by which it did: this counts then


class Dice(random.Random):
    """Chance, and the next number of a call."""

    number = 0

    def story(self) -> tuple[str, int]:
        """The name of a call, and when it began: on either side of midnight."""
        self.number += 1
        return str(self.number), MIDNIGHT + self.randrange(-20_000, 20_000)

    def talk(self) -> int:
        """Some calls are answered and over within a second."""
        return self.choice([0, self.randrange(1, 90), self.randrange(1, 90)])

    def maybe(self) -> int | None:
        return self.choice([None, self.talk(), self.talk()])

    def tries(self) -> range:
        return range(self.randrange(4))


# -- FreeSWITCH: a record per channel ----------------------------------------------------------------------------------


def channel(
    dice: Dice, uuid: str, start: int, talk: int | None, *, charge: str = "", out: str = "", by: str = "", **more: str
) -> Record:
    """A channel that came in by a trunk, or that was called (`by` another); at a gateway or at a phone."""
    ring, account = dice.randrange(30), dice.randrange(200)
    answer, end = 0 if talk is None else start + ring, start + ring + (talk or 0)
    first = INSIDE if "loopback/" in more.get("channel_name", "") else ATTEMPT if by or out else CALLER
    came_by = dice.choice(["", *GATEWAYS])  # from a phone, or from the network
    variables = {
        "uuid": uuid,
        "call_uuid": by or uuid,
        "direction": "outbound" if by or out else "inbound",
        "caller_id_number": "13035550101",
        "destination_number": "13035550102" if out or not by else "1001",
        "accountcode": f"ac-{account:04d}",
        "hangup_cause": "USER_BUSY" if talk is None else "NORMAL_CLEARING",
        "billmsec": str(1000 * (talk or 0)),
        **({"sip_gateway_name": out} if out else {"sip_gateway": came_by} if came_by else {}),
        **{f"{name}_uepoch": str(s * 1_000_000) for name, s in (("start", start), ("answer", answer), ("end", end))},
    }
    line = json.dumps({"variables": variables | {"channel_name": f"sofia/external/{uuid}"} | more}) + "\n"
    call = "" if first != CALLER else uuid
    outward = "call_direction" not in more and (bool(by and out) if first == ATTEMPT else not came_by)
    return Record(charge or by or uuid, first, start, ring, talk, account, call, 0, came_by, out, line, False, outward)


def bridged(dice: Dice) -> Iterator[Record]:
    """A calls B, at whom several phones or routes are tried, one after the other or at once; B transfers, or not."""
    n, at = dice.story()
    yield channel(dice, f"a{n}", at, dice.maybe())
    step = dice.choice([0, 7])
    for k in dice.tries():
        yield channel(dice, f"b{n}-{k}", at + 1 + step * k, None, by=f"a{n}", out=dice.choice(["", *GATEWAYS]))
    for k in dice.tries():
        yield channel(dice, f"c{n}-{k}", at + 30 + 40 * k, dice.talk(), by=f"a{n}", out=dice.choice(["", *GATEWAYS]))
    if dice.random() < 0.2:  # it outlived the bridge, and is a call of its own by then
        outlived = {"call_uuid": f"d{n}", "originating_leg_uuid": f"a{n}"}
        yield channel(dice, f"d{n}", at + 200, dice.talk(), by=f"a{n}", **outlived)


def queued(dice: Dice) -> Iterator[Record]:
    """A queue: its agents are called one after the other, some of them outside."""
    n, at = dice.story()
    yield channel(dice, f"a{n}", at, dice.talk())
    for k in range(dice.randrange(1, 4)):
        agent = {"cc_side": "agent", "cc_member_session_uuid": f"a{n}", "call_uuid": f"q{n}-{k}"}
        out = dice.choice(["", *GATEWAYS])
        charge = f"b{n}-{k}" if out else ""
        yield channel(dice, f"b{n}-{k}", at + 5 + 20 * k, dice.maybe(), charge=charge, by=f"a{n}", out=out, **agent)


def conference(dice: Dice) -> Iterator[Record]:
    """Those who call in are calls of their own, and so is who is called by the conference."""
    for _ in range(3):
        n, at = dice.story()
        yield channel(dice, f"a{n}", at, dice.talk())
    n, at = dice.story()
    yield channel(dice, f"b{n}", at, dice.maybe(), out=dice.choice(GATEWAYS))


def clicked(dice: Dice) -> Iterator[Record]:
    """Click to call: the switch calls both."""
    n, at = dice.story()
    yield channel(dice, f"a{n}", at, dice.maybe(), out=dice.choice(GATEWAYS))
    yield channel(dice, f"b{n}", at + 9, dice.maybe(), by=f"a{n}", out=dice.choice(GATEWAYS))


def forwarded(dice: Dice) -> Iterator[Record]:
    """Who is called from outside has the call go on, to a phone or outside, or transfers it."""
    n, at = dice.story()
    yield channel(dice, f"a{n}", at, dice.talk(), call_direction="inbound")
    for k in range(dice.randrange(1, 4)):
        out = dice.choice(["", *GATEWAYS])
        charge = f"b{n}-{k}" if out else ""
        yield channel(
            dice, f"b{n}-{k}", at + 9 * k, dice.maybe(), charge=charge, by=f"a{n}", out=out, call_direction="inbound"
        )


def looped(dice: Dice) -> Iterator[Record]:
    """A call goes on through a loopback channel, across which the dialplan exports whose call it is."""
    n, at = dice.story()
    a, talk, call = f"a{n}", dice.talk(), {"parent_call_uuid": f"a{n}"}
    yield channel(dice, a, at, talk, **call)
    yield channel(dice, f"x{n}", at + 1, talk, by=a, channel_name="loopback/9-a", **call)
    yield channel(dice, f"y{n}", at + 1, talk, channel_name="loopback/9-b", **call)
    for k in range(dice.randrange(1, 4)):
        far = {"call_uuid": f"y{n}", "originating_leg_uuid": f"y{n}"} | call
        yield channel(dice, f"b{n}-{k}", at + 2 + 9 * k, dice.maybe(), by=a, out=dice.choice(GATEWAYS), **far)


FREESWITCH = (bridged, bridged, queued, conference, clicked, forwarded, looped)


# -- CUCM: a record per pair of legs -----------------------------------------------------------------------------------

NAMES = (
    *("cdrRecordType", "globalCallID_callManagerId", "globalCallID_callId", "origLegCallIdentifier"),
    *("dateTimeOrigination", "callingPartyNumber", "origCause_value", "destLegIdentifier", "originalCalledPartyNumber"),
    *("finalCalledPartyNumber", "destCause_value", "dateTimeConnect", "dateTimeDisconnect", "pkid", "duration"),
    *("origDeviceName", "destDeviceName", "clientMatterCode", "globalCallId_ClusterID"),
)
PHONES = ("SEP000000000001", "CSFDESK", "BOTMOBILE")


def pair(dice: Dice, n: str, start: int, talk: int | None, legs: str, edge: str = "", met: int = CALLER) -> Record:
    """Two legs of call `n`, each "device.leg"; `edge`: the one of them that is outside."""
    ring, account = dice.randrange(30), dice.randrange(200)
    (device, leg), (to_device, to_leg) = (part.split(".") for part in legs.split())
    answer, end = 0 if talk is None else start + ring, start + ring + (talk or 0)
    causes = (0, 17) if talk is None else (16, 0)
    values = [1, 1, n, f"{n}{leg}", start, "13035550101", causes[0], f"{n}{to_leg}", "13035550102", "13035550103"]
    values += [causes[1], answer, end, f"{n}-{dice.random()}", talk or 0, device, to_device, f"ac-{account:04d}", "C1"]
    trunks = (name if name in CUCM_TRUNKS else "other" for name in (device, to_device))
    line = ",".join(map(str, values)) + "\n"
    return Record(f"{n}{edge}", CALLER if edge else INSIDE, start, ring, talk, account, n, met, *trunks, line)


def hunted(dice: Dice) -> Iterator[Record]:
    """A call comes in; phones of a hunt group do not answer, one does; it is transferred inside, or forwarded."""
    n, at = dice.story()
    trunk = dice.choice(CUCM_TRUNKS)
    for k in dice.tries():
        yield pair(dice, n, at + 9 * k, None, f"{trunk}.1 {PHONES[k]}.{k + 2}", edge="1")
    for k in range(dice.randrange(1, 4)):
        yield pair(dice, n, at + 40 + 60 * k, dice.talk(), f"{trunk}.1 {PHONES[k]}.{k + 6}", edge="1")
    if dice.random() < 0.3:  # a consultation is a call of its own
        yield pair(dice, f"{n}0", at + 50, dice.talk(), f"{PHONES[0]}.7 {PHONES[1]}.8", met=INSIDE)


def routed(dice: Dice) -> Iterator[Record]:
    """A phone calls out: routes are tried, one answers or none; another phone takes the call over, or not."""
    n, at = dice.story()
    for k in dice.tries():
        yield pair(dice, n, at + 3 * k, None, f"{PHONES[0]}.1 {dice.choice(CUCM_TRUNKS)}.{k + 2}", edge=f"{k + 2}")
    trunk = dice.choice(CUCM_TRUNKS)
    yield pair(dice, n, at + 20, dice.maybe(), f"{PHONES[0]}.1 {trunk}.6", edge="6")
    for k in dice.tries():
        yield pair(dice, n, at + 120 + 50 * k, dice.talk(), f"{PHONES[k - 1]}.{k + 7} {trunk}.6", edge="6")


def conferred(dice: Dice) -> Iterator[Record]:
    """A call that came in, and one that the phone made within it, in a conference with the phone."""
    n, at = dice.story()
    came_by, left_by = dice.choice(CUCM_TRUNKS), dice.choice(CUCM_TRUNKS)
    yield pair(dice, n, at, dice.talk(), f"{came_by}.1 {PHONES[0]}.2", edge="1")
    yield pair(dice, n, at + 9, dice.talk(), f"{PHONES[0]}.3 {left_by}.4", edge="4", met=ATTEMPT)
    for k, (device, edge) in enumerate([(came_by, "1"), (left_by, "4"), (PHONES[0], "")]):
        legs, met = f"{device}.{edge or 2} CFB_1.{k + 5}", ATTEMPT if edge else INSIDE
        yield pair(dice, n, at + 60 + k, dice.talk(), legs, edge=edge, met=met)


def inside(dice: Dice) -> Iterator[Record]:
    n, at = dice.story()
    yield pair(dice, n, at, dice.maybe(), f"{PHONES[0]}.1 {PHONES[1]}.2", met=INSIDE)


CUCM = (hunted, hunted, routed, routed, conferred, inside)


# -- acc: a line per transaction ---------------------------------------------------------------------------------------


def sip(
    dice: Dice, of: str, tags: str, code: int, at: int, *, talk: int | None = None, counts: bool = False, by: str = ""
) -> Record:
    """The last reply to an INVITE of Call-ID `n`, or to a BYE ("BYE n"); `counts`: it is an attempt, or opens a dialog
    that ends."""
    *method, n = of.split()
    account, came_by, left_by = dice.randrange(200), by or dice.choice(PEERS), dice.choice(PEERS)
    tag, to_tag = tags.split() if dice.random() < 0.5 or "f" not in tags or not method else reversed(tags.split())
    values = [*(method or ["INVITE"]), tag, to_tag, n, code, "x", at, "", "13035550101", "13035550102"]
    line = "|".join(map(str, [*values, f"ac-{account:04d}", "", came_by, left_by])) + "\n"
    call, left_by, first = (n, left_by, CALLER) if counts else ("", "", INSIDE)
    return Record(f"{n} {tags}", first, at, 0, talk, account, call, 0, came_by, left_by, line, code == 487)


def proxied(dice: Dice) -> Iterator[Record]:
    """A call that the proxy tries at several places, one after the other or at once: one answers, none, or two."""
    (n, at), by = dice.story(), dice.choice(PEERS)
    if dice.random() < 0.3:
        yield sip(dice, n, "f x", 407, at)
    step = dice.choice([0, 7])
    for k in dice.tries():
        branch = sip(dice, n, f"f x{k}", dice.choice([486, 480, 487, 503]), at + step * k, counts=True, by=by)
        yield branch
        if dice.random() < 0.2:  # the transaction, which that branch's reply ended
            ended = branch.start + dice.randrange(3)
            ended = ended if ended // 86_400 == branch.start // 86_400 else branch.start  # else it is two attempts
            later = branch.line.replace(f"|{branch.start}|", f"|{ended}|")
            yield branch._replace(first=INSIDE, call="", trunk_out="", line=later)
    for k in range(dice.choice([0, 1, 1, 1, 2])):
        yield from dialog(dice, n, f"f t{k}", at + 30 + k, by)


def dialog(dice: Dice, n: str, tags: str, at: int, by: str) -> Iterator[Record]:
    """An answered call: refreshed or not, ended by either side or by both, or no end was written."""
    talk, ends = dice.talk(), dice.random() < 0.95
    yield sip(dice, n, tags, 200, at, talk=talk if ends else None, counts=ends, by=by)
    for _ in dice.tries() if talk else ():
        yield sip(dice, n, tags, dice.choice([200, 408, 491]), at + dice.randrange(1, talk + 1))
    if ends:
        yield sip(dice, f"BYE {n}", tags, dice.choice([401, 407]), at + dice.randrange(talk + 1))
        yield sip(dice, f"BYE {n}", tags, dice.choice([200, 408, 481]), at + talk)
        yield sip(dice, f"BYE {n}", tags, dice.choice([200, 481]), at + talk + dice.randrange(1, 40))


ACC = (proxied,)


# -- what is true ------------------------------------------------------------------------------------------------------


def charged(records: pd.DataFrame) -> Counter:
    """Who is charged from when until when, and how long: one charge of answered records, in times that count once.

    A caller who left, and was answered by nobody but the switch, is not.
    """
    few = records[records["talk"].notna() & (records["first"] < INSIDE)]
    few = few.assign(begins=few["start"] + few["ring"]).sort_values("start")
    beyond, tried = few["charge"][few["first"] == ATTEMPT], records[records["outward"] & (records["first"] == ATTEMPT)]
    far = few[few["outward"] & (few["first"] == ATTEMPT)]
    few = few[few["first"] == few.groupby("charge")["first"].transform("min")]
    heads = few.drop_duplicates("charge")
    unreached = heads["outward"] & (heads["first"] == CALLER) & heads["charge"].isin(tried["charge"])
    heads = heads[~unreached | heads["charge"].isin(beyond)]
    beyond = heads["charge"][heads["outward"] & (heads["first"] == CALLER) & heads["charge"].isin(far["charge"])]
    counts = pd.concat([few[~few["charge"].isin(beyond)], far[far["charge"].isin(beyond)]])
    spans: dict[str, list[range]] = {}
    for charge, at, talk in zip(counts["charge"], counts["begins"], counts["talk"], strict=True):
        spans.setdefault(charge, []).append(range(at, at + int(talk)))
    return Counter(
        (
            *(head.start, f"acct-{head.account:04d}", len(set().union(*times))),
            min(span.start for span in times) if gone else head.begins,
            max(span.stop for span in times),
        )
        for head, gone in zip(heads.itertuples(), heads["charge"].isin(beyond), strict=True)
        for times in [spans[head.charge]]
    )


def asked(records: pd.DataFrame) -> dict[tuple[str, str], tuple[int, ...]]:
    """Attempts, answers and talk in steps of six seconds, by side and trunk: callers where they came in, routes where
    they left, less those that lost a race."""
    records = records[records["first"] < INSIDE]
    answered = records["talk"].notna()
    records = records.assign(answered=answered, steps=-(-records["talk"].fillna(0) // 6) * 6)
    order = records.sort_values(["met", "answered", "start"], ascending=[True, False, False])
    callers = order[order["call"] != ""].drop_duplicates("call").assign(side="ingress", trunk=lambda r: r["trunk_in"])
    callers = callers[callers["trunk"] != ""]
    won = records["call"].isin(records["call"][answered])
    routes = records[(records["trunk_out"] != "") & ~(records["given_up"] & won)].assign(
        side="egress", trunk=lambda r: r["trunk_out"]
    )
    found = {}
    for key, those in pd.concat([callers, routes]).groupby(["side", "trunk"]):
        found[key] = (len(those), int(those["answered"].sum()), int(those["steps"].sum()))
    return found


# -- and what callward says --------------------------------------------------------------------------------------------

SWITCHES = {
    "freeswitch_json": (FREESWITCH, GATEWAYS, ""),
    "cucm": (CUCM, CUCM_TRUNKS, ",".join(NAMES) + "\n"),
    "opensips": (ACC, PEERS, ""),
}


def written(dice: Dice, stories: Sequence[Callable[[Dice], Iterator[Record]]], calls: int) -> pd.DataFrame:
    """Return the records of random calls; of those that are no pieces one in twenty was never written."""
    lost = 0.0 if stories is ACC else 0.05
    records = [record for _ in range(calls) for record in dice.choice(stories)(dice) if dice.random() >= lost]
    return pd.DataFrame(records, columns=Record._fields)


def shuffled(dice: Dice, lines: list[str]) -> list[str]:
    """Return lines in any order, one in twenty of them twice."""
    return dice.sample([*lines, *dice.sample(lines, len(lines) // 20)], len(lines) + len(lines) // 20)


def billed(site: Site, switch: str) -> Counter:
    rows = site.view("billing").to_pandas()
    rows = rows[rows["source"] == switch]
    at = rows[["start", "answer", "end"]].astype("datetime64[s, UTC]").astype("int64")
    talk = rows["talk_ms"] // 1000
    return Counter(zip(at["start"], rows["account"], talk, at["answer"], at["end"], strict=True))


def counted(site: Site) -> dict[tuple[str, str], tuple[int, ...]]:
    """Return attempts, answers and talk by side and trunk, over all hours."""
    names = (*key_columns(assurance_trunk_hourly), *sum_columns(assurance_trunk_hourly))
    rows = [(*key, *sums) for key, sums in site.derived()["assurance_trunk_hourly"].items()]
    sums = pd.DataFrame(rows, columns=names).groupby(["side", "trunk"])[["attempts", "answered", "talk_s"]].sum()
    return {key: tuple(row) for key, row in zip(sums.index, sums.to_numpy().tolist(), strict=True)}


class Taken(NamedTuple):
    """A workspace after two nights of random calls, and the records of each switch."""

    site: Site
    records: dict[str, pd.DataFrame]


@pytest.fixture(scope="module", params=[5_000, pytest.param(50_000, marks=pytest.mark.endurance)])
def taken(request: Any, workspace: Callable[..., Site]) -> Taken:
    """Records come in any order, one in twenty of them twice."""
    dice, trunks = Dice(7), [Trunk(name=name, carrier=name) for name in (*GATEWAYS, *CUCM_TRUNKS, *PEERS)]
    site = workspace(*(source(switch, zone="UTC") for switch in SWITCHES), trunks=trunks)
    records = {switch: written(dice, stories, request.param) for switch, (stories, _, _) in SWITCHES.items()}
    lines = {switch: shuffled(dice, frame["line"].to_list()) for switch, frame in records.items()}
    for night in range(2):
        for switch, (_, _, head) in SWITCHES.items():
            for part in range(2):
                site.land(switch, f"n{night}-{part}", (head + "".join(lines[switch][night + 2 * part :: 4])).encode())
        site.night(MORNING)
    return Taken(site, records)


@pytest.mark.parametrize("switch", SWITCHES)
def test_random_calls_are_charged_as_pandas_says(taken: Taken, switch: str) -> None:
    off = billed(taken.site, switch)
    off.subtract(charged(taken.records[switch]))
    assert not {charge: times for charge, times in off.items() if times}


@pytest.mark.parametrize("switch", SWITCHES)
def test_attempts_on_each_trunk_are_what_pandas_says(taken: Taken, switch: str) -> None:
    mine = (*SWITCHES[switch][1], "other") if switch == "cucm" else SWITCHES[switch][1]
    assert {key: sums for key, sums in counted(taken.site).items() if key[1] in mine} == asked(taken.records[switch])


def test_nothing_of_random_calls_is_lost(taken: Taken) -> None:
    assert taken.site.differing() == 0 and not taken.site.unbalanced()
    assert taken.site.entries()["in", ""][0] == sum(len(r) + len(r) // 20 for r in taken.records.values())
