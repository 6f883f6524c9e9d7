"""Networks. torch only; reads like section 2 of the paper (arXiv 2502.04896)."""

from goku_core.models.config import CONFIGS, GokuConfig, VideoVAEConfig
from goku_core.models.transformer import Goku, parameter_count
from goku_core.models.vae import VideoVAE

__all__ = ["CONFIGS", "Goku", "GokuConfig", "VideoVAE", "VideoVAEConfig", "parameter_count"]
