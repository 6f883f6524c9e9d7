"""A whole forward and backward pass against the roofline of its own matrix products and attention, timed in the same run.

Measures the claim (H100, H200): a step of 1b and 2b at 8k, 14k and 37k tokens reaches at least 90 % of that roofline.
Roofline: seconds of every matrix product of a block (forward, gradient of the input, gradient of the weight, at the
pack's shapes) plus its attention (forward and backward, the fastest back end that runs here, at the pack's lengths),
times the blocks, plus embedding and output. Norms, RoPE, modulation, residuals and launch gaps are what a step adds to
it. Kernels and step alternate, so that both see the same clocks.

MFU counts the network's own work, three times the forward products and attention, over the peak rate: neither
recomputation nor padding counts. Weights are in the run's type, as mixed-precision training casts them; AdamW over
float32 weights is a row of its own. Recomputation is "none" where memory allows, else "selective", else "full"
(--recomputation fixes it).
"""

from __future__ import annotations

import argparse
import gc
from collections.abc import Callable
from dataclasses import replace
from functools import cache

import torch
from torch import Tensor, nn

from benchmarks.measuring.options import DTYPES, parser, settle
from benchmarks.measuring.packs import SIZES, SMALL_CONFIG, Pack, Size, chosen_sizes
from benchmarks.measuring.result import Result
from benchmarks.measuring.timing import Timing, alternate, compare, once
from goku_core.models import CONFIGS, Goku, GokuConfig
from goku_core.models.attention import BACKENDS, Scope, choose, packed_attention
from goku_core.models.layout import Layout
from goku_core.transport import RectifiedFlow

CLAIM = "Forward and backward of a whole network against the roofline of its matrix products and attention, timed in the same run"
# Dense bfloat16 rates of the makers' data sheets, FLOP/s.
PEAKS = {"H200": 989.4e12, "H100 PCIe": 756.0e12, "H100": 989.4e12, "A100": 312.0e12}
LEAST_SECONDS = 0.2  # on CUDA: shorter calls are repeated until they fill this
Call = Callable[[], object]


def main(arguments: list[str] | None = None) -> Result:
    options = parser("roofline", __doc__)
    options.add_argument("--sizes", nargs="+", choices=tuple(SIZES), default=["8k", "14k", "37k"])
    options.add_argument("--models", nargs="+", choices=tuple(CONFIGS), default=["1b", "2b"])
    options.add_argument("--layers", type=int, help="cut the networks to so many (for a card with little memory)")
    options.add_argument("--pack", choices=("mixed", "one"), default="mixed", help="a mix of samples, or one sequence")
    options.add_argument("--recomputation", choices=("auto", "none", "selective", "full"), default="auto")
    options.add_argument("--compile", action=argparse.BooleanOptionalAction, help="[cuda: yes, cpu: no]")
    options = settle(options.parse_args(arguments))
    if options.compile is None:
        options.compile = options.device == "cuda"
    result = Result("roofline", CLAIM, options)
    peak, source = _peak(result)
    result.note(f"MFU is against {peak / 1e12:.4g} TFLOP/s ({source})")
    for name, config in _configs(options).items():
        for size in chosen_sizes(options):
            _measure(result, name, config, size, peak)
    result.finish()
    return result


def _configs(options: argparse.Namespace) -> dict[str, GokuConfig]:
    if options.small:
        return {"tiny": SMALL_CONFIG, "tiny-classes": replace(SMALL_CONFIG, text_width=0, classes=10)}
    configs = {name: CONFIGS[name] for name in options.models}
    return {n: replace(c, depth=min(options.layers or c.depth, c.depth)) for n, c in configs.items()}


def _measure(result: Result, name: str, config: GokuConfig, size: Size, peak: float) -> None:
    pack = size.mixed() if result.options.pack == "mixed" else size.one()
    case = f"{name}, {pack.tokens} tokens"
    repeats = result.options.repeats or (2 if result.options.small else 5)
    kernels = {
        "matmul": _matmuls(result, _block_products(config, pack)),
        "edges": _matmuls(result, _edges(config, pack)),
    }
    attention = _attention(result, config, pack)
    beside = torch.cuda.memory_allocated() / 2**30 if result.device.type == "cuda" else 0.0
    step, recomputation = _step_that_fits(result, config, pack)
    calls = kernels | attention | {"step": step}
    inner = {key: _inner(result, call) for key, call in calls.items()}
    repeated = {key: _times(call, inner[key]) for key, call in calls.items()}
    timings = alternate(repeated, result.device, repeats, 1, lambda what: result.say(f"{case}: {what}"))
    for key, timing in timings.items():
        timing.seconds = [seconds / inner[key] for seconds in timing.seconds]
    fastest = min((key for key in attention if key.startswith("self")), key=lambda key: timings[key].median)
    cross = min(
        (key for key in attention if key.startswith("cross")), key=lambda key: timings[key].median, default=None
    )
    parts = ["matmul", fastest, *([cross] if cross else [])]
    composed = [
        config.depth * sum(timings[part].seconds[i] for part in parts) + timings["edges"].seconds[i]
        for i in range(repeats)
    ]
    roofline = Timing(composed)
    work = forward_flops(config, pack)
    _rows(result, case, timings, config, pack, work, fastest, cross)
    result.rows.append({"case": case, "side": "roofline", "median_s": roofline.median, "seconds": roofline.seconds})
    step_seconds = timings["step"].median
    row = {"case": case, "side": "step", "median_s": step_seconds, "seconds": timings["step"].seconds}
    row |= {
        "tflop_per_s": 3 * sum(work.values()) / step_seconds / 1e12,
        "mfu": 3 * sum(work.values()) / step_seconds / peak,
    }
    row |= {"tokens_per_s": pack.tokens / step_seconds, "recomputation": recomputation, "layers": config.depth}
    if timings["step"].peak_gib is not None:
        row["peak_gib"] = timings["step"].peak_gib - beside  # without the tensors of the kernels timed alone
    result.rows.append(row)
    share = compare({"step": timings["step"], "roofline": roofline}, "step", "roofline")
    result.ratios.append({"case": case} | vars(share))
    del calls, repeated, step, kernels, attention
    _free()
    _optimizer_row(result, case, config)


def _rows(
    result: Result,
    case: str,
    timings: dict[str, Timing],
    config: GokuConfig,
    pack: Pack,
    work: dict[str, float],
    fastest: str,
    cross: str | None,
) -> None:
    """What each kind of kernel takes in one block, and its rate; attention's backward counted twice its forward, as in MFU."""
    per_block = {
        "matmul": 3 * work["matmul"] / config.depth,
        "self": 3 * work["self-attention"] / config.depth,
        "cross": 3 * work["cross-attention"] / config.depth,
        "edges": 3 * work["edges"],
    }
    for key, timing in timings.items():
        if key == "step":
            continue
        used = " (used)" if key in (fastest, cross) and key not in ("matmul", "edges") else ""
        rate = per_block[key.split("-")[0]] / timing.median / 1e12
        side = f"{key}, {'whole' if key == 'edges' else 'one block'}{used}"
        result.rows.append(
            {"case": case, "side": side, "median_s": timing.median, "seconds": timing.seconds, "tflop_per_s": rate}
        )


def forward_flops(config: GokuConfig, pack: Pack) -> dict[str, float]:
    """FLOP of one forward pass by kind: two for each multiply-add; attention is two products over the pairs that see each other."""
    matmul = sum(2.0 * m * k * n for m, k, n in _block_products(config, pack))
    cross = 4.0 * config.width * pack.cross_pairs() if config.text_width else 0.0
    return {
        "matmul": config.depth * matmul,
        "self-attention": config.depth * 4.0 * config.width * pack.attention_pairs(),
        "cross-attention": config.depth * cross,
        "edges": sum(2.0 * m * k * n for m, k, n in _edges(config, pack)),
    }


def _block_products(config: GokuConfig, pack: Pack) -> list[tuple[int, int, int]]:
    """(rows, in, out) of a block's linear layers."""
    d, tokens = config.width, pack.tokens
    own = [(tokens, d, 3 * d), (tokens, d, d), (tokens, d, config.ffn), (tokens, config.ffn, d)]
    own.append((len(pack.lengths), d, 6 * d))
    if config.text_width:
        own += [(tokens, d, d), (sum(pack.texts), config.text_width, 2 * d), (tokens, d, d)]
    return own


def _edges(config: GokuConfig, pack: Pack) -> list[tuple[int, int, int]]:
    """Embedding, output and their modulation; the time layers are left out (S rows, below a thousandth)."""
    d = config.width
    return [(pack.tokens, config.token_width, d), (pack.tokens, d, config.token_width), (len(pack.lengths), d, 2 * d)]


def _matmuls(result: Result, products: list[tuple[int, int, int]]) -> Call:
    """Forward, gradient of the input and gradient of the weight of each, results written into the same place again."""
    dtype, device = DTYPES[result.options.dtype], result.device

    @cache  # products of one shape share their operands: 37k tokens of the feed-forward width are half a GiB
    def operand(rows: int, columns: int, role: str) -> Tensor:
        return torch.randn(rows, columns, device=device, dtype=dtype)

    jobs = []
    for rows, width_in, width_out in products:
        x, grad = operand(rows, width_in, "operand"), operand(rows, width_out, "operand")
        weight = operand(width_out, width_in, "operand")
        results = (operand(rows, width_out, "result"), operand(rows, width_in, "result"))
        jobs.append((x, weight, grad, *results, operand(width_out, width_in, "result")))

    @torch.no_grad()
    def call() -> None:
        for x, weight, grad, out, to_x, to_weight in jobs:
            torch.mm(x, weight.T, out=out)
            torch.mm(grad, weight, out=to_x)
            torch.mm(grad.T, x, out=to_weight)

    return call


def _attention(result: Result, config: GokuConfig, pack: Pack) -> dict[str, Call]:
    """Forward and backward of self- and cross-attention by every back end that runs here."""
    dtype, device = DTYPES[result.options.dtype], result.device
    calls: dict[str, Call] = {}
    for backend in BACKENDS:
        try:
            choose(backend, device, dtype)
        except ValueError as obstacle:
            result.note(f"attention {backend} left out: {obstacle}")
            continue
        if backend == "flex" and device.type != "cuda":
            result.note("attention flex left out: torch has no backward pass of it on a CPU")
            continue
        layout = Layout(pack.cu_seqlens(device))
        calls[f"self-attention {backend}"] = _attend(result, config, pack.tokens, Scope(layout, layout, backend))
        if config.text_width:
            scope = Scope(layout, Layout(pack.text_cu_seqlens(device)), backend)
            calls[f"cross-attention {backend}"] = _attend(result, config, sum(pack.texts), scope)
    return calls


def _attend(result: Result, config: GokuConfig, keys: int, scope: Scope) -> Call:
    dtype, device = DTYPES[result.options.dtype], result.device
    tokens = int(scope.queries.cu_seqlens[-1])
    shape = (config.heads, config.head_width)
    q, k, v = (torch.randn(n, *shape, device=device, dtype=dtype).requires_grad_() for n in (tokens, keys, keys))
    grad = torch.randn(tokens, *shape, device=device, dtype=dtype)
    return lambda: torch.autograd.grad(packed_attention(q, k, v, scope), (q, k, v), grad)


def _step_that_fits(result: Result, config: GokuConfig, pack: Pack) -> tuple[Call, str]:
    """Forward and backward of the network, with the least recomputation whose activations fit the memory."""
    asked = result.options.recomputation
    for mode in ("none", "selective", "full") if asked == "auto" else (asked,):
        step = _step(result, config, pack, mode)
        if _fits(step):
            return step, mode
        del step
        _free()
        result.note(f"{config.depth} x {config.width}, {pack.tokens} tokens: recomputation {mode} does not fit")
    raise SystemExit(f"roofline: {config.depth} x {config.width} at {pack.tokens} tokens fits in no mode. Try --layers")


def _fits(step: Call) -> bool:
    try:
        step()
    except torch.cuda.OutOfMemoryError:
        return False
    return True


def _step(result: Result, config: GokuConfig, pack: Pack, recomputation: str) -> Call:
    dtype, device, compiled = DTYPES[result.options.dtype], result.device, result.options.compile
    model = Goku(config, recomputation=recomputation).to(device, dtype)
    # As trained, not as initialised: products of zeros draw less power, and a GPU's clock follows.
    for module in (*(block.modulation for block in model.blocks), model.final_modulation):
        nn.init.normal_(module.linear.weight, std=0.02)
    nn.init.normal_(model.final.weight, std=0.02)
    if compiled:
        model.compile_blocks()
    tokens = torch.randn(pack.tokens, config.token_width, device=device, dtype=dtype)
    noise, data = torch.randn_like(tokens), torch.randn_like(tokens)
    inputs: dict[str, Tensor] = {"coords": pack.coords(device), "cu_seqlens": pack.cu_seqlens(device)}
    inputs["time"] = torch.rand(len(pack.lengths), device=device)
    if config.text_width:
        inputs["text"] = torch.randn(sum(pack.texts), config.text_width, device=device, dtype=dtype)
        inputs["text_cu_seqlens"] = pack.text_cu_seqlens(device)
    if config.classes:
        inputs["label"] = torch.randint(config.classes, (len(pack.lengths),), device=device)

    def call() -> None:
        velocity = model(tokens, **inputs)
        RectifiedFlow().loss_per_token(velocity, noise, data).mean().backward()
        model.zero_grad(set_to_none=True)

    return call


def _optimizer_row(result: Result, case: str, config: GokuConfig) -> None:
    """AdamW over float32 weights, moments and gradients: what a step adds to forward and backward."""
    with torch.device("meta"):
        shapes = [p.shape for p in Goku(config).parameters()]
    try:
        weights = [torch.zeros(shape, device=result.device).requires_grad_() for shape in shapes]
        for weight in weights:
            weight.grad = torch.full_like(weight, 1e-3)
        optimizer = torch.optim.AdamW(weights, lr=1e-4, fused=True)
        timing = alternate({"AdamW": optimizer.step}, result.device, 3, 1, lambda _: None)["AdamW"]
    except torch.cuda.OutOfMemoryError:
        result.note(f"{case}: AdamW left out, float32 weights, gradients and moments do not fit this card")
        return
    row = {"case": case, "side": "AdamW (float32)", "median_s": timing.median, "seconds": timing.seconds}
    result.rows.append(row)


def _inner(result: Result, call: Call) -> int:
    """How often a call is repeated in one timing."""
    if result.device.type != "cuda":
        return 1
    once(call, result.device)
    return max(1, round(LEAST_SECONDS / once(call, result.device)[0]))


def _times(call: Call, number: int) -> Call:
    def repeated() -> None:
        for _ in range(number):
            call()

    return repeated


def _peak(result: Result) -> tuple[float, str]:
    """FLOP/s and where the figure is from: a data sheet, or the best large product here."""
    if result.device.type == "cuda" and result.options.dtype == "bfloat16":
        for name, rate in PEAKS.items():
            if name.lower() in result.machine["device"].lower():
                return rate, f"dense bfloat16 of the data sheet of {name}"
    side = 256 if result.options.small else 4096 if result.device.type == "cuda" else 2048
    x, y = (torch.randn(side, side, device=result.device, dtype=DTYPES[result.options.dtype]) for _ in range(2))
    seconds = min(once(lambda: x @ y, result.device)[0] for _ in range(10))
    return 2.0 * side**3 / seconds, f"best of ten products of {side} x {side}, measured here"


def _free() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
