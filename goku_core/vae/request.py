"""Parameters of stage `vae`."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, model_validator


class VaeRequest(BaseModel):
    """Trains the joint image-video VAE on the kept clips (paper section 2.1; sizes and recipe: our choice)."""

    model_config = ConfigDict(extra="forbid")

    latent_channels: int = Field(16, ge=1, le=64, description="channels of the latent; 16 as in the VAE the paper took")
    width: int = Field(64, ge=8, le=1024, description="channels of the convolutions")
    encoder_depth: int = Field(1, ge=0, le=32, description="residual blocks of the encoder")
    decoder_depth: int = Field(3, ge=0, le=32, description="residual blocks of the decoder")
    height: int = Field(64, ge=16, multiple_of=16, description="height of training crops, px")
    image_width: int = Field(112, ge=16, multiple_of=16, description="width of training crops, px")
    frames: int = Field(17, ge=1, description="frames of a training clip, 4k+1")
    fps: float = Field(8.0, gt=0, description="frames per second at which clips are read")
    max_images: int = Field(1600, ge=0, description="pictures read at most, drawn from the kept ones")
    max_clips: int = Field(160, ge=0, description="clips read at most, drawn from the kept ones")
    steps: int = Field(200, ge=0, description="training steps; 0 keeps the principal components")
    batch_images: int = Field(16, ge=0, description="pictures in a step")
    batch_clips: int = Field(1, ge=0, description="clips in a step")
    learning_rate: float = Field(3e-3, gt=0, description="peak learning rate of AdamW")
    kl_weight: float = Field(1e-6, ge=0, description="weight of the KL term")
    latent_noise: float = Field(
        0.5,
        ge=0,
        le=2,
        description="largest noise on the code in training, in units of the normalised latent: the decoder learns to clean",
    )
    held_out: float = Field(0.05, gt=0, lt=0.5, description="share of sources never trained on, used for PSNR")
    minimum_psnr: float = Field(0.0, ge=0, description="dB on held-out media below which the stage fails")

    @model_validator(mode="after")
    def _frames_fit_the_stride(self) -> VaeRequest:
        if (self.frames - 1) % 4:
            raise ValueError(f"frames {self.frames}: must be 4k+1 (1, 5, 9, 13, 17, ...), the stride in time")
        if self.batch_images + self.batch_clips < 1:
            raise ValueError("batch_images and batch_clips are both 0: at least one must be above 0")
        return self
