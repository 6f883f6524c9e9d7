"""GRiT on plain torch: the published names and shapes, and every part against a second formulation on random weights."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from tiny_grit import BODY, HEAD, LAYER, ROI, TEXT, TINY, grit_shapes, random_grit, tiny_shapes
from torch.nn import functional as F

from goku_core.evaluate.networks.grit.boxes import clipped, pooled
from goku_core.evaluate.networks.grit.cascade import things
from goku_core.evaluate.networks.grit.grit import Grit, from_checkpoint, load_grit
from goku_core.evaluate.networks.grit.proposals import centres
from goku_core.evaluate.networks.grit.text import END, LONGEST, NAME, SENTENCE
from goku_core.pipeline.errors import GokuError


@pytest.fixture(scope="module")
def tensors() -> dict[str, torch.Tensor]:
    return {name: tensor.double() for name, tensor in random_grit().items()}


@pytest.fixture(scope="module")
def network(tensors) -> Grit:
    found = Grit(TINY).double().eval()
    found.load_state_dict(tensors, strict=True)
    return found.requires_grad_(False)


def test_names_and_shapes_of_the_published_checkpoint() -> None:
    with torch.device("meta"):
        ours = {name: tuple(tensor.shape) for name, tensor in Grit().state_dict().items()}
    assert ours == grit_shapes()
    assert {name: tuple(tensor.shape) for name, tensor in Grit(TINY).state_dict().items()} == tiny_shapes()


def test_body_is_vitdet(tensors, network) -> None:
    """transformers' own: windows that stick out, tables stretched to other lengths, places to other grids, no square."""
    from transformers import VitDetConfig, VitDetModel

    config = VitDetConfig(
        hidden_size=48,
        num_hidden_layers=3,
        num_attention_heads=2,
        image_size=128,
        pretrain_image_size=48,
        patch_size=16,
        window_block_indices=[0, 1],
        use_absolute_position_embeddings=True,
        use_relative_position_embeddings=True,
        window_size=3,
    )
    other = VitDetModel(config).double().eval()
    names = {"pos_embed": "embeddings.position_embeddings", "patch_embed.proj": "embeddings.projection"}
    renamed = {}
    for name, tensor in tensors.items():
        if name.startswith(BODY):
            own = name.removeprefix(f"{BODY}.")
            for old, new in names.items():
                own = own.replace(old, new)
            renamed[own.replace("blocks.", "encoder.layer.").replace(".attn.", ".attention.")] = tensor
    other.load_state_dict(renamed, strict=True)
    for height, width in ((64, 112), (160, 96)):
        pixels = torch.randn(1, 3, height, width, dtype=torch.float64, generator=torch.Generator().manual_seed(height))
        with torch.no_grad():
            expected = other(pixels).last_hidden_state
        torch.testing.assert_close(network.backbone.bottom_up(pixels), expected, rtol=0, atol=1e-10)


def normal_over_channels(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    mean, spread = x.mean(1, keepdim=True), x.var(1, keepdim=True, unbiased=False)
    return (x - mean) / (spread + 1e-5).sqrt() * weight[:, None, None] + bias[:, None, None]


def test_five_maps_of_the_last_one(tensors, network) -> None:
    picture = torch.rand(3, 70, 100, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * 255
    maps = network.maps(picture)
    assert [tuple(one.shape[1:]) for one in maps] == [(32, 12, 16), (32, 6, 8), (32, 3, 4), (32, 2, 2), (32, 1, 1)]
    mean = torch.tensor([123.675, 116.28, 103.53], dtype=torch.float64)[:, None, None]
    spread = torch.tensor([58.395, 57.12, 57.375], dtype=torch.float64)[:, None, None]
    filled = torch.zeros(3, 96, 128, dtype=torch.float64)
    filled[:, :70, :100] = (picture - mean) / spread
    last = network.backbone.bottom_up(filled[None])
    kernel = tensors["backbone.fpn_stride_16_8.weight"]
    fine = torch.einsum("bchw,cdyx->bdhywx", last, kernel).reshape(1, 48, 12, 16)  # no two of its windows overlap
    coarse = last.reshape(1, 48, 3, 2, 4, 2).amax(dim=(3, 5))
    for stride, x, found in ((8, fine, maps[0]), (16, last, maps[1]), (32, coarse, maps[2])):
        start = f"backbone.fpn_stride{stride}_"
        own = {name.removeprefix(start): t for name, t in tensors.items() if name.startswith(start)}
        x = torch.einsum("bchw,dc->bdhw", x, own["conv1.weight"][:, :, 0, 0])
        x = normal_over_channels(x, own["norm1.weight"], own["norm1.bias"])
        cut = F.unfold(x, 3, padding=1).view(1, 32, 9, *x.shape[2:])
        x = torch.einsum("bckhw,dck->bdhw", cut, own["conv2.weight"].flatten(2))
        torch.testing.assert_close(found, normal_over_channels(x, own["norm2.weight"], own["norm2.bias"]))
    sixth = F.conv2d(maps[2], *(tensors[f"backbone.top_block.p6.{part}"] for part in ("weight", "bias")), 2, 1)
    torch.testing.assert_close(maps[3], sixth)
    seventh = F.conv2d(
        sixth.clamp(min=0), *(tensors[f"backbone.top_block.p7.{part}"] for part in ("weight", "bias")), 2, 1
    )
    torch.testing.assert_close(maps[4], seventh)


def test_centres_become_boxes() -> None:
    """By hand: a cell of stride 16 has its centre 8 px in; distances count in strides; unlikely cells are nothing."""
    likely = torch.zeros(4, 5)
    likely[2, 3], likely[0, 0], likely[1, 1] = 0.25, 0.0001, 0.49
    distances = torch.zeros(4, 4, 5)
    distances[:, 2, 3] = torch.tensor([1.0, 0.5, 2.0, 0.25])
    boxes, scores = centres(likely, distances, 16)
    assert scores.tolist() == pytest.approx([0.7, 0.5])  # in the order of rows: 0.0001 is not above itself
    assert boxes[1].tolist() == [56 - 16, 40 - 8, 56 + 32, 40 + 4]
    assert boxes[0].tolist() == pytest.approx([24, 24, 24.01, 24.01])
    many, best = centres(torch.linspace(0.1, 0.9, 40 * 40).view(40, 40), torch.ones(4, 40, 40), 8)
    assert len(many) == 1000 and float(best.min()) == pytest.approx(math.sqrt(0.1 + 0.8 * 600 / 1599), abs=1e-6)


def test_one_tower_for_all_maps(tensors, network) -> None:
    maps = [torch.randn(1, 32, 4, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(n)) for n in range(5)]
    for level in (0, 3):
        x = maps[level]
        for number in range(2):
            x = F.conv2d(x, tensors[f"{HEAD}.bbox_tower.{3 * number}.weight"], padding=1)
            x = x + tensors[f"{HEAD}.bbox_tower.{3 * number}.bias"][:, None, None]
            groups = x.view(32, -1)  # as many groups as channels here
            x = (
                (groups - groups.mean(1, keepdim=True)) / (groups.var(1, keepdim=True, unbiased=False) + 1e-5).sqrt()
            ).view_as(x)
            own = (tensors[f"{HEAD}.bbox_tower.{3 * number + 1}.{part}"][:, None, None] for part in ("weight", "bias"))
            x = (x * next(own) + next(own)).clamp(min=0)
        heat, reach = (
            F.conv2d(x, tensors[f"{HEAD}.{part}.weight"], tensors[f"{HEAD}.{part}.bias"], padding=1)[0]
            for part in ("agn_hm", "bbox_pred")
        )
        likely, distances = network.proposal_generator.centernet_head(maps[level], level)
        torch.testing.assert_close(likely, 1 / (1 + torch.exp(-heat[0])))
        torch.testing.assert_close(distances, (reach * (1.0 + level / 10)).clamp(min=0))


def test_three_heads_one_after_the_other(tensors, network) -> None:
    """Boxes of a head are cut at the picture's borders before the next looks; scores are means, weighed by the proposal's."""
    maps = [
        torch.randn(32, 96 // s, 128 // s, dtype=torch.float64, generator=torch.Generator().manual_seed(s))
        for s in (8, 16, 32)
    ]
    boxes = torch.tensor([[5.0, 5, 40, 30], [60, -20, 140, 80], [-10, 40, 60, 110], [90, 10, 120, 60]]).double()
    marks = torch.tensor([0.9, 0.8, 0.7, 0.6]).double()
    told, now = torch.zeros(4, dtype=torch.float64), boxes
    for stage, weight in enumerate((10.0, 20.0, 30.0)):
        if stage:
            now = clipped(now, 90, 120)
        x = pooled(maps, (8, 16, 32), now, 7).flatten(1)
        for layer in ("fc1", "fc2"):
            x = (
                x @ tensors[f"{ROI}.box_head.{stage}.{layer}.weight"].T
                + tensors[f"{ROI}.box_head.{stage}.{layer}.bias"]
            ).clamp(min=0)
        own = {part: tensors[f"{ROI}.box_predictor.{stage}.{part}"] for part in (
            "cls_score.weight", "cls_score.bias", "bbox_pred.0.weight", "bbox_pred.0.bias",
            "bbox_pred.2.weight", "bbox_pred.2.bias",
        )}  # fmt: skip
        logits = x @ own["cls_score.weight"].T + own["cls_score.bias"]
        told += 1 / (1 + torch.exp(logits[:, 1] - logits[:, 0])) / 3
        x = (x @ own["bbox_pred.0.weight"].T + own["bbox_pred.0.bias"]).clamp(min=0)
        delta = x @ own["bbox_pred.2.weight"].T + own["bbox_pred.2.bias"]
        size, centre = now[:, 2:] - now[:, :2], (now[:, 2:] + now[:, :2]) / 2
        centre, size = (
            centre + delta[:, :2].float() / weight * size,
            size * torch.exp(delta[:, 2:].float() / weight * 2),
        )
        now = torch.cat([centre - size / 2, centre + size / 2], dim=1)
    expected = (told * marks).sqrt()
    found, scores = network.roi_heads(maps, boxes, marks, 90, 120, 0.0)
    order = expected.argsort(descending=True)
    assert len(scores) == 4
    torch.testing.assert_close(scores, expected[order])
    torch.testing.assert_close(found, clipped(now, 90, 120)[order], atol=1e-4, rtol=0)


def test_what_is_left_of_the_boxes() -> None:
    """Above the threshold, not suppressed, cut at the borders, no number that is none."""
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 1, 10, 11], [50, 50, 90, 99], [0, 0, 9, 9], [math.inf, 0, 9, 9]])
    found, scores = things(boxes, torch.tensor([0.8, 0.9, 0.7, 0.5, 0.99]), 80, 80, 0.5)
    assert scores.tolist() == pytest.approx([0.9, 0.7]) and found.tolist() == [[0, 1, 10, 11], [50, 50, 80, 80]]


def test_words_as_if_everything_was_computed_again(tensors, network) -> None:
    """transformers' layers of BERT over cells and words with one mask, the whole of it for every word."""
    from transformers import BertConfig
    from transformers.models.bert.modeling_bert import BertLayer

    config = BertConfig(
        hidden_size=32, num_attention_heads=2, intermediate_size=40, layer_norm_eps=1e-12, attn_implementation="eager"
    )
    layers = []
    for number in range(2):
        layer = BertLayer(config).double().eval()
        layer.load_state_dict(
            {n.removeprefix(f"{LAYER}.{number}."): t for n, t in tensors.items() if f"{LAYER}.{number}." in n}
        )
        layers.append(layer)
    cells = torch.randn(5, 16, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(3))

    def logits_after(words: torch.Tensor) -> torch.Tensor:
        seen = cells @ tensors[f"{TEXT}.object_feature_projection.0.weight"].T
        seen = seen + tensors[f"{TEXT}.object_feature_projection.0.bias"]
        own = (tensors[f"{TEXT}.object_feature_projection.1.{part}"] for part in ("weight", "bias"))
        seen = F.layer_norm(seen, (32,), *own, eps=1e-5)
        table = tensors[f"{TEXT}.embedding.words.weight"]
        text = table[words] + tensors[f"{TEXT}.embedding.positions.weight"][: words.shape[1]]
        own = (tensors[f"{TEXT}.embedding.layer_norm.{part}"] for part in ("weight", "bias"))
        x = torch.cat([seen, F.layer_norm(text, (32,), *own, eps=1e-8)], dim=1)
        total = x.shape[1]
        mask = torch.zeros(total, total, dtype=torch.float64)
        for row in range(total):
            for column in range(16, total):
                if column > row:
                    mask[row, column] = -math.inf
        with torch.no_grad():
            for layer in layers:
                x = layer(x, attention_mask=mask[None, None])
                x = x[0] if isinstance(x, tuple) else x
        return x[:, -1] @ table.T + tensors[f"{TEXT}.output.bias"]

    memory = network.roi_heads.text_decoder.remember(cells)
    texts = {}
    for task in (SENTENCE, NAME):  # one memory for both, one after the other
        words = torch.full((5, 1), task)
        total = torch.zeros(5, dtype=torch.float64)
        while words.shape[1] < LONGEST:
            logits = logits_after(words)
            if words.shape[1] > 1:
                logits[torch.arange(5), words[:, -1]] = -10000.0
            for row in range(5):
                if words.shape[1] > 1 and words[row, -1] == END:
                    logits[row] = -math.inf
                    logits[row, END] = 0.0
            best, following = logits.log_softmax(1).max(1)
            total, words = total + best, torch.cat([words, following[:, None]], dim=1)
            if (following == END).all():
                break
        said = [row[1:].tolist() for row in words]
        lengths = [row.index(END) + 1 if END in row else len(row) for row in said]
        found, sure = network.roi_heads.text_decoder.write(memory, task)
        assert found.tolist() == said
        torch.testing.assert_close(sure, total.float() / torch.tensor(lengths), atol=1e-5, rtol=0)
        texts[task] = said
    assert texts[NAME] != texts[SENTENCE] and len({tuple(row) for row in texts[NAME]}) > 1


def test_a_text_ends_and_never_says_a_word_twice_in_a_row(network) -> None:
    """With the end made likely, rows end at different places and hold nothing after."""
    decoder = network.roi_heads.text_decoder
    cells = torch.randn(8, 16, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(5)) * 3
    bias = decoder.textual.output.bias
    before = bias[END].item()
    bias[END] = 4.0
    try:
        words, sure = decoder.write(decoder.remember(cells), NAME)
    finally:
        bias[END] = before
    ends = [row.index(END) for row in words.tolist() if END in row]
    assert ends and len(set(ends)) > 1 and words.shape[1] <= LONGEST - 1
    for row in words.tolist():
        end = row.index(END) if END in row else len(row)
        assert set(row[end:]) <= {END} and all(a != b for a, b in pairwise(row[:end]))
    assert bool((sure <= 0).all())


def test_a_checkpoint_as_training_left_it(tmp_path) -> None:
    """Below "model", with the mask head, constants and the text decoder under its second name."""
    tensors = random_grit()
    extra = {"pixel_mean": torch.zeros(3, 1, 1), "roi_heads.mask_head.predictor.weight": torch.zeros(1, 32, 1, 1)}
    twice = {name.replace("text_decoder.", "text_decoder_det."): t for name, t in tensors.items() if TEXT in name}
    path = tmp_path / "grit.pth"
    torch.save({"model": tensors | extra | twice, "iteration": 9}, path)
    loaded = load_grit(path, size=TINY)
    assert all(torch.equal(tensor, tensors[name]) for name, tensor in loaded.state_dict().items())
    some = next(iter(twice))
    with pytest.raises(GokuError, match="one text decoder"):
        from_checkpoint(tensors | twice | {some: twice[some] + 1})
    lacking = {name: t for name, t in tensors.items() if name != f"{HEAD}.agn_hm.bias"}
    torch.save({"model": lacking}, path)
    with pytest.raises(GokuError, match=r"agn_hm\.bias is missing"):
        load_grit(path, size=TINY)
    torch.save({"model": tensors | {"roi_heads.new": torch.zeros(1)}}, path)
    with pytest.raises(GokuError, match=r"roi_heads\.new is not part"):
        load_grit(path, size=TINY)
