"""Cisco CUCM: call detail (cdr_*) and call management (cmr_*, quality) files, with names row and types row."""

from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from callward.feeds import dirt, text
from callward.feeds.calls import ENDINGS, INBOUND, Calls, Mask, answered, draw
from callward.feeds.delivery import Delivery, hours, ordered
from callward.feeds.world import TRUNKS, Ints, World, account_codes

# Columns in their order, release 12; `:n` marks a VARCHAR(n), `:id` a UNIQUEIDENTIFIER, the others are INTEGER.
_CDR_COLUMNS: Final = """
cdrRecordType globalCallID_callManagerId globalCallID_callId origLegCallIdentifier dateTimeOrigination origNodeId
origSpan origIpAddr callingPartyNumber:50 callingPartyUnicodeLoginUserID:128 origCause_location origCause_value
origPrecedenceLevel origMediaTransportAddress_IP origMediaTransportAddress_Port origMediaCap_payloadCapability
origMediaCap_maxFramesPerPacket origMediaCap_g723BitRate origVideoCap_Codec origVideoCap_Bandwidth
origVideoCap_Resolution origVideoTransportAddress_IP origVideoTransportAddress_Port origRSVPAudioStat:64
origRSVPVideoStat:64 destLegIdentifier destNodeId destSpan destIpAddr originalCalledPartyNumber:50
finalCalledPartyNumber:50 finalCalledPartyUnicodeLoginUserID:128 destCause_location destCause_value
destPrecedenceLevel destMediaTransportAddress_IP destMediaTransportAddress_Port destMediaCap_payloadCapability
destMediaCap_maxFramesPerPacket destMediaCap_g723BitRate destVideoCap_Codec destVideoCap_Bandwidth
destVideoCap_Resolution destVideoTransportAddress_IP destVideoTransportAddress_Port destRSVPAudioStat:64
destRSVPVideoStat:64 dateTimeConnect dateTimeDisconnect lastRedirectDn:50 pkid:id
originalCalledPartyNumberPartition:50 callingPartyNumberPartition:50 finalCalledPartyNumberPartition:50
lastRedirectDnPartition:50 duration origDeviceName:129 destDeviceName:129 origCallTerminationOnBehalfOf
destCallTerminationOnBehalfOf origCalledPartyRedirectOnBehalfOf lastRedirectRedirectOnBehalfOf
origCalledPartyRedirectReason lastRedirectRedirectReason destConversationId globalCallId_ClusterID:50 joinOnBehalfOf
comment:2048 authCodeDescription:50 authorizationLevel clientMatterCode:32 origDTMFMethod destDTMFMethod
callSecuredStatus origConversationId origMediaCap_Bandwidth destMediaCap_Bandwidth authorizationCodeValue:32
outpulsedCallingPartyNumber:50 outpulsedCalledPartyNumber:50 origIpv4v6Addr:64 destIpv4v6Addr:64
origVideoCap_Codec_Channel2 origVideoCap_Bandwidth_Channel2 origVideoCap_Resolution_Channel2
origVideoTransportAddress_IP_Channel2 origVideoTransportAddress_Port_Channel2 origVideoChannel_Role_Channel2
destVideoCap_Codec_Channel2 destVideoCap_Bandwidth_Channel2 destVideoCap_Resolution_Channel2
destVideoTransportAddress_IP_Channel2 destVideoTransportAddress_Port_Channel2 destVideoChannel_Role_Channel2
IncomingProtocolID IncomingProtocolCallRef:32 OutgoingProtocolID OutgoingProtocolCallRef:32 currentRoutingReason
origRoutingReason lastRedirectingRoutingReason huntPilotPartition:50 huntPilotDN:50 calledPartyPatternUsage
IncomingICID:50 IncomingOrigIOI:50 IncomingTermIOI:50 OutgoingICID:50 OutgoingOrigIOI:50 OutgoingTermIOI:50
outpulsedOriginalCalledPartyNumber:50 outpulsedLastRedirectingNumber:50 wasCallQueued totalWaitTimeInQueue
callingPartyNumber_uri:255 originalCalledPartyNumber_uri:255 finalCalledPartyNumber_uri:255 lastRedirectDn_uri:255
mobileCallingPartyNumber:50 finalMobileCalledPartyNumber:50 origMobileDeviceName:129 destMobileDeviceName:129
origMobileCallDuration destMobileCallDuration mobileCallType originalCalledPartyPattern:50 finalCalledPartyPattern:50
lastRedirectingPartyPattern:50 huntPilotPattern:50 origDeviceType:100 destDeviceType:100 origDeviceSessionID:128
destDeviceSessionID:128
"""
_CMR_COLUMNS: Final = """
cdrRecordType globalCallID_callManagerId globalCallID_callId nodeId directoryNum:50 callIdentifier dateTimeStamp
numberPacketsSent numberOctetsSent numberPacketsReceived numberOctetsReceived numberPacketsLost jitter latency pkid:id
directoryNumPartition:50 globalCallId_ClusterID:50 deviceName:129 varVQMetrics:600 duration videoContentType:10
videoDuration numberVideoPacketsSent numberVideoOctetsSent numberVideoPacketsReceived numberVideoOctetsReceived
numberVideoPacketsLost videoAverageJitter videoRoundTripTime videoOneWayDelay videoReceptionMetrics:600
videoTransmissionMetrics:600 videoContentType_channel2:10 videoDuration_channel2 numberVideoPacketsSent_channel2
numberVideoOctetsSent_channel2 numberVideoPacketsReceived_channel2 numberVideoOctetsReceived_channel2
numberVideoPacketsLost_channel2 videoAverageJitter_channel2 videoRoundTripTime_channel2 videoOneWayDelay_channel2
videoReceptionMetrics_channel2:600 videoTransmissionMetrics_channel2:600 localSessionID:128 remoteSessionID:128
headsetSN:129 headsetMetrics:1024
"""

_CDR: Final = _CDR_COLUMNS.split()
_CMR: Final = _CMR_COLUMNS.split()

_CLUSTER: Final = "Cluster1"
_CALL, _QUALITY, _RECORDING = range(3)  # the `piece` of a record
_BY_RECORDER: Final = 27  # "on behalf of": built-in-bridge recording
_REDIRECTED: Final = ("origCalledPartyRedirectOnBehalfOf", "lastRedirectRedirectOnBehalfOf", "joinOnBehalfOf")
_FIRST_LEG: Final = 40_000_000
_SIP_503_Q850_41: Final = 0x57000029
_LATE: Final = 48  # the quality records that come the night after; before it, calls at even and quality at odd


def cucm(rng: np.random.Generator, world: World, count: int, midnight_ms: int, zone: str, share: float) -> Delivery:
    """Return `count` calls, quality records of most answered ones, recording legs of a few; stamps are UTC epochs.

    A few calls' own records never come (their quality records wait), and a few quality records come a night late.
    """
    calls = draw(rng, world, count, midnight_ms)
    calls["file"] = hours(calls, midnight_ms) * 2
    calls["talk"] = np.where(answered(calls), (calls["end"] // 1000 - calls["answer"] // 1000) * 1000, 0)
    quality, recording = _quality(rng, calls), _recording_legs(rng, calls)
    calls = calls[~np.isin(calls["serial"], quality["linked"][quality["bucket"] == dirt.PENDING])]
    dirt.mark(rng, calls, ("torn",), share)
    calls = dirt.repeat(rng, calls, share, step=2)
    records = ordered(np.concatenate([calls, quality, recording]))
    lines = dirt.spoil(_lines(world, records, int(rng.integers(1 << 31))), records["dirt"], b",")
    return Delivery(_names(midnight_ms), records, lines, _headers(records), frozenset({_LATE}))


def _quality(rng: np.random.Generator, calls: Calls) -> Calls:
    """Return quality records: of the calling leg of most answered calls, of the called leg too for some."""
    talked = calls[answered(calls)]
    calling = talked[rng.random(len(talked)) < 0.85]
    lost, late = rng.random(len(calling)) < 0.003, rng.random(len(calling)) < 0.15
    calling["bucket"] = np.where(lost, dirt.PENDING, dirt.MERGED)
    calling["file"] = np.where(late & ~lost & (calling["file"] == 46), _LATE, calling["file"] + 1)
    called = calling[(calling["bucket"] == dirt.MERGED) & (rng.random(len(calling)) < 0.2)]
    called["leg"] = 1
    quality = np.concatenate([calling, called])
    quality["serial"] = len(calls) + np.arange(len(quality))
    quality["piece"], quality["talk"] = _QUALITY, 0
    return quality


def _recording_legs(rng: np.random.Generator, calls: Calls) -> Calls:
    """Return two legs towards the recorder for each recorded call: records of their own that never connect."""
    recorded = calls[answered(calls) & (rng.random(len(calls)) < 0.03)]
    legs = np.concatenate([recorded, recorded])
    legs["serial"] = 4 * len(calls) + np.arange(len(legs))
    legs["end"] = legs["start"] = legs["answer"]
    legs["answer"] = legs["talk"] = 0
    legs["piece"], legs["bucket"] = _RECORDING, dirt.FILTERED
    return legs


def _names(midnight_ms: int) -> list[str]:
    ends = (midnight_ms + np.arange(1, 26) * 3_600_000).astype("datetime64[ms]")
    minutes = [str(end)[:16].translate({ord(c): None for c in "-T:"}) for end in ends]
    pairs = [(f"cdr_{_CLUSTER}_01_{m}_{n}", f"cmr_{_CLUSTER}_01_{m}_{n}") for n, m in enumerate(minutes, 1)]
    return [name for pair in pairs[:24] for name in pair] + [pairs[24][1]]


def _headers(records: Calls) -> dict[int, bytes]:
    return {file: _header(_spec(file)) for file in np.unique(records["file"]).tolist()}


def _spec(file: int) -> list[str]:
    return _CMR if file % 2 or file == _LATE else _CDR


def _header(spec: list[str]) -> bytes:
    """Return a row of names, then a row of SQL types."""
    pairs = [column.partition(":") for column in spec]
    kinds = {"": "INTEGER", "id": "UNIQUEIDENTIFIER"}
    types = (kinds.get(size) or f"VARCHAR({size})" for _, _, size in pairs)
    names = (f'"{name}"' for name, _, _ in pairs)
    return f"{','.join(names)}\n{','.join(types)}\n".encode()


def _lines(world: World, records: Calls, seed: int) -> pa.Array:
    """Return each record's line, in the layout of its kind."""
    quality = records["piece"] == _QUALITY
    cdr = text.csv_lines(_table(_CDR, _call_columns(world, records[~quality], seed), int((~quality).sum())))
    cmr = text.csv_lines(_table(_CMR, _quality_columns(world, records[quality], seed), int(quality.sum())))
    places = np.argsort(np.argsort(quality, kind="stable"))  # where each record stands in calls, then quality
    return pa.concat_arrays([cdr, cmr]).take(pa.array(places))


def _table(spec: list[str], columns: dict[str, Any], count: int) -> pa.Table:
    """Return all columns of a layout: those given, the others 0 or "" by their type."""
    filled: dict[str, pa.Array] = {}
    for name, _, size in (column.partition(":") for column in spec):
        empty = text.repeated("", count) if size else np.zeros(count, np.int64)
        filled[name] = pa.array(columns.get(name, empty))
    return pa.table(filled)


def _legs(records: Calls) -> Ints:
    """Return identifier of a record's calling leg; the called leg's is one more."""
    own = np.where(records["piece"] == _RECORDING, records["serial"], records["linked"])
    return np.asarray(_FIRST_LEG + own * 2)


def _call_columns(world: World, calls: Calls, seed: int) -> dict[str, Any]:
    count, recording = len(calls), calls["piece"] == _RECORDING
    caller, called = (world.written(calls[side], calls["form"]) for side in ("caller", "called"))
    cause = np.array([e.q850 for e in ENDINGS])[calls["ending"]]
    by_calling, inbound = calls["serial"] % 2 == 0, calls["direction"] == INBOUND
    bridge = pa.array([f"b00{serial:09d}" for serial in calls["serial"][recording].tolist()], pa.string())
    return {
        "cdrRecordType": np.ones(count, np.int64),
        "globalCallID_callManagerId": np.full(count, 2),
        "globalCallID_callId": 1_000_000 + np.where(recording, calls["serial"], calls["linked"]),
        "origLegCallIdentifier": _legs(calls),
        "destLegIdentifier": _legs(calls) + 1,
        "dateTimeOrigination": calls["start"] // 1000,
        "dateTimeConnect": calls["answer"] // 1000,
        "dateTimeDisconnect": calls["end"] // 1000,
        "duration": calls["talk"] // 1000,
        "callingPartyNumber": pc.replace_with_mask(caller, pa.array(recording), bridge),
        "originalCalledPartyNumber": called,
        "finalCalledPartyNumber": called,
        "outpulsedCalledPartyNumber": called,
        "origCause_value": np.where(by_calling & ~recording, cause, 0),
        "destCause_value": np.where(recording, _SIP_503_Q850_41, np.where(by_calling, 0, cause)),
        "origIpv4v6Addr": text.repeated("192.0.2.17", count),
        "origDeviceName": _devices_of(calls, "caller", inbound),
        "destDeviceName": _devices_of(calls, "called", ~inbound),
        "globalCallId_ClusterID": text.repeated(_CLUSTER, count),
        "clientMatterCode": account_codes(np.where(recording, -1, calls["account"])),
        "pkid": text.uuids(seed, np.asarray(calls["serial"])),
        **{name: np.where(recording, _BY_RECORDER, 0) for name in _REDIRECTED},
        "origConversationId": np.where(recording, _FIRST_LEG + calls["linked"] * 2, 0),
    }


def _quality_columns(world: World, quality: Calls, seed: int) -> dict[str, Any]:
    count = len(quality)
    seconds = (quality["end"] - quality["answer"]) // 1000
    packets = seconds * 50
    party = np.where(quality["leg"] == 0, quality["caller"], quality["called"])
    return {
        "cdrRecordType": np.full(count, 2),
        "globalCallID_callManagerId": np.full(count, 2),
        "globalCallID_callId": 1_000_000 + quality["linked"],
        "nodeId": np.full(count, 2),
        "directoryNum": world.written(party, quality["form"]),
        "callIdentifier": _legs(quality) + quality["leg"],
        "dateTimeStamp": quality["end"] // 1000,
        "numberPacketsSent": packets,
        "numberOctetsSent": packets * 160,
        "numberPacketsReceived": packets,
        "numberOctetsReceived": packets * 160,
        "numberPacketsLost": (packets * quality["loss"] / 100).astype(np.int64),
        "jitter": quality["jitter"].astype(np.int64),
        "latency": 5 + quality["serial"] % 40,
        "pkid": text.uuids(seed, np.asarray(quality["serial"])),
        "globalCallId_ClusterID": text.repeated(_CLUSTER, count),
        "deviceName": _devices(quality["caller"]),
        "varVQMetrics": _metrics(quality),
        "duration": seconds,
    }


def _metrics(quality: Calls) -> pa.Array:
    """Return quality as the phone reports it; one load in ten reports no MOS (MLQK)."""
    mos = text.numbers(quality["mos"])
    scores = text.fill("MLQK=<<mos>>;MLQKav=<<mos>>;MLQKmn=<<mos>>;MLQKmx=<<mos>>;", {"mos": mos})
    scores = pc.if_else(pa.array(quality["caller"] % 10 == 0), "", scores)
    return pc.binary_join_element_wise(scores, "CCR=0.0010;ICR=0.0000;ICRmx=0.0020;CS=1;SCS=0", "")


def _devices(parties: Ints) -> pa.Array:
    """Return names of phones: SEP and their hardware address."""
    return pc.binary_join_element_wise("SEP0000", pc.utf8_upper(text.hexes(parties.astype(np.int64))), "")


def _devices_of(calls: Calls, party: str, far: Mask) -> pa.Array:
    """Return a party's device: a phone, or a carrier's trunk where the party is on the `far` side of one."""
    outside = pa.array(far & (calls["trunk"] >= 0))
    return pc.if_else(outside, text.chosen(TRUNKS, calls["trunk"]), _devices(calls[party]))
