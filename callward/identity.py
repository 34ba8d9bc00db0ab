"""The user who acts, as the kernel knows it: LOGNAME, USER and SUDO_USER are not asked, for anybody may set them."""

import os
import pwd
import socket

WHO_SIZE = 255  # characters of a column that holds `who`


def who() -> str:
    """Return user and host of this process, such as `ada (uid-1001)@billing1`.

    In a program that runs for another user (set-uid) both: `ada (uid-1001) as callward (uid-998)@billing1`.
    """
    real, effective = os.getuid(), os.geteuid()
    user = _user(real) if real == effective else f"{_user(real)} as {_user(effective)}"
    return f"{user}@{host()}"[:WHO_SIZE]


def host() -> str:
    """Return the name of this machine or container."""
    return socket.gethostname()


def _user(uid: int) -> str:
    """Return a user's name and id; the id alone where no name belongs to it, as in many containers."""
    try:
        return f"{pwd.getpwuid(uid).pw_name} (uid-{uid})"
    except KeyError:
        return f"uid-{uid}"
