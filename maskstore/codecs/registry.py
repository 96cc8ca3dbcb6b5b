"""Codec id -> codec. Registration is explicit: a codec is known if, and only if, it is listed here."""

import json
from collections.abc import Mapping

from maskstore.codecs.ans import Ans
from maskstore.codecs.base import Codec
from maskstore.codecs.choice import Auto
from maskstore.codecs.gap import Gap
from maskstore.codecs.mix import Mix
from maskstore.codecs.raw import Raw
from maskstore.codecs.zstd import Zstd
from maskstore.errors import CodecError, UnknownCodecError

_CODECS: dict[str, type[Codec]] = {codec.id: codec for codec in (Raw, Zstd, Gap, Ans, Mix, Auto)}


SHORTHANDS: dict[str, Codec] = {"max": Auto(level="max")}
"""Names that stand for a codec with certain settings, for use where a codec is asked for in one word."""


def codec_names() -> tuple[str, ...]:
    """What `get_codec` takes: the ids of all codecs this version knows, and the shorthands."""
    return (*_CODECS, *SHORTHANDS)


def codec_ids() -> tuple[str, ...]:
    """Ids of all codecs this version knows."""
    return tuple(_CODECS)


def get_codec(codec: str | Codec) -> Codec:
    """A codec from its id (with default settings) or shorthand, or the codec itself; UnknownCodecError for others."""
    if isinstance(codec, Codec):
        return codec
    return SHORTHANDS.get(codec) or codec_from_config({"id": codec})


def codec_to_json(codec: Codec) -> str:
    """Compact JSON of a codec's id and settings."""
    return json.dumps(codec.to_config(), separators=(",", ":"))


def codec_from_config(config: object) -> Codec:
    """The codec that a JSON object describes; UnknownCodecError, or CodecError for settings it does not take."""
    if not isinstance(config, Mapping) or not isinstance(config.get("id"), str):
        raise CodecError(f"a codec: expected a JSON object with an id, found {config!r:.80}")
    settings = {str(key): value for key, value in config.items() if key != "id"}
    try:
        codec = _CODECS[config["id"]]
    except KeyError:
        raise UnknownCodecError(f"codec {config['id']!r:.40}: expected one of {', '.join(_CODECS)}") from None
    try:
        return codec(**settings)
    except TypeError:
        raise CodecError(f"codec {codec.id}: expected its own settings, found {sorted(settings)!r:.80}") from None
