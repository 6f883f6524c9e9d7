"""Names and shapes of bert-base as published checkpoints have them, from the configuration alone."""

from __future__ import annotations


def linear(name: str, out: int, into: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (out, into), f"{name}.bias": (out,)}


def norm(name: str, width: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def bert_layers(prefix: str, layers: int, memory: int, alone: bool = True) -> dict[str, tuple[int, ...]]:
    """Of med_config.json: width 768, hidden 3072."""
    shapes: dict[str, tuple[int, ...]] = {}
    kinds = ({"attention": 768} if alone else {}) | ({"crossattention": memory} if memory else {})
    for n in range(layers):
        layer = f"{prefix}.encoder.layer.{n}"
        for kind, source in kinds.items():
            shapes |= linear(f"{layer}.{kind}.self.query", 768, 768)
            shapes |= linear(f"{layer}.{kind}.self.key", 768, source) | linear(
                f"{layer}.{kind}.self.value", 768, source
            )
            shapes |= linear(f"{layer}.{kind}.output.dense", 768, 768) | norm(f"{layer}.{kind}.output.LayerNorm", 768)
        shapes |= linear(f"{layer}.intermediate.dense", 3072, 768) | linear(f"{layer}.output.dense", 768, 3072)
        shapes |= norm(f"{layer}.output.LayerNorm", 768)
    return shapes


def bert_words(prefix: str, vocabulary: int) -> dict[str, tuple[int, ...]]:
    words = {"word_embeddings": vocabulary, "position_embeddings": 512}
    shapes = {f"{prefix}.embeddings.{name}.weight": (many, 768) for name, many in words.items()}
    return shapes | norm(f"{prefix}.embeddings.LayerNorm", 768)


def bert_head(prefix: str, vocabulary: int) -> dict[str, tuple[int, ...]]:
    head = f"{prefix}.cls.predictions"
    shapes = linear(f"{head}.transform.dense", 768, 768) | norm(f"{head}.transform.LayerNorm", 768)
    return shapes | linear(f"{head}.decoder", vocabulary, 768) | {f"{head}.bias": (vocabulary,)}
