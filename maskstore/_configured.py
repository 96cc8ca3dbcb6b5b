"""Objects with an id whose fields are their JSON settings: codecs and priors."""

from abc import ABC
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, ClassVar, TypeVar

from maskstore.errors import CodecError, MaskStoreError

C = TypeVar("C", bound="Configured")


class Configured(ABC):
    """Base of frozen dataclasses with an id."""

    id: ClassVar[str]

    def to_config(self) -> dict[str, Any]:
        """A JSON-ready dict: the id and the fields."""
        return {"id": self.id, **asdict(self)}  # type: ignore[call-overload]


def from_config(config: object, kinds: Mapping[str, type[C]], what: str, unknown: type[MaskStoreError]) -> C:
    """The object that a JSON object describes; `unknown` for an id of none of `kinds`, CodecError for other fields."""
    if not isinstance(config, Mapping) or not isinstance(config.get("id"), str):
        raise CodecError(f"a {what}: expected a JSON object with an id, found {config!r:.80}")
    if config["id"] not in kinds:
        raise unknown(f"{what} {config['id']!r:.40}: expected one of {', '.join(kinds)}")
    fields = {str(key): value for key, value in config.items() if key != "id"}
    try:
        return kinds[config["id"]](**fields)
    except TypeError:
        raise CodecError(f"{what} {config['id']}: expected its own settings, found {sorted(fields)!r:.80}") from None
