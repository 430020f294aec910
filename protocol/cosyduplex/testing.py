"""Two real ends of the protocol wired together, for tests of either (after h11's `ConnectionPair`)."""

from __future__ import annotations

from collections import deque

from cosyduplex.connection import ClientConnection, Received, ServerConnection, ServerEvent, Violation
from cosyduplex.messages import ClientMessage, ServerMessage


class ConnectionPair:
    """A client core and a server core with a wire between them that delivers when told to.

    Attributes:
        client: the client's end.
        server: the server's end.
    """

    def __init__(self) -> None:
        self.client = ClientConnection()
        self.server = ServerConnection()
        self._to_server: deque[bytes] = deque()
        self._to_client: deque[tuple[bool, bytes]] = deque()

    def client_sends(self, message: ClientMessage) -> None:
        """Puts a message on the wire to the server."""
        self._to_server.append(self.client.send(message))

    def server_sends(self, message: ServerMessage) -> None:
        """Puts a message on the wire to the client."""
        self._to_client.append((False, self.server.send(message)))

    def server_sends_frame(self, index: int, pts: int, payload: bytes, *, last: bool = False) -> None:
        """Puts a frame on the wire to the client."""
        self._to_client.append((True, self.server.send_frame(index, pts, payload, last=last)))

    @property
    def in_flight(self) -> tuple[int, int]:
        """Messages on the way to the server and to the client."""
        return len(self._to_server), len(self._to_client)

    def deliver_to_server(self) -> list[Received | Violation]:
        """Hands the oldest message to the server."""
        return self.server.receive_text(self._to_server.popleft())

    def deliver_to_client(self) -> ServerEvent:
        """Hands the oldest message or frame to the client."""
        is_frame, data = self._to_client.popleft()
        return self.client.receive_binary(data) if is_frame else self.client.receive_text(data)
