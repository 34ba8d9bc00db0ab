"""Errors that a user can cause or mend: one clear sentence, no traceback, never a number."""


class Problem(Exception):
    """Something a person must know or mend; the command prints the sentence and exits with `exit_code`."""

    exit_code = 1


class UsageProblem(Problem):
    """Wrong arguments or settings (exit code 2)."""

    exit_code = 2
