"""The collector's duty is told by what is left in memory, in a process of its own."""

import subprocess
import sys

SCRIPT = """
import gc, weakref
from cosyduplex_server.collector import Collector

class Session:
    def __init__(self):
        self.me = self  # a cycle, as ended sessions leave some

def end_sessions(collector, num, num_live):
    left = []
    for _ in range(num):
        session = Session()
        left.append(weakref.ref(session))
        gc.collect(1)  # it has grown old: no small bite takes it any more
        del session
        collector.session_ended(num_live)
    return sum(ref() is not None for ref in left)

collector = Collector()
"""


def left_over(lines: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", SCRIPT + lines], capture_output=True, text=True, check=True
    ).stdout.strip()


def test_what_a_session_left_is_gone_as_soon_as_nobody_is_listening() -> None:
    assert left_over("collector.start(); print(end_sessions(collector, 5, 0))") == "0"


def test_under_load_what_sessions_left_waits_for_many_more_to_end() -> None:
    assert left_over("collector.start(); print(end_sessions(collector, 100, 300))") == "100"
    assert left_over("collector.start(); print(end_sessions(collector, 1100, 25))") == "0"


def test_the_collector_of_a_process_that_is_not_the_server_is_left_alone() -> None:
    assert left_over("print(gc.get_threshold())") == left_over(
        "end_sessions(collector, 2, 0); print(gc.get_threshold())"
    )
    assert left_over("print(end_sessions(collector, 5, 0), gc.get_freeze_count())") == "5 0"
