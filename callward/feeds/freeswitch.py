"""FreeSWITCH: mod_cdr_csv's shipped "example" template, and mod_json_cdr as lines and as one document per file."""

from typing import Final
from urllib.parse import quote

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from callward.feeds import dirt, text
from callward.feeds.calls import CODECS, ENDINGS, INBOUND, Calls, answered, draw
from callward.feeds.delivery import Delivery, hours, ordered
from callward.feeds.world import TRUNKS, Ints, World, account_codes

# Nothing is escaped: a caller's name that holds a quote comes out as it is.
_EXAMPLE: Final = (
    '"<<name>>","<<caller>>","<<called>>","<<context>>","<<start>>","<<answer>>","<<end>>","<<duration>>","<<billsec>>",'
    '"<<cause>>","<<uuid>>","<<bleg>>","<<account>>","<<codec>>","<<codec>>"'
)
_DOCUMENT: Final = (
    '{"core-uuid":"3f0c2f3e-7d1e-4d0b-9f4a-6c1f2f9f7d10","switchname":"fs-edge-1",'
    '"channel_data":{"state":"CS_REPORTING","direction":"<<direction>>","state_number":"11"},'
    '<<stats>>"variables":{"direction":"<<direction>>","uuid":"<<uuid>>","call_uuid":"<<uuid>>",'
    '"sip_from_user":"<<caller>>","sip_from_uri":"<<caller>>@edge.example.net",'
    '"sip_full_from":"<sip:<<caller>>@edge.example.net>;tag=<<tag>>",'
    '"sip_req_user":"<<called>>","sip_to_user":"<<called>>",'
    '"sip_to_uri":"<<called>>@edge.example.net","channel_name":"sofia/external/<<caller>>@edge.example.net",'
    '"caller_id_name":"<<name>>","caller_id_number":"<<caller>>","destination_number":"<<called>>",'
    '"switch_r_sdp":"v=0\\r\\no=<<caller>> 0 1 IN IP4 192.0.2.7\\r\\ns=-\\r\\nm=audio 5018 RTP/AVP 0 101\\r\\n",'
    '"transfer_history":"<<epoch>>:<<uuid>>:bl_xfer:<<called>>/default/XML","last_app":"bridge",'
    '"last_arg":"sofia/gateway/<<trunk>>/<<called>>","accountcode":"<<account>>","sip_gateway":"<<trunk_in>>","sip_gateway_name":"<<trunk_out>>",'
    '"read_codec":"<<codec>>","write_codec":"<<codec>>",<<rtp>>"hangup_cause":"<<cause>>","hangup_cause_q850":"<<q850>>",'
    '"sip_term_status":"<<sip>>","sip_hangup_disposition":"<<cleared>>",'
    '"start_stamp":"<<start>>","answer_stamp":"<<answer>>",'
    '"end_stamp":"<<end>>","start_epoch":"<<epoch>>","start_uepoch":"<<start_us>>","progress_uepoch":"<<ring_us>>",'
    '"answer_epoch":"<<answer_epoch>>","answer_uepoch":"<<answer_us>>",'
    '"end_epoch":"<<end_epoch>>","end_uepoch":"<<end_us>>",'
    '"duration":"<<duration>>","billsec":"<<billsec>>","progressmsec":"<<pdd>>","mduration":"<<mduration>>",'
    '"billmsec":"<<billmsec>>"},"app_log":{"applications":[{"app_name":"bridge",'
    '"app_data":"sofia/gateway/<<trunk>>/<<called>>"}]},"callflow":[{"dialplan":"XML","profile_index":"1",'
    '"caller_profile":{"username":"<<caller>>","caller_id_name":"<<name>>","caller_id_number":"<<caller>>",'
    '"ani":"<<caller>>","destination_number":"<<called>>","uuid":"<<uuid>>","context":"<<context>>"},'
    '"times":{"created_time":"<<start_us>>","progress_time":"<<ring_us>>","answered_time":"<<answer_us>>",'
    '"hangup_time":"<<end_us>>"}}]}'
)
# Where media flowed; elsewhere a switch leaves these out.
_STATS: Final = (
    '"callStats":{"audio":{"inbound":{"packet_count":<<packets>>,"skip_packet_count":<<lost>>,'
    '"jitter_max_variance":<<jitter>>,"quality_percentage":100,"mos":<<mos>>}}},'
)
_RTP: Final = (
    '"rtp_audio_in_mos":"<<mos>>","rtp_audio_in_packet_count":"<<packets>>",'
    '"rtp_audio_in_skip_packet_count":"<<lost>>","rtp_audio_in_jitter_max_variance":"<<jitter>>",'
)
_DOCUMENTS: Final = 5  # one-document files beside the lines


def freeswitch(
    rng: np.random.Generator, world: World, count: int, midnight_ms: int, zone: str, share: float
) -> Delivery:
    """Return `count` calls in the "example" template: local time, whole seconds, a file an hour."""
    calls = draw(rng, world, count, midnight_ms)
    calls["file"] = hours(calls, midnight_ms)
    _state_talk(calls, 1000)
    dirt.mark(rng, calls, ("torn", "bad_date", "encoding"), share / 3)
    calls = ordered(dirt.repeat(rng, calls, share))
    seed = int(rng.integers(1 << 31))
    columns = _basics(world, calls, seed, zone)
    columns["name"] = pc.if_else(pa.array(calls["caller"] % 50 == 0), 'THE "OLD" DESK', columns["name"])
    lines = text.fill(_EXAMPLE, columns)
    return Delivery([f"cdr-{hour:02d}.csv" for hour in range(24)], calls, dirt.spoil(lines, calls["dirt"], b","))


def freeswitch_json(
    rng: np.random.Generator, world: World, count: int, midnight_ms: int, zone: str, share: float
) -> Delivery:
    """Return `count` calls as JSON: three files of lines, then a few files that hold one call each, URL-encoded."""
    calls = draw(rng, world, count, midnight_ms)
    calls["file"] = hours(calls, midnight_ms) // 8
    _state_talk(calls, 1)
    dirt.mark(rng, calls, ("torn", "encoding"), share / 2)
    single = np.flatnonzero(calls["bucket"] == dirt.ACCEPTED)[:_DOCUMENTS]
    calls["file"][single] = 3 + np.arange(len(single))
    calls = ordered(calls)
    seed = int(rng.integers(1 << 31))
    lines = _json_lines(world, calls, seed, zone)
    names = [f"calls-{n}.jsonl" for n in range(3)]
    names += text.uuids(seed, np.sort(calls["serial"][calls["file"] >= 3])).to_pylist()
    names[3:] = [f"{name}.cdr.json" for name in names[3:]]
    return Delivery(names, calls, dirt.spoil(lines, calls["dirt"], b","))


def _state_talk(calls: Calls, unit_ms: int) -> None:
    """State talk as the difference of two times that are each cut to the unit."""
    calls["talk"] = np.where(answered(calls), (calls["end"] // unit_ms - calls["answer"] // unit_ms) * unit_ms, 0)


def _json_lines(world: World, calls: Calls, seed: int, zone: str) -> pa.Array:
    """Return values URL-encoded, as mod_json_cdr does by default; here the one-document files show it."""
    columns = _basics(world, calls, seed, zone) | _details(calls)
    encoded = pa.array(calls["file"] >= 3)
    for name in ("name", "start", "answer", "end", "caller", "called"):
        plain = columns[name].filter(encoded).to_pylist()
        columns[name] = pc.replace_with_mask(columns[name], encoded, pa.array([quote(p) for p in plain], pa.string()))
    return text.fill(_DOCUMENT, columns)


def _basics(world: World, calls: Calls, seed: int, zone: str) -> dict[str, pa.Array]:
    """Return the columns that both formats have; what did not happen is ""."""
    codec = text.chosen(CODECS, np.where(answered(calls), calls["codec"], -1))
    bleg = pc.if_else(pa.array(calls["ring"] + calls["answer"] > 0), text.uuids(seed + 7, calls["serial"]), "")
    return {
        "name": pc.binary_join_element_wise("DESK ", text.numbers(calls["caller"] % 97), ""),
        "caller": world.written(calls["caller"], calls["form"]),
        "called": world.written(calls["called"], calls["form"]),
        "start": text.stamps(calls["start"], zone),
        "answer": text.blank(text.stamps(calls["answer"], zone)),
        "end": text.stamps(calls["end"], zone),
        "duration": text.numbers(calls["end"] // 1000 - calls["start"] // 1000),
        "billsec": text.numbers(np.where(answered(calls), calls["end"] // 1000 - calls["answer"] // 1000, 0)),
        "cause": text.chosen([e.freeswitch for e in ENDINGS], calls["ending"]),
        "context": text.either(calls["direction"] == INBOUND, "public", "default"),
        "uuid": text.uuids(seed, calls["serial"]),
        "bleg": bleg,
        "account": account_codes(np.asarray(calls["account"])),
        "codec": codec,
    }


def _details(calls: Calls) -> dict[str, pa.Array]:
    """Return what only the JSON has: absolute times, causes by number, quality."""
    inbound = calls["direction"] == INBOUND
    return {
        "direction": pa.repeat("inbound", len(calls)),  # of the leg: the caller's always comes in to the switch
        "trunk": text.chosen(TRUNKS, calls["trunk"]),
        "trunk_in": text.chosen(TRUNKS, np.where(inbound, calls["trunk"], -1)),
        "trunk_out": text.chosen(TRUNKS, np.where(inbound, -1, calls["trunk"])),
        "tag": text.hexes(calls["serial"] * 7919),
        "q850": text.numbers(np.array([e.q850 for e in ENDINGS])[calls["ending"]]),
        "sip": text.numbers(np.array([e.sip for e in ENDINGS])[calls["ending"]]),
        "cleared": text.either(calls["serial"] % 2 == 0, "send_bye", "recv_bye"),
        "pdd": text.numbers(np.where(calls["ring"] > 0, calls["ring"] - calls["start"], 0)),
        "mduration": text.numbers(calls["end"] - calls["start"]),
        "billmsec": text.numbers(calls["talk"]),
        **_media(calls),
        **_epochs(calls),
    }


def _media(calls: Calls) -> dict[str, pa.Array]:
    """Return the two fragments about quality; "" where no media flowed."""
    packets = (calls["end"] - calls["answer"]) // 20
    values = {
        "packets": text.numbers(packets),
        "lost": text.numbers((packets * calls["loss"] / 100).astype(np.int64)),
        "jitter": text.numbers(calls["jitter"]),
        "mos": text.numbers(calls["mos"]),
    }
    flowed = pa.array(answered(calls) & (packets > 0))
    return {name: pc.if_else(flowed, text.fill(part, values), "") for name, part in (("stats", _STATS), ("rtp", _RTP))}


def _epochs(calls: Calls) -> dict[str, pa.Array]:
    """Return seconds and microseconds since 1970; "0" is what did not happen."""
    moments: dict[str, Ints] = {name: np.asarray(calls[name]) for name in ("start", "ring", "answer", "end")}
    seconds = {"epoch": "start", "answer_epoch": "answer", "end_epoch": "end"}
    micros = {f"{name}_us": text.numbers(moment * 1000) for name, moment in moments.items()}
    return micros | {column: text.numbers(moments[name] // 1000) for column, name in seconds.items()}
