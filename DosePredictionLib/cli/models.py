"""`models`: what is installed, its provenance and checksums; imports and ensembles."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..errors import ModelError
from ..models.combine import combine_models
from ..models.dose_model import DoseModel, published_encoding
from ..models.manifest import installed_manifests
from ..networks import build_network, parameter_count
from ..resources import model_folders
from ..schema import to_json
from ..structures.protocol import StructureProtocol
from .options import add_json_option
from .output import Output

__all__ = ["add_parser"]


def add_parser(commands: Any) -> None:
    """Add the command's parser."""
    parser = commands.add_parser("models", help="list, show, verify, import or combine models")
    add_json_option(parser)
    parser.set_defaults(run=_list)
    actions = parser.add_subparsers(dest="action")
    listing = actions.add_parser("list", help="what is installed")
    add_json_option(listing)
    listing.set_defaults(run=_list)
    for action, run, text in (
        ("show", _show, "a model's card"),
        ("verify", _verify, "check a model's weights against its checksum"),
    ):
        one = actions.add_parser(action, help=text)
        one.add_argument("name", help="name or folder")
        add_json_option(one)
        one.set_defaults(run=run)
    importing = actions.add_parser("import", help="turn a published checkpoint into a model folder")
    importing.add_argument("checkpoint", type=Path)
    importing.add_argument("--name", required=True)
    importing.add_argument("--protocol", required=True)
    importing.add_argument("--output", type=Path, help="folder of model folders (default: yours)")
    importing.add_argument(
        "--spacing",
        type=float,
        nargs=3,
        metavar=("X", "Y", "Z"),
        help="mm, for cases that do not have the network's own size (default: 2 2 5)",
    )
    add_json_option(importing)
    importing.set_defaults(run=_import)
    combining = actions.add_parser("combine", help="several models as one, their doses averaged")
    combining.add_argument("models", nargs="+", help="names or folders")
    combining.add_argument("--name", required=True)
    combining.add_argument("--title", help="how a person reads it (default: the name)")
    combining.add_argument("--output", type=Path, help="folder of model folders (default: yours)")
    combining.add_argument("--mirror", action="store_true", help="average with mirrored patients")
    add_json_option(combining)
    combining.set_defaults(run=_combine)


def _parameters(model: DoseModel) -> int | None:
    """Trainable values of all the model's networks; None if one needs what is not installed."""
    architectures = [each.architecture or model.manifest.architecture for each in model.members]
    try:
        networks = [build_network(each.name, each.arguments) for each in architectures]
    except ModelError:
        return None
    return sum(parameter_count(network) for network in networks)


def _record(model: DoseModel) -> dict[str, Any]:
    manifest = model.manifest
    return {
        "name": manifest.name,
        "title": manifest.title,
        "protocol": manifest.protocol,
        "architecture": manifest.architecture.name,
        "networks": len(model.members),
        "parameters": _parameters(model),
        "default": manifest.default,
        "path": str(model.folder),
    }


def _list(call: argparse.Namespace, output: Output) -> int:
    records = [_record(model) for model in DoseModel.installed()]
    skipped = installed_manifests().skipped
    lines = [
        f"{r['name']:<28} {r['protocol']:<9} {_grouped(r['parameters']):>11}  "
        f"{'default' if r['default'] else '':<8} {r['path']}"
        for r in records
    ]
    lines = lines or ["No models are installed."]
    lines += [f"{finding.severity}: {finding.message} {finding.remedy}" for finding in skipped]
    content = {"models": records, "skipped": [finding.as_json() for finding in skipped]}
    output.result(content, "\n".join(lines))
    return 0


def _grouped(number: int | None) -> str:
    return "?" if number is None else f"{number:,}"


def _show(call: argparse.Namespace, output: Output) -> int:
    model = DoseModel.load(call.name)
    card = {**to_json(model.manifest), "path": str(model.folder)}
    output.result({"model": card}, json.dumps(card, indent=2, ensure_ascii=False))
    return 0


def _verify(call: argparse.Namespace, output: Output) -> int:
    model = DoseModel.load(call.name)
    for member in model.members:
        model.network(member)
    checksum = model.manifest.weights_sha256
    output.result(
        {"model": {"name": model.manifest.name, "verified": True, "sha256": checksum}},
        f"{model.manifest.name}: the weights are those of the manifest (SHA-256 {checksum}).",
    )
    return 0


def _import(call: argparse.Namespace, output: Output) -> int:
    protocol = StructureProtocol.load(call.protocol)
    root = call.output or model_folders()[-1]
    encoding = published_encoding(protocol)
    if call.spacing:
        if encoding.grid.kind != "as-is":
            raise ModelError(f"--spacing is for protocols of a fixed grid, not {protocol.id}.")
        grid = replace(encoding.grid, spacing_mm=tuple(call.spacing))
        encoding = replace(encoding, grid=grid)
    model = DoseModel.import_checkpoint(call.checkpoint, call.name, protocol, root, encoding)
    record = {"name": model.manifest.name, "path": str(model.folder)}
    output.result({"model": record}, f"Imported {record['name']} to {record['path']}.")
    return 0


def _combine(call: argparse.Namespace, output: Output) -> int:
    models = [DoseModel.load(name) for name in call.models]
    root = call.output or model_folders()[-1]
    model = combine_models(models, call.name, call.title or call.name, root, call.mirror)
    record = {"name": model.manifest.name, "path": str(model.folder)}
    text = f"Combined {len(model.members)} networks as {record['name']} in {record['path']}."
    output.result({"model": record}, text)
    return 0
