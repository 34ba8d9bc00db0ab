"""Errors that a user can cause or fix: one clear sentence, no traceback, never a number."""

from typing import ClassVar


class Problem(Exception):
    """Something a person must know or fix; the command prints the sentence and exits with `exit_code`.

    Attributes:
        exit_code: of the command that ends with it.
        code: one word for programs, which does not change when the sentence does.
        hint: the next step, where the sentence does not say it.
    """

    exit_code: ClassVar[int] = 1
    code: ClassVar[str] = "problem"

    def __init__(self, *sentence: object, hint: str | None = None) -> None:
        super().__init__(*sentence)
        self.hint = hint


class UsageProblem(Problem):
    """Wrong arguments or settings (exit code 2)."""

    exit_code = 2
    code = "usage"
