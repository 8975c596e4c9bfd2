"""`assembler index`: a seek index of a full image, for others to build with."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from assembler.commands import words as shared

if TYPE_CHECKING:
    from assembler.progress import Progress

HELP = "make a seek index, with which others fetch only what they want of the full image"


def add(command: argparse.ArgumentParser) -> None:
    """Add the command's words."""
    shared.inputs(command)
    add = command.add_argument_group("where to put it").add_argument
    add("-o", "--output", type=Path, metavar="FILE", help="a file")
    add("--push", metavar="REF", help="a name in a registry")
    shared.messages(command)


def run(words: argparse.Namespace, progress: Progress) -> int:
    """Write the index: the cached one, or one made by a full read."""
    from assembler.destinations.files import check_output, made_beside
    from assembler.errors import UsageError
    from assembler.preparation import opened, prepare
    from assembler.progress import size
    from assembler.reference import ImageName
    from assembler.seeking import finding as indexes
    from assembler.seeking import index as seekindex

    path, words.output = words.output, None
    name = ImageName.parse(words.push.removeprefix("docker://")) if words.push else None
    words.push = ()
    if path is None and name is None:
        raise UsageError("say where to put the index: -o FILE, --push REF, or both")
    if path is not None:
        check_output(path, over=True)
    options = replace(shared.options(words, progress), make_index=True)
    with opened(options, progress) as inputs:
        if not hasattr(inputs.full, "read_spans"):
            raise UsageError(f"{inputs.full.reference}: an index is of an image in a registry")
        index = None if options.read_all else indexes.of(inputs.full, inputs.cache)
        if index is None:
            index = prepare(inputs, progress).index
        assert index is not None
        data = seekindex.dump(index)
        if name is not None:
            indexes.push(data, name, options.access.client)
        if path is not None:
            with made_beside(path, folder=False, over=True) as temporary:
                temporary.write_bytes(data)
        document = {
            "source": inputs.full.reference,
            "digest": inputs.full.digest,
            "layers": len(index.layers),
            "files": sum(len(layer.files) for layer in index.layers.values()),
            "points": sum(len(layer.points) for layer in index.layers.values()),
            "size": len(data),
        }
    if words.json:
        print(json.dumps(document, indent=1))
    else:
        progress.say(
            f"{path or name}: {document['files']} files of {document['layers']} layers, "
            f"{document['points']} points, {size(len(data))}"
        )
    return 0
