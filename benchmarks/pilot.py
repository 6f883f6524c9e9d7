"""Rectified flow against DDPM over training steps: the paper's pilot (section 2.3, Table 2), scaled to minutes on two CPU cores.

Measures the claim that rectified flow reaches a given Frechet distance in fewer steps. Same network (class-conditional
Goku), same seeds: equal initial weights, pictures, noise and uniform draws of time at every step; same optimizer, same
number of network evaluations in sampling. What differs is path, target and sampler: Euler for the flow, DDIM for DDPM;
at the last step both also with more evaluations, DDPM with its ancestral sampler; its estimates of the picture are
clipped to the range of pixels, as is usual. No guidance. Times of the flow are logit-normal as in our training, levels
of DDPM uniform. Averaged weights are sampled.

Scaled down, all our choice: pictures of one coloured shape (24 classes), pixels instead of a VAE's latents so that no
VAE stands between, patches of 1x4x4, a network of a million weights whose time and class layers start larger. The
distance is Frechet's over features of a classifier trained here and of a random network (`measuring/frechet.py`): not
FID, and its values compare with no other table. The row "real" is what as many fresh real pictures score.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.measuring import machine
from benchmarks.measuring.frechet import Classifier, frechet_distance, random_network, train_classifier
from benchmarks.measuring.options import parser, settle
from benchmarks.measuring.pictures import CLASSES, pictures
from benchmarks.measuring.result import Result
from goku_core.models import Goku, GokuConfig
from goku_core.models.patches import grid_coords, to_latent, to_tokens
from goku_core.transport import DDPM, RectifiedFlow, ancestral, ddim, integrate, time_grid, timestep_of_uniform

CLAIM = "Frechet distance over training steps, rectified flow against DDPM: same network, seeds, steps and evaluations"
PATCH = 4
Prediction = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Plan:
    """How much of everything. `checkpoints`: training steps after which both are sampled."""

    side: int = 24
    depth: int = 5
    width: int = 96
    batch: int = 64
    checkpoints: tuple[int, ...] = (100, 200, 400, 800)
    train_pictures: int = 6000
    real_pictures: int = 4096
    samples: int = 768
    evaluations: int = 25
    more_evaluations: int = 50
    classifier_steps: int = 400


SMALL = Plan(8, 1, 32, 8, (2, 4), 64, 48, 24, 3, 6, 5)
QUICK = Plan(checkpoints=(50, 100), samples=512)


def main(arguments: list[str] | None = None) -> Result:
    options = parser("pilot", __doc__)
    options.add_argument("--checkpoints", type=int, nargs="+", help="training steps at which both are sampled")
    options.add_argument("--seeds", type=int, nargs="+", default=[0], help="one training of each method per seed")
    options.add_argument("--law", default="logit-normal", choices=("logit-normal", "uniform"), help="times of the flow")
    options.add_argument("--learning-rate", type=float, default=2e-3)
    options = settle(options.parse_args(arguments))
    if options.device != "cpu":
        raise SystemExit("pilot: made for a CPU; use --device cpu")
    plan = SMALL if options.small else QUICK if options.quick else Plan()
    if options.checkpoints:
        plan = Plan(**(vars(plan) | {"checkpoints": tuple(sorted(options.checkpoints))}))
    result = Result("pilot", CLAIM, options)
    judge = Judge(plan)
    result.rows.append({"step": "", "side": "real", "seed": ""} | judge.real_scores())
    for seed in options.seeds:
        _one_seed(result, plan, judge, seed)
    _ratios(result)
    path = result.finish()
    if path is not None:
        plot(result, path.with_suffix(".png"))
    return result


class Judge:
    """Scores pictures against fresh real ones."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.train, self.labels = pictures(plan.train_pictures, plan.side, seed=1)
        self.classifier = train_classifier(self.train, self.labels, len(CLASSES), plan.classifier_steps, seed=2)
        self.random = random_network(len(CLASSES), seed=3)
        real, _ = pictures(plan.real_pictures, plan.side, seed=4)
        self.real = {net: _features(net, real) for net in (self.classifier, self.random)}

    def scores(self, samples: Tensor, labels: Tensor) -> dict[str, float]:
        """frechet (features of the classifier), frechet_random, and the share that the classifier gives the wanted class."""
        named = self.classifier(samples).argmax(-1)
        return {
            "frechet": frechet_distance(_features(self.classifier, samples), self.real[self.classifier]),
            "frechet_random": frechet_distance(_features(self.random, samples), self.real[self.random]),
            "right_class": (named == labels).float().mean().item(),
        }

    def real_scores(self) -> dict[str, float]:
        return self.scores(*pictures(self.plan.samples, self.plan.side, seed=5))


def _features(net: Classifier, samples: Tensor) -> Tensor:
    return torch.cat([net.features(part) for part in samples.split(512)])


@dataclass
class Method:
    """One side: its flow, its network and the average of the network's weights."""

    name: str
    flow: RectifiedFlow | DDPM
    model: Goku
    average: Goku
    optimizer: torch.optim.Optimizer
    losses: list[float] = field(default_factory=list)
    seconds: float = 0.0


def _one_seed(result: Result, plan: Plan, judge: Judge, seed: int) -> None:
    scale = judge.train.std()
    data = torch.stack([to_tokens(p[:, None], (1, PATCH, PATCH)) for p in (judge.train - judge.train.mean()) / scale])
    methods = [
        _method(n, flow, plan, seed, result) for n, flow in (("rectified flow", RectifiedFlow()), ("DDPM", DDPM()))
    ]
    step = 0
    for checkpoint in plan.checkpoints:
        result.say(f"seed {seed}: training both to step {checkpoint}")
        first = step
        for method in methods if checkpoint % 2 else reversed(methods):
            for step in range(first, checkpoint):
                _train_step(method, data, judge.labels, plan, seed, step, result.options)
        step = checkpoint
        last = checkpoint == plan.checkpoints[-1]
        for method in methods:
            for evaluations in (plan.evaluations, plan.more_evaluations) if last else (plan.evaluations,):
                _score(result, method, plan, judge, seed, checkpoint, evaluations)


def _method(name: str, flow: RectifiedFlow | DDPM, plan: Plan, seed: int, result: Result) -> Method:
    torch.manual_seed(seed)
    config = GokuConfig(
        depth=plan.depth,
        width=plan.width,
        heads=plan.width // 32,
        ffn=4 * plan.width,
        latent_channels=3,
        text_width=0,
        classes=len(CLASSES),
        patch=(1, PATCH, PATCH),
    )
    model = Goku(config)
    # Our choice, for both: at the usual deviation of 0.02 a narrow network takes thousands of steps to tell times and classes.
    nn.init.normal_(model.embed_label.weight)
    for layer in (model.time_embedding.fc1, model.time_embedding.fc2):
        nn.init.xavier_uniform_(layer.weight, gain=2.0)
    rate = result.options.learning_rate
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, betas=(0.9, 0.95), weight_decay=0.0, fused=True)
    return Method(name, flow, model, copy.deepcopy(model).requires_grad_(False), optimizer)


def _train_step(
    method: Method, data: Tensor, labels: Tensor, plan: Plan, seed: int, step: int, options: argparse.Namespace
) -> None:
    """One step. Every draw is a function of (seed, step), the same for both methods."""
    started = time.perf_counter()
    draws = torch.Generator().manual_seed(seed * 1_000_003 + step)
    chosen = torch.randint(len(data), (plan.batch,), generator=draws)
    noise = torch.randn(plan.batch, *data.shape[1:], generator=draws)
    uniform = torch.rand(plan.batch, generator=draws)
    law = options.law if isinstance(method.flow, RectifiedFlow) else "uniform"
    times = method.flow.on_path(timestep_of_uniform(uniform, law))
    noised = method.flow.interpolate(noise, data[chosen], times[:, None, None])
    predicted = _network(method.model, noised, times, labels[chosen])
    loss = method.flow.loss_per_token(predicted.flatten(0, 1), noise.flatten(0, 1), data[chosen].flatten(0, 1)).mean()
    loss.backward()
    nn.utils.clip_grad_norm_(method.model.parameters(), 1.0)
    for group in method.optimizer.param_groups:
        group["lr"] = options.learning_rate * min(1.0, (step + 1) / 50)
    method.optimizer.step()
    method.optimizer.zero_grad(set_to_none=True)
    decay = min(0.995, (step + 1) / (step + 10))
    with torch.no_grad():
        torch._foreach_lerp_(list(method.average.parameters()), list(method.model.parameters()), 1.0 - decay)
    method.losses.append(loss.item())
    method.seconds += time.perf_counter() - started


def _network(model: Goku, x: Tensor, times: Tensor, labels: Tensor) -> Tensor:
    """x (S, tokens, values) -> the network's output of that shape."""
    samples, tokens = x.shape[:2]
    rows = round(tokens**0.5)
    coords = grid_coords((1, rows, rows)).repeat(samples, 1)
    bounds = torch.arange(0, samples * tokens + 1, tokens, dtype=torch.int32)
    return model(x.flatten(0, 1), coords, bounds, times, label=labels).unflatten(0, (samples, tokens))


@torch.no_grad()
def _score(result: Result, method: Method, plan: Plan, judge: Judge, seed: int, step: int, evaluations: int) -> None:
    labels = torch.arange(plan.samples) % len(CLASSES)
    span = tuple(float((end - judge.train.mean()) / judge.train.std()) for end in (-1.0, 1.0))
    drawn = torch.cat(
        [
            _sample(method, part, plan, evaluations, seed * 1_000_003 + index, span)
            for index, part in enumerate(labels.split(128))
        ]
    )
    grid = (1, plan.side // PATCH, plan.side // PATCH)
    latents = torch.stack([to_latent(tokens, grid, (1, PATCH, PATCH))[:, 0] for tokens in drawn])
    samples = (latents * judge.train.std() + judge.train.mean()).clamp(-1, 1)
    row = {
        "step": step,
        "side": method.name,
        "seed": seed,
        "evaluations": evaluations,
        "sampler": _sampler(method, plan, evaluations),
    }
    recent = method.losses[-50:]
    row |= judge.scores(samples, labels) | {"loss": statistics.fmean(recent), "train_s": method.seconds}
    result.rows.append(row)
    result.say(f"seed {seed}, step {step}, {method.name}, {row['sampler']} {evaluations}: Frechet {row['frechet']:.3f}")


def _sampler(method: Method, plan: Plan, evaluations: int) -> str:
    if isinstance(method.flow, RectifiedFlow):
        return "Euler"
    return "DDIM" if evaluations == plan.evaluations else "ancestral"


def _sample(
    method: Method, labels: Tensor, plan: Plan, evaluations: int, seed: int, span: tuple[float, float]
) -> Tensor:
    """Tokens (S, tokens, values) of one batch; both methods start from the same noise. `span`: values of pixels."""
    draws = torch.Generator().manual_seed(seed)
    rows = plan.side // PATCH
    noise = torch.randn(len(labels), rows * rows, 3 * PATCH * PATCH, generator=draws)

    def network(x: Tensor, moment: Tensor) -> Tensor:
        return _network(method.average, x, moment.expand(len(labels)), labels)

    sampler = _sampler(method, plan, evaluations)
    if sampler == "Euler":
        return integrate(network, noise, time_grid(evaluations))
    clipped = _within(method.flow, network, span)
    if sampler == "DDIM":
        return ddim(clipped, noise, evaluations, method.flow)
    return ancestral(clipped, noise, evaluations, lambda k: torch.randn(noise.shape, generator=draws), method.flow)


def _within(flow: DDPM, network: Prediction, span: tuple[float, float]) -> Prediction:
    """The noise whose picture has no value outside of what pictures have, as DDPM in pixels is sampled since Ho et al.

    Near pure noise the picture is the difference to the predicted noise over 0.006: unclipped, its errors are that much larger.
    """

    def prediction(x: Tensor, moment: Tensor) -> Tensor:
        picture = flow.data_estimate(x, network(x, moment), moment).clamp(*span)
        signal = flow.signal[flow.level_of(moment)].to(x.dtype)
        return (x - signal.sqrt() * picture) / (1 - signal).sqrt()

    return prediction


def _ratios(result: Result) -> None:
    """How many times DDPM's distance is that of the flow at equal steps: median over seeds, above 1 the flow is nearer."""
    kinds = dict.fromkeys((row["step"], row["evaluations"]) for row in result.rows if row["side"] != "real")
    for step, evaluations in kinds:
        own, other = (
            [
                r["frechet"]
                for r in result.rows
                if (r["step"], r["side"], r.get("evaluations")) == (step, side, evaluations)
            ]
            for side in ("rectified flow", "DDPM")
        )
        each = [b / a for a, b in zip(own, other, strict=True)]
        line = {
            "case": f"distance after {step} steps, {evaluations} evaluations",
            "side": "rectified flow",
            "against": "DDPM",
        }
        spread = {"ratio": statistics.median(each), "low": min(each), "high": max(each), "repeats": len(each)}
        result.ratios.append(line | spread)


def plot(result: Result, path: Path) -> None:
    """Distance over steps for both, one thin line per seed, as PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 4), layout="constrained")
    evaluations = min(row["evaluations"] for row in result.rows if "evaluations" in row)
    for side, color in (("rectified flow", "tab:blue"), ("DDPM", "tab:orange")):
        for number, seed in enumerate(result.options.seeds):
            chosen = [
                r for r in result.rows if (r["side"], r["seed"], r.get("evaluations")) == (side, seed, evaluations)
            ]
            label = side if number == 0 else None
            axes.plot([r["step"] for r in chosen], [r["frechet"] for r in chosen], "o-", color=color, label=label)
    real = next(row["frechet"] for row in result.rows if row["side"] == "real")
    axes.axhline(real, color="grey", linestyle=":", label="real pictures")
    axes.set(
        xlabel="training steps", ylabel="Frechet distance (classifier features, not FID)", xscale="log", yscale="log"
    )
    axes.legend()
    axes.set_title(f"{evaluations} network evaluations a sample, {machine.slug(result.machine)}", fontsize=9)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


if __name__ == "__main__":
    main()
