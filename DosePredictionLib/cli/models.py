"""`models`: what is installed, its provenance and checksums; imports and ensembles."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from ..app.models import (
    CombineRequest,
    ImportRequest,
    combine,
    import_checkpoint,
    list_models,
    show_model,
    skipped_models,
    verify_model,
)
from ..app.output import Output
from .options import add_json_option

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


def _list(call: argparse.Namespace, output: Output) -> int:
    models = list_models()
    lines = [
        f"{model.name:<28} {model.protocol:<9} {_grouped(model.parameters):>11}  "
        f"{'default' if model.default else '':<8} {model.path}"
        for model in models
    ]
    lines = lines or ["No models are installed."]
    skipped = skipped_models()
    lines += [f"{finding.severity}: {finding.message} {finding.remedy}" for finding in skipped]
    content = {
        "models": [model.as_json() for model in models],
        "skipped": [finding.as_json() for finding in skipped],
    }
    output.result(content, "\n".join(lines))
    return 0


def _grouped(number: int | None) -> str:
    return "?" if number is None else f"{number:,}"


def _show(call: argparse.Namespace, output: Output) -> int:
    card = show_model(call.name)
    output.result({"model": card}, json.dumps(card, indent=2, ensure_ascii=False))
    return 0


def _verify(call: argparse.Namespace, output: Output) -> int:
    verified = verify_model(call.name)
    text = (
        f"{verified['name']}: the weights are those of the manifest (SHA-256 {verified['sha256']})."
    )
    output.result({"model": verified}, text)
    return 0


def _import(call: argparse.Namespace, output: Output) -> int:
    spacing = tuple(call.spacing) if call.spacing else None
    request = ImportRequest(call.checkpoint, call.name, call.protocol, call.output, spacing)
    made = import_checkpoint(request)
    output.result({"model": made.as_json()}, f"Imported {made.name} to {made.path}.")
    return 0


def _combine(call: argparse.Namespace, output: Output) -> int:
    models = tuple(call.models)
    made = combine(CombineRequest(models, call.name, call.title, call.output, call.mirror))
    text = f"Combined {made.networks} networks as {made.name} in {made.path}."
    output.result({"model": made.as_json()}, text)
    return 0
