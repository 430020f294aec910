"""`WS /api-ws/v1/inference`: one task after another on a socket, text in while audio goes out."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Final

from cosyduplex.errors import ErrorCode
from cosyduplex_bridges.bridge import Bridge
from cosyduplex_bridges.dashscope.errors import error_code, error_message, refuse_handshake
from cosyduplex_bridges.dashscope.fields import Fields, bad_field, encodable
from cosyduplex_bridges.dashscope.parameters import DOOR, Wanted, read_parameters, without_tags
from cosyduplex_bridges.dashscope.sentences import Narration, SentenceAudio, SentenceBegin, SentenceEnd
from cosyduplex_server.access import Principal
from cosyduplex_server.dialect import Dialect, DialectSession, Socket, SocketDoor, Upgrade
from cosyduplex_server.errors import Failure
from cosyduplex_server.gateway import Gateway

log = logging.getLogger(__name__)

PATH: Final = "/api-ws/v1/inference"
# The vendor's: no text for so long fails a task.
TEXT_GAP_S: Final = 23.0
_MAX_TASK_ID_CHARS: Final = 128


def door(bridge: Bridge) -> SocketDoor:
    """Where it is."""

    def open_session(
        gateway: Gateway, socket: Socket, upgrade: Upgrade, principal: Principal | None
    ) -> DialectSession:
        return DialectSession(
            gateway, socket, DOOR, upgrade, principal, lambda session: InferenceDialect(session, bridge)
        )

    return SocketDoor(DOOR, PATH, open_session, refuse=refuse_handshake)


class _Task:
    """One task.

    Attributes:
        id: the client's.
        is_one_way: it came whole, and its client reads results of another form.
        accepts_text: it has not been finished.
        warnings: a sentence for each thing that is not done as asked.
    """

    def __init__(self, task_id: str, wanted: Wanted, narration: Narration, *, is_one_way: bool) -> None:
        self.id = task_id
        self.is_one_way = is_one_way
        self.wanted = wanted
        self.narration = narration
        self.accepts_text = True
        self.text_gap: asyncio.TimerHandle | None = None

    @property
    def warnings(self) -> list[str]:
        return [*self.wanted.ignored, *self.narration.utterance.warnings]

    def append(self, text: str) -> None:
        """Takes text."""
        if self.wanted.takes_ssml and (plain := without_tags(text)) is not None:
            text = plain
        self.narration.append(text)

    def stop_clock(self) -> None:
        """No text is waited for."""
        if self.text_gap is not None:
            self.text_gap.cancel()


class InferenceDialect(Dialect):
    """Tasks of one socket. Whatever fails ends the task with `task-failed`, then the socket."""

    def __init__(self, session: DialectSession, bridge: Bridge) -> None:
        super().__init__(session)
        self._bridge = bridge
        self._task: _Task | None = None
        self._last_id = ""  # of the last message that had one

    # --- in

    def receive(self, message: dict[str, Any]) -> None:
        """Obeys `run-task`, `continue-task` or `finish-task`."""
        fields = Fields(message, "message")
        header, payload = fields.part("header"), fields.part("payload")
        task_id = header.required_text("task_id")
        if len(task_id) > _MAX_TASK_ID_CHARS:
            raise bad_field(f"header.task_id may have {_MAX_TASK_ID_CHARS} characters")
        last_id, self._last_id = self._last_id, task_id
        match header.required_text("action"):
            case "run-task":
                self._run(task_id, header, payload)
            case "continue-task":
                self._continue(self._current(task_id), payload.part("input"))
            case "finish-task" if self._task is None and task_id == last_id:
                pass  # it ended while this was on its way
            case "finish-task":
                self._finish(self._current(task_id), payload.part("input"))
            case _:
                raise bad_field("header.action is not known", "Send run-task, continue-task or finish-task.")

    def _current(self, task_id: str) -> _Task:
        if self._task is None or self._task.id != task_id:
            raise bad_field("this task_id is not that of the task that runs", "Send run-task with it first.")
        return self._task

    def _run(self, task_id: str, header: Fields, payload: Fields) -> None:
        if self._task is not None:
            raise bad_field("a task runs on this connection already", "Wait for its task-finished.")
        gateway = self.session.gateway
        # The vendor's older one-way protocol brings the whole text here, and its models are the voices.
        is_one_way = header.text("streaming") == "out"
        wanted = read_parameters(
            self._bridge,
            payload.part("parameters"),
            gateway.config.dialect_max_ahead_ms,
            needs_voice=not is_one_way,
        )
        encoder = wanted.audio.encoder()
        utterance = self.session.speak(wanted.options, task_id)
        narration = Narration(self._bridge, utterance, encoder, word_times=wanted.word_times)
        self._task = task = _Task(task_id, wanted, narration, is_one_way=is_one_way)
        # At once, however long the engine's queue is: dashscope 2.0.2 gives up after 10 s without it.
        self._send(task, "task-started", {})
        self._await_text(task)
        _ = self.session.spawn(self._tell(task))
        if text := payload.part("input").text("text"):
            task.append(text)
        if is_one_way:
            self._end_text(task)

    def _continue(self, task: _Task, given: Fields) -> None:
        if not task.accepts_text:
            raise bad_field("the task has been finished: it takes no more text")
        text, flush = given.text("text"), given.flag("flush")
        if text:
            task.append(text)
        if flush:
            task.narration.flush()
        self._await_text(task)

    def _finish(self, task: _Task, given: Fields) -> None:
        if given.text("directive") == "cancel":
            task.narration.utterance.cancel()
            self._end(task)
        elif task.accepts_text:
            self._end_text(task)

    def _end_text(self, task: _Task) -> None:
        task.accepts_text = False
        task.stop_clock()
        task.narration.end()

    def _await_text(self, task: _Task) -> None:
        task.stop_clock()
        task.text_gap = self.session.call_later(TEXT_GAP_S, self._on_text_gap)

    def _on_text_gap(self) -> None:
        raise Failure(
            ErrorCode.TIMEOUT,
            f"request timeout after {TEXT_GAP_S:g} seconds",
            "Send text more often, or finish the task and run another.",
        )

    # --- out

    async def _tell(self, task: _Task) -> None:
        try:
            async for part in task.narration.parts():
                await self.session.writable()
                if self._task is not task:
                    return
                self._tell_part(task, part)
            if self._task is task:
                self._end(task)
        finally:
            task.stop_clock()

    def _tell_part(self, task: _Task, part: SentenceBegin | SentenceAudio | SentenceEnd) -> None:
        if not task.is_one_way:
            self._send(task, "result-generated", result_of(part))
        elif isinstance(part, SentenceEnd):
            self._send(task, "result-generated", one_way_result_of(part))
        if isinstance(part, SentenceAudio):
            self.session.send_binary(part.data)

    def _end(self, task: _Task) -> None:
        self._task = None
        task.stop_clock()
        for warning in task.warnings:
            log.info("not done as asked", extra={"door": DOOR, "warning": warning})
        # The older client of dashscope 2.0.2 takes a last output for one more sentence.
        output: dict[str, Any] | None = None if task.is_one_way else {"sentence": {"words": []}}
        usage = {"characters": task.narration.characters}
        self._send(task, "task-finished", {"output": output, "usage": usage})

    def _send(self, task: _Task, event: str, payload: dict[str, Any]) -> None:
        attributes: dict[str, Any] = {}
        if event != "result-generated" and task.warnings:
            attributes["warnings"] = task.warnings
        header = {"task_id": encodable(task.id), "event": event, "attributes": attributes}
        self.session.send({"header": header, "payload": payload})

    def fail(self, failure: Failure) -> None:
        """Ends the task with `task-failed`, then the socket, as the vendor does.

        `call` of dashscope 2.0.2 waits for ever for a task that ends with neither.
        """
        task_id = self._last_id
        if self._task is not None:
            task_id = self._task.id
            self._task.stop_clock()
            self._task.narration.utterance.close()
            self._task = None
        header = {
            "task_id": encodable(task_id),
            "event": "task-failed",
            "error_code": error_code(failure),
            "error_message": error_message(failure),
            "attributes": {},
        }
        self.session.send({"header": header, "payload": {}})
        self.session.close(reason=str(failure.code))

    def idle(self) -> None:
        """A task that is still being sent is let down with an error, an idle socket without."""
        if self._task is not None:
            raise Failure(ErrorCode.TIMEOUT, "nothing has happened for too long")
        super().idle()


def result_of(part: SentenceBegin | SentenceAudio | SentenceEnd) -> dict[str, Any]:
    """What `result-generated`, or an event of the HTTP door, says of a part."""
    sentence: dict[str, Any] = {"index": part.index, "words": []}
    output: dict[str, Any] = {"type": "sentence-synthesis", "sentence": sentence}
    if isinstance(part, SentenceAudio):
        return {"output": output}
    output["original_text"] = encodable(part.text)
    if isinstance(part, SentenceBegin):
        output["type"] = "sentence-begin"
        return {"output": output}
    output["type"] = "sentence-end"
    sentence["words"] = [
        {
            "text": encodable(word.text),
            "begin_index": word.begin_index,
            "end_index": word.end_index,
            "begin_time": word.begin_ms,
            "end_time": word.end_ms,
        }
        for word in part.words
    ]
    return {"output": output, "usage": {"characters": part.characters}}


def one_way_result_of(end: SentenceEnd) -> dict[str, Any]:
    """What the older protocol says of a sentence: times are of the whole audio."""
    words = [
        {
            "text": encodable(word.text),
            "begin_time": end.start_ms + word.begin_ms,
            "end_time": end.start_ms + word.end_ms,
        }
        for word in end.words
    ]
    sentence = {"begin_time": end.start_ms, "end_time": end.end_ms, "words": words}
    return {"output": {"sentence": sentence}, "usage": {"characters": end.characters}}
