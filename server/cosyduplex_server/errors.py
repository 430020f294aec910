"""A failure with its code, ready to be told to a client of any door."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from cosyduplex.errors import ERROR_KINDS, ErrorCode
from cosyduplex.messages import Error


@dataclass(eq=False)
class Failure(Exception):
    """Something a client must be told.

    Attributes:
        code: from the table every door shares.
        message: what happened, for people; never a path or a traceback.
        solution: what to do; the code's own when not given.
        retry_after_ms: when trying again makes sense.
    """

    code: ErrorCode
    message: str
    solution: str | None = None
    retry_after_ms: int | None = None

    def __str__(self) -> str:
        return self.message

    def as_error(
        self,
        ends: Literal["none", "context", "session"],
        context_id: str | None = None,
        context_index: int | None = None,
    ) -> Error:
        """The failure as a message of the native protocol."""
        kind = ERROR_KINDS[self.code]
        return Error(
            code=self.code,
            message=self.message,
            solution=self.solution or kind.solution,
            retryable=kind.retryable,
            retry_after_ms=self.retry_after_ms,
            context_id=context_id,
            context_index=context_index,
            ends=ends,
        )

    def as_http(self) -> tuple[int, dict[str, str]]:
        """The failure as an HTTP status and a JSON body."""
        kind = ERROR_KINDS[self.code]
        body = {
            "error": str(self.code),
            "message": self.message,
            "solution": self.solution or kind.solution,
        }
        return kind.http_status, body


class ConfigError(Exception):
    """The configuration cannot be used (exit code 2)."""
