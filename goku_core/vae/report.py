"""What stage `vae` reports."""

from __future__ import annotations

from pydantic import BaseModel


class Report(BaseModel):
    """Reconstruction is measured on sources that were never trained on. PSNR in dB of the mean squared error over all pixels."""

    psnr_images: float | None
    psnr_clips: float | None
    psnr: float
    psnr_components: float | None
    steps: int
    parameters: int
    held_out_images: int
    held_out_clips: int
    seconds: float
    samples_per_second: float
    resumed_from: int
