"""Parameters of stage `vae`."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from goku_core.pipeline.rules import Rule, Rules


class Perceptual(BaseModel):
    """Distance of features of a pretrained picture network (as LPIPS, arXiv 1801.03924, without its learned weights)."""

    model_config = ConfigDict(extra="forbid")

    weight: float = Field(0.0, ge=0, description="weight of the term; 0 leaves it out")
    weights: str = Field(
        "weights/resnet-50",
        min_length=1,
        description="folder of the network (any backbone of transformers)",
    )
    frames: int = Field(4, ge=1, description="frames of a clip that are compared, drawn anew in every step")

    def weights_in_use(self) -> list[str]:
        return [self.weights] if self.weight > 0 else []


class Adversarial(BaseModel):
    """A 3D patch discriminator with hinge loss (as VQGAN, arXiv 2012.09841)."""

    model_config = ConfigDict(extra="forbid")

    weight: float = Field(0.0, ge=0, description="weight of the term; 0 leaves it out")
    start: int = Field(0, ge=0, description="step from which on there is a discriminator")
    adaptive: bool = Field(
        True, description="scale the term so that its gradient at the last layer is as large as that of the rest"
    )
    width: int = Field(64, ge=8, le=512, multiple_of=8, description="channels of the discriminator's first layer")
    depth: int = Field(3, ge=1, le=5, description="layers of the discriminator that halve the picture")
    learning_rate: float = Field(2e-4, gt=0, description="learning rate of the discriminator")


class VaeRequest(BaseModel):
    """Trains the joint image-video VAE on the kept clips, or takes a pretrained one (paper section 2.1; recipe: our choice)."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra=Rules(
            Rule({"batch_images": {"const": 0}}, {"batch_clips": {"minimum": 1}}),
            Rule({"kind": {"enum": ["cogvideox", "wan"]}}, {"weights": {"minLength": 1}}),
        ),
    )

    kind: Literal["trained", "cogvideox", "wan"] = Field(
        "trained", description="trained here, or the pretrained VAE of CogVideoX (the paper's) or of Wan"
    )
    weights: str = Field("", description="hub name or local folder (cogvideox and wan only)")
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
    l1_weight: float = Field(0.3, ge=0, description="weight of the mean absolute error")
    l2_weight: float = Field(
        3.0, ge=0, description="weight of the mean squared error; 0 (and l1_weight 1) is the usual recipe at scale"
    )
    kl_weight: float = Field(1e-6, ge=0, description="weight of the KL term")
    perceptual: Perceptual = Field(default_factory=Perceptual, description="features of a picture network")
    adversarial: Adversarial = Field(default_factory=Adversarial, description="a discriminator")
    latent_noise: float = Field(
        0.5,
        ge=0,
        le=2,
        description="largest noise on the code in training, in units of the normalised latent: the decoder learns to clean",
    )
    checkpoint_every: int = Field(100, ge=1, description="steps between checkpoints")
    held_out: float = Field(0.05, gt=0, lt=0.5, description="share of sources never trained on, used for PSNR")
    minimum_psnr: float = Field(0.0, ge=0, description="dB on held-out media below which the stage fails")

    def weights_in_use(self) -> list[str]:
        return [self.weights] if self.kind != "trained" else []

    @model_validator(mode="after")
    def _fits(self) -> VaeRequest:
        if (self.frames - 1) % 4:
            raise ValueError(f"frames {self.frames}: must be 4k+1 (1, 5, 9, 13, 17, ...), the stride in time")
        if self.batch_images + self.batch_clips < 1:
            raise ValueError("batch_images and batch_clips are both 0: at least one must be above 0")
        if self.kind != "trained" and not self.weights:
            raise ValueError(f"kind {self.kind} needs weights: a folder, or a hub name")
        return self
