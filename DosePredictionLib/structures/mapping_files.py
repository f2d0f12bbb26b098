"""Mappings as files and as options of the command line."""

from __future__ import annotations

from pathlib import Path

from ..errors import MappingError
from ..files import write_json
from ..schema import read_json
from .assignment import StructureMapping, unknown_channel
from .protocol import StructureProtocol

__all__ = ["parse_map_option", "read_mapping", "write_mapping"]


def parse_map_option(option: str) -> tuple[str, str | None]:
    """Channel and structure of a `--map CHANNEL=NAME`; an empty NAME leaves the channel empty.

    Raises:
        MappingError: there is no "=", or nothing before it.
    """
    channel, sign, name = option.partition("=")
    if not sign or not channel.strip():
        raise MappingError(f"--map takes CHANNEL=NAME, as in --map PTV=PTV_4500; got {option!r}.")
    return channel.strip(), name.strip() or None


def read_mapping(path: Path, protocol: StructureProtocol) -> dict[str, str | None]:
    """Channel → structure from a mapping file, as `write_mapping` writes it.

    Raises:
        MappingError: it cannot be read, has other entries than `protocol` and `channels`, belongs
            to another protocol, or names a channel that the protocol lacks.
    """
    content = read_json(path, MappingError)
    if not isinstance(content, dict) or set(content) != {"protocol", "channels"}:
        got = sorted(content) if isinstance(content, dict) else type(content).__name__
        raise MappingError(
            f'{path} must hold {{"protocol": …, "channels": {{CHANNEL: NAME or null}}}}; got {got}.'
        )
    if content["protocol"] != protocol.id:
        raise MappingError(
            f"{path} maps to protocol {content['protocol']!r}, the model takes {protocol.id!r}."
        )
    channels = content["channels"]
    if not isinstance(channels, dict):
        raise MappingError(f"{path}: channels must be an object; got {channels!r}.")
    for channel, name in channels.items():
        if channel not in protocol.names:
            raise MappingError(f"{path}: {unknown_channel(channel, protocol)}")
        if name is not None and (not isinstance(name, str) or not name):
            raise MappingError(
                f"{path}: channel {channel} must hold a structure's name or null; got {name!r}."
            )
    return channels


def write_mapping(path: Path, mapping: StructureMapping) -> None:
    """Write a mapping as a file that `read_mapping` and `--mapping` take, whole or not at all.

    Raises:
        MappingError: the file cannot be written.
    """
    channels = {match.channel: match.structure for match in mapping.matches}
    if not path.parent.is_dir():
        raise MappingError(f"{path} cannot be written: there is no folder {path.parent}.")
    try:
        write_json(path, {"protocol": mapping.protocol, "channels": channels})
    except OSError as exception:
        raise MappingError(f"{path} cannot be written: {exception.strerror}.") from exception
