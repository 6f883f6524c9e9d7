"""What a training says of itself: config.json beside its weights, and the same in every checkpoint."""

from __future__ import annotations

import json
from typing import Any

from goku_core.models import GokuConfig
from goku_core.pipeline import code
from goku_core.pipeline.context import Context
from goku_core.pipeline.files import digest_json
from goku_core.shards import ShardReader
from goku_core.train.request import TrainRequest


def config_json(request: TrainRequest, config: GokuConfig, reader: ShardReader, context: Context) -> dict[str, Any]:
    """config.json of models/<phase>: all that using the weights needs to know. `request` has one phase."""
    ((name, phase),) = request.phases.items()
    resolutions = json.loads((context.input("data/latents") / "encoders.json").read_text())["resolutions"]
    return {
        "kind": "goku",
        "phase": name,
        "model": config.to_json(),
        "resolution": {"name": phase.resolution, **json.loads(resolutions)[phase.resolution]},
        "sampling": request.sampling.model_dump(mode="json"),
        "text": json.loads(reader.metadata["text_request"]),
        "encoders": {"vae": reader.metadata["vae"], "text": reader.metadata["text"]},
    }


def lineage(request: TrainRequest, config: GokuConfig, reader: ShardReader, context: Context) -> dict[str, Any]:
    """What every checkpoint says of its run: fingerprint, phase, digest of the code, and config.json for an export."""
    return {
        "fingerprint": context.fingerprint,
        "phase": next(iter(request.phases)),
        "code": digest_json(code.modules("goku_core.train")),
        "config": config_json(request, config, reader, context),
    }
