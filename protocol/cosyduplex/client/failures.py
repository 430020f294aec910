"""What the client raises for reasons outside the program that uses it."""

from __future__ import annotations

from typing import NoReturn, Self

from cosyduplex.messages import Error


class CosyDuplexError(Exception):
    """Base of all that the client raises for reasons outside your program."""


class ServerError(CosyDuplexError):
    """Something was refused or failed; its text is `code: message — solution`.

    Attributes:
        code: what went wrong, an `ErrorCode` where it came from the server.
        message: the same for people.
        solution: what to do about it.
        retryable: trying again, later, may help.
        retry_after_ms: when, where the server said so.
    """

    def __init__(
        self,
        code: str,
        message: str,
        solution: str = "",
        *,
        retryable: bool = False,
        retry_after_ms: int | None = None,
    ) -> None:
        super().__init__(f"{code}: {message}" + (f" — {solution}" if solution else ""))
        self.code = code
        self.message = message
        self.solution = solution
        self.retryable = retryable
        self.retry_after_ms = retry_after_ms

    @classmethod
    def from_message(cls, error: Error) -> Self:
        """Returns what the server's `error` says, to be raised."""
        return cls(
            error.code,
            error.message,
            error.solution,
            retryable=error.retryable,
            retry_after_ms=error.retry_after_ms,
        )


class ConnectError(ServerError):
    """No session could be opened: nobody answered, or the server refused."""


class SessionError(ServerError):
    """The server ended the session with an error."""


class ContextError(ServerError):
    """The server ended the context with an error, or refused part of its text while `speak` ran."""


class SessionClosed(CosyDuplexError):
    """The session is over: closed by either side, or the socket broke.

    Attributes:
        code: the WebSocket close code; 1006 when there was none.
        reason: why, as far as is known.
    """

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"session closed ({code}): {reason or 'no reason given'}")
        self.code = code
        self.reason = reason


class ContextEnded(CosyDuplexError):
    """Text came for a context that is done or cancelled."""


def raise_again(error: BaseException) -> NoReturn:
    """Raises an error that several tasks may meet, without the traceback of the last one."""
    raise error.with_traceback(None)
