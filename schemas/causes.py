"""Why calls ended: cause names, ITU-T Q.850 numbers, SIP statuses, and the disposition that each says.

A cause never says that a call was answered (formats.md, section 0): these tables are for attempts without an answer.
Two words are not final, because what they mean hangs on whether the phone rang (RFC 6076; ITU-T E.425 counts a
caller who hangs up after alerting with the unanswered): Parse resolves them with the ring time, where one is known.
"""

from collections.abc import Callable
from typing import Final

CANCELLED: Final = "cancelled"  # the caller gave up: abandoned_alerting, or abandoned_before_alerting
TIMED_OUT: Final = "timed_out"  # nobody replied in time: no_answer, or network_failure
UNDECIDED: Final = (CANCELLED, TIMED_OUT)

# Names that FreeSWITCH writes (switch_types.h, switch_call_cause_t) where they are causes of Q.850.
Q850_NAMES: Final[dict[str, int]] = {
    "NONE": 0,
    "UNSPECIFIED": 0,
    "UNALLOCATED_NUMBER": 1,
    "NO_ROUTE_TRANSIT_NET": 2,
    "NO_ROUTE_DESTINATION": 3,
    "CHANNEL_UNACCEPTABLE": 6,
    "CALL_AWARDED_DELIVERED": 7,
    "NORMAL_CLEARING": 16,
    "USER_BUSY": 17,
    "NO_USER_RESPONSE": 18,
    "NO_ANSWER": 19,
    "SUBSCRIBER_ABSENT": 20,
    "CALL_REJECTED": 21,
    "NUMBER_CHANGED": 22,
    "REDIRECTION_TO_NEW_DESTINATION": 23,
    "EXCHANGE_ROUTING_ERROR": 25,
    "DESTINATION_OUT_OF_ORDER": 27,
    "INVALID_NUMBER_FORMAT": 28,
    "FACILITY_REJECTED": 29,
    "RESPONSE_TO_STATUS_ENQUIRY": 30,
    "NORMAL_UNSPECIFIED": 31,
    "NORMAL_CIRCUIT_CONGESTION": 34,
    "NETWORK_OUT_OF_ORDER": 38,
    "NORMAL_TEMPORARY_FAILURE": 41,
    "SWITCH_CONGESTION": 42,
    "ACCESS_INFO_DISCARDED": 43,
    "REQUESTED_CHAN_UNAVAIL": 44,
    "PRE_EMPTED": 45,
    "RESOURCE_UNAVAILABLE": 47,
    "FACILITY_NOT_SUBSCRIBED": 50,
    "OUTGOING_CALL_BARRED": 52,
    "INCOMING_CALL_BARRED": 54,
    "BEARERCAPABILITY_NOTAUTH": 57,
    "BEARERCAPABILITY_NOTAVAIL": 58,
    "SERVICE_UNAVAILABLE": 63,
    "BEARERCAPABILITY_NOTIMPL": 65,
    "CHAN_NOT_IMPLEMENTED": 66,
    "FACILITY_NOT_IMPLEMENTED": 69,
    "SERVICE_NOT_IMPLEMENTED": 79,
    "INVALID_CALL_REFERENCE": 81,
    "INCOMPATIBLE_DESTINATION": 88,
    "INVALID_MSG_UNSPECIFIED": 95,
    "MANDATORY_IE_MISSING": 96,
    "MESSAGE_TYPE_NONEXIST": 97,
    "WRONG_MESSAGE": 98,
    "IE_NONEXIST": 99,
    "INVALID_IE_CONTENTS": 100,
    "WRONG_CALL_STATE": 101,
    "RECOVERY_ON_TIMER_EXPIRE": 102,
    "MANDATORY_IE_LENGTH_ERROR": 103,
    "PROTOCOL_ERROR": 111,
    "INTERWORKING": 127,
}

# FreeSWITCH's own names, which Q.850 does not have.
OWN_NAMES: Final[dict[str, str]] = {
    "SUCCESS": "unknown",
    "ORIGINATOR_CANCEL": CANCELLED,
    "CRASH": "network_failure",
    "SYSTEM_SHUTDOWN": "network_failure",
    "LOSE_RACE": CANCELLED,  # another leg of a forked call was answered first
    "MANAGER_REQUEST": "unknown",
    "BLIND_TRANSFER": "unknown",
    "ATTENDED_TRANSFER": "unknown",
    "ALLOTTED_TIMEOUT": TIMED_OUT,
    "USER_CHALLENGE": "rejected",
    "MEDIA_TIMEOUT": "network_failure",
    "PICKED_OFF": CANCELLED,  # answered on another leg, by pickup
    "USER_NOT_REGISTERED": "no_answer",
    "PROGRESS_TIMEOUT": "network_failure",
    "INVALID_GATEWAY": "network_failure",
    "GATEWAY_DOWN": "network_failure",
    "INVALID_URL": "network_failure",
    "INVALID_PROFILE": "network_failure",
    "NO_PICKUP": "no_answer",
    "SRTP_READ_ERROR": "network_failure",
    "BUSY_EVERYWHERE": "busy",
    "DECLINE": "rejected",
    "DOES_NOT_EXIST_ANYWHERE": "number_error",
    "NOT_ACCEPTABLE": "rejected",
    "UNWANTED": "rejected",
    "REJECT_ALL": "rejected",
}

_Q850_WORDS: Final[dict[str, tuple[int, ...]]] = {
    "unknown": (0, 7, 26, 30, 31),
    "number_error": (1, 3, 5, 22, 23, 28, 90, 91),
    CANCELLED: (16,),
    "busy": (17,),
    "no_answer": (18, 19, 20),
    "rejected": (21, 29, 50, 52, 53, 54, 55, 57, 87),
}
_Q850: Final = {cause: word for word, causes in _Q850_WORDS.items() for cause in causes}

_SIP_WORDS: Final[dict[str, tuple[int, ...]]] = {
    "number_error": (404, 410, 416, 484, 485, 604),
    TIMED_OUT: (408,),
    "no_answer": (480,),
    "busy": (486, 600),
    CANCELLED: (487,),
    "rejected": (401, 402, 403, 405, 406, 407, 433, 488, 493, 603, 606, 607, 608),
}
_SIP: Final = {status: word for word, statuses in _SIP_WORDS.items() for status in statuses}


def _integer(text: str) -> int | None:
    text = text.strip()
    return int(text) if text.lstrip("-").isdecimal() and text.isascii() and len(text) < 19 else None


def q850(text: str) -> int | None:
    """Return the Q.850 cause (0..127) written in decimal, also zero-padded; None for anything else."""
    number = _integer(text)
    return number if number is not None and 0 <= number <= 127 else None


def q850_hex(text: str) -> int | None:
    """Return the Q.850 cause written in hexadecimal, as Cisco's h323-disconnect-cause is ("10" is 16)."""
    try:
        number = int(text.strip(), 16)
    except ValueError:
        return None
    return number if 0 <= number <= 127 else None


def q850_name(text: str) -> int | None:
    """Return the Q.850 cause of a name; None for FreeSWITCH's own names."""
    return Q850_NAMES.get(text.strip())


def sip(text: str) -> int | None:
    """Return the status of a SIP final response (200..699), bare or led by "sip:"; None for anything else."""
    number = _integer(text.strip().removeprefix("sip:"))
    return number if number is not None and 200 <= number <= 699 else None


def _cucm(text: str) -> int | None:
    number = _integer(text)
    return None if number is None else number & 0xFFFFFFFF  # older releases print unsigned values as negative


def cucm_q850(text: str) -> int | None:
    """Return the Q.850 cause of a CUCM cause value: itself up to 127, the low 7 bits where it came from SIP.

    Values between (129..148, 262144 conference full, 393216 call split, 458752 conference drop) are Cisco's own.
    """
    number = _cucm(text)
    if number is None:
        return None
    if number <= 127:
        return number
    return number & 0x7F or None if number >= 1 << 24 else None


def cucm_sip(text: str) -> int | None:
    """Return the SIP status in the top byte of a CUCM cause value (0x57 is 503); None where it carries none."""
    number = _cucm(text)
    top = 0 if number is None else number >> 24
    if 1 <= top <= 63:
        return 399 + top
    if 64 <= top <= 89:
        return 416 + top
    return {90: 513, 161: 600, 162: 603, 163: 604, 164: 606, 167: 503}.get(top)


def q850_disposition(text: str) -> str | None:
    """Return the disposition of an attempt that ended with a Q.850 cause; None where the text is none."""
    cause = q850(text)
    return None if cause is None else _Q850.get(cause, "network_failure")


def name_disposition(text: str) -> str | None:
    """Return the disposition of an attempt that ended with a named cause; None for a name in no table."""
    name = text.strip()
    return OWN_NAMES.get(name) or (q850_disposition(str(Q850_NAMES[name])) if name in Q850_NAMES else None)


def sip_disposition(text: str) -> str | None:
    """Return the disposition of an attempt that ended with a SIP status; None where the text is none.

    A redirection (3xx) is neither a success nor a failure (RFC 6076 takes it out of the denominators): unknown.
    """
    status = sip(text)
    if status is None:
        return None
    return _SIP.get(status, "unknown" if status < 400 else "network_failure")


def cucm_disposition(text: str) -> str | None:
    """Return the disposition of a CUCM cause value: by its SIP status, which says more, else by Q.850."""
    status, cause = cucm_sip(text), cucm_q850(text)
    if status is not None and status in _SIP:
        return _SIP[status]
    return "unknown" if cause is None else q850_disposition(str(cause))


# What a declaration may name as `decode`; each is applied to distinct values only.
CAUSE_DECODERS: Final[dict[str, Callable[[str], int | None]]] = {
    "q850": q850,
    "q850_hex": q850_hex,
    "q850_name": q850_name,
    "sip": sip,
    "cucm_q850": cucm_q850,
    "cucm_sip": cucm_sip,
}
DISPOSITION_DECODERS: Final[dict[str, Callable[[str], str | None]]] = {
    "q850_disposition": q850_disposition,
    "name_disposition": name_disposition,
    "sip_disposition": sip_disposition,
    "cucm_disposition": cucm_disposition,
}
