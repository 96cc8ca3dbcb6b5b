"""Workers that are processes of this machine."""

import multiprocessing
import pickle
import signal
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from threading import Lock
from typing import Any

from supsup_models.errors import WorkerError
from supsup_models.inference.sharded.part import Part, Plan
from supsup_models.inference.sharded.workers import Workers

_END_SECONDS = 5.0


class ProcessWorkers(Workers):
    """A process for each part. Masks are not sent: each process opens the sources, or maps the file, for itself.

    A program that starts processes needs `if __name__ == "__main__":` around what it does, as always with spawned
    processes.

    Args:
        count: How many processes.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._lock = Lock()
        self._asked = 0
        self._links: list[Connection] = []
        self._processes: list[Any] = []

    def start(self, plans: Sequence[Plan]) -> None:
        context = multiprocessing.get_context("spawn")  # a fork would copy the threads' locks
        for _ in plans:
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(theirs,), daemon=True)
            process.start()
            theirs.close()
            self._links.append(ours)
            self._processes.append(process)
        with self._lock:
            for number, plan in enumerate(plans):
                self._send(number, pickle.dumps((0, "start", (plan,))))
            self._answers(0)

    def ask(self, question: str, *arguments: Any) -> list[Any]:
        with self._lock:
            if not self._links:
                raise WorkerError("sharded inference: expected workers, found them closed")
            self._asked += 1
            message = pickle.dumps((self._asked, question, arguments), protocol=5)
            for number in range(len(self._links)):
                self._send(number, message)
            return self._answers(self._asked)

    def close(self) -> None:
        for link in self._links:
            link.close()
        for process in self._processes:
            process.join(_END_SECONDS)
            if process.is_alive():
                process.kill()
        self._links, self._processes = [], []

    def _send(self, number: int, message: bytes) -> None:
        try:
            self._links[number].send_bytes(message)
        except OSError:
            raise self._gone(number) from None

    def _answers(self, asked: int) -> list[Any]:
        """An answer from each; those to a question that was interrupted are passed over."""
        answers = []
        for number, link in enumerate(self._links):
            while True:
                try:
                    answered, error, answer = pickle.loads(link.recv_bytes())
                except (EOFError, OSError):
                    raise self._gone(number) from None
                if answered == asked:
                    break
            answers.append((error, answer))
        for error, _ in answers:
            if error is not None:
                raise error
        return [answer for _, answer in answers]

    def _gone(self, number: int) -> WorkerError:
        self._processes[number].join(1.0)
        return WorkerError(
            f"worker {number}: expected an answer, found that its process ended (exit code "
            f"{self._processes[number].exitcode}); make the inference anew"
        )


def _serve(link: Connection) -> None:
    """Answer until the other end closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the caller's; its end closes the link
    part: Part | None = None
    with suppress(EOFError, OSError):
        while True:
            number, question, arguments = pickle.loads(link.recv_bytes())
            try:
                answer = None
                if question == "start":
                    part = Part(*arguments, own_process=True)
                else:
                    answer = getattr(part, question)(*arguments)
                reply = pickle.dumps((number, None, answer), protocol=5)
            except Exception as error:
                reply = pickle.dumps((number, error, None))
            link.send_bytes(reply)
