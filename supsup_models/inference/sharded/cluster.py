"""Workers of other engines: actors of Ray, and ranks of torch.distributed. Both are thin: the work is `Part`'s."""

from collections.abc import Sequence
from typing import Any

from maskstore.errors import needing
from supsup_models.errors import WorkerError
from supsup_models.inference.sharded.part import Part, Plan
from supsup_models.inference.sharded.workers import Workers


class RayWorkers(Workers):
    """Actors of Ray, one for each part; for a service over many machines. Sources are locations that all can open.

    Args:
        count: How many actors.
        cpus: How many processors Ray sets aside for each.
    """

    def __init__(self, count: int, *, cpus: float = 1.0) -> None:
        self.count, self._cpus = count, cpus
        self._actors: list[Any] = []
        with needing("ray", "RayWorkers"):
            import ray
        self._ray = ray

    def start(self, plans: Sequence[Plan]) -> None:
        actor = self._ray.remote(num_cpus=self._cpus)(Part)
        self._actors = [actor.remote(plan, own_process=True) for plan in plans]
        self.ask("counts")

    def ask(self, question: str, *arguments: Any) -> list[Any]:
        shared = [self._ray.put(argument) for argument in arguments]
        try:
            return list(self._ray.get([getattr(actor, question).remote(*shared) for actor in self._actors]))
        except self._ray.exceptions.RayActorError as error:
            found = type(error).__name__
            raise WorkerError(f"sharded inference: expected answers of all actors, found one gone ({found})") from None

    def close(self) -> None:
        for actor in self._actors:
            self._ray.kill(actor)
        self._actors = []


class DistributedWorkers(Workers):
    """The ranks of a torch.distributed group (gloo), this one included. Rank 0 asks; the others call `serve`.

    Args:
        group: The group; the default one if not given.
    """

    def __init__(self, group: Any = None) -> None:
        from torch import distributed

        self._api, self._group = distributed, group
        self.count = distributed.get_world_size(group)
        self._part: Part | None = None

    def start(self, plans: Sequence[Plan]) -> None:
        self._exchange("start", (plans,))

    def ask(self, question: str, *arguments: Any) -> list[Any]:
        return self._exchange(question, arguments)

    def close(self) -> None:
        if self._part is not None:
            self._exchange("close", ())

    def serve(self) -> None:
        """Answer rank 0 until it closes."""
        while self._answer(self._told(None)):
            pass

    def _exchange(self, question: str, arguments: tuple[Any, ...]) -> list[Any]:
        self._told((question, arguments))
        answers: list[Any] = [None] * self.count
        self._answer((question, arguments), answers)
        for error, _ in answers if question != "close" else ():
            if error is not None:
                raise error
        return [answer for _, answer in answers] if question != "close" else []

    def _told(self, message: Any) -> Any:
        box = [message]
        self._api.broadcast_object_list(box, src=0, group=self._group)
        return box[0]

    def _answer(self, message: Any, answers: list[Any] | None = None) -> bool:
        question, arguments = message
        if question == "close":
            self._part = None
            return False
        found: tuple[Exception | None, Any]
        try:
            if question == "start":
                self._part = Part(arguments[0][self._api.get_rank(self._group)])
                found = None, None
            else:
                found = None, getattr(self._part, question)(*arguments)
        except Exception as error:
            found = error, None
        self._api.gather_object(found, answers, dst=0, group=self._group)
        return True
