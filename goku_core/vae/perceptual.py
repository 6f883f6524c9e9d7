"""The perceptual term: distance of two pictures in the features of a pretrained network."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import Tensor, nn

from goku_core.pipeline.errors import GokuError

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
MISSING = (
    "vae.perceptual.weights: {folder} holds no picture network ({what}). Download one where the hub can be reached, for example\n"
    "  hf download microsoft/resnet-50 --include config.json preprocessor_config.json model.safetensors "
    "--local-dir weights/resnet-50\n"
    "and name that folder; or set vae.perceptual.weight: 0, which leaves the term out."
)


class PerceptualDistance(nn.Module):
    """Squared difference of features of unit length, averaged over places, summed over channels, averaged over stages.

    This is LPIPS (arXiv 1801.03924) without its learned weights of channels: our choice, because those are published for two
    networks only, in a pickle; any backbone that transformers can load serves here.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, folder: Path) -> None:
        """Raises GokuError saying how to get the weights where `folder` does not hold them."""
        super().__init__()
        from safetensors import SafetensorError
        from transformers import AutoConfig
        from transformers.models.auto.modeling_auto import MODEL_FOR_BACKBONE_MAPPING

        if not (folder / "config.json").is_file():
            raise GokuError(MISSING.format(folder=folder, what="config.json is missing"))
        try:
            config = AutoConfig.from_pretrained(str(folder), local_files_only=True)
            if type(config) not in MODEL_FOR_BACKBONE_MAPPING:
                raise GokuError(MISSING.format(folder=folder, what=f"{config.model_type} gives no feature maps"))
            # Not through AutoBackbone, which asks the hub even for a local folder.
            self.network, loading = MODEL_FOR_BACKBONE_MAPPING[type(config)].from_pretrained(
                str(folder),
                out_indices=list(range(1, len(config.stage_names))),
                use_safetensors=True,
                local_files_only=True,
                output_loading_info=True,
            )
        except (OSError, ValueError, SafetensorError) as error:
            raise GokuError(MISSING.format(folder=folder, what=str(error).splitlines()[0])) from error
        if loading["missing_keys"]:
            lacking = f"its weights lack {len(loading['missing_keys'])} tensors of its config.json"
            raise GokuError(MISSING.format(folder=folder, what=lacking))
        mean, deviation = _statistics(folder)
        self.register_buffer("mean", torch.tensor(mean)[:, None, None])
        self.register_buffer("deviation", torch.tensor(deviation)[:, None, None])
        self.eval().requires_grad_(False)

    def forward(self, pictures: Tensor, others: Tensor) -> Tensor:
        """Two batches (N, 3, H, W) in [-1, 1] -> their mean distance."""
        total = []
        for one, other in zip(self._features(pictures), self._features(others), strict=True):
            total.append((one - other).square().sum(dim=1).mean())
        return torch.stack(total).mean()

    def _features(self, pictures: Tensor) -> list[Tensor]:
        maps = self.network(((pictures + 1) / 2 - self.mean) / self.deviation).feature_maps
        return [found * torch.rsqrt(found.square().sum(dim=1, keepdim=True) + 1e-10) for found in maps]


def _statistics(folder: Path) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation of the pixels the network was trained on."""
    path = folder / "preprocessor_config.json"
    if not path.is_file():
        return IMAGENET
    described = json.loads(path.read_text(encoding="utf-8"))
    return tuple(described.get("image_mean", IMAGENET[0])), tuple(described.get("image_std", IMAGENET[1]))
