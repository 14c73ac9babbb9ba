"""Attention over padded histories against torch's own encoder, and what a padded history must not do."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from graftrec.data.batch import Encoded
from graftrec.models.layers.attention import Block, SelfAttention
from graftrec.models.trunks.transformer import Transformer

B, F, D, L, HIDDEN = 5, 3, 8, 6, 20


def encoder(layers: int, ours: SelfAttention, dropout: float = 0.0) -> nn.TransformerEncoder:
    """Torch's encoder with our weights."""
    layer = nn.TransformerEncoderLayer(D, 2, HIDDEN, dropout, batch_first=True, norm_first=True)
    theirs = nn.TransformerEncoder(layer, layers, nn.LayerNorm(D), enable_nested_tensor=False)
    names = {"self_attn.in_proj_": "inputs.", "self_attn.out_proj.": "out.", "linear1.": "forth.", "linear2.": "back.",
             "norm1.": "before.", "norm2.": "between.", "layers.": "blocks."}  # fmt: skip
    state = ours.state_dict()
    for name, part in theirs.state_dict().items():
        own = name
        for old, new in names.items():
            own = own.replace(old, new)
        part.copy_(state.pop(own))
    assert not state
    return theirs


def moved(net: SelfAttention) -> SelfAttention:
    """Norms and biases start at 1 and 0, where a wrong one could hide."""
    with torch.no_grad():
        for part in net.parameters():
            part.add_(torch.randn_like(part), alpha=0.3)
    return net


def history(rows: int = B, length: int = L) -> tuple[Tensor, Tensor]:
    """Events and a mask: unknown events stand anywhere, the newest of the first row too, and the last row has none."""
    mask = torch.rand(rows, length) < 0.6
    if rows and length:
        mask[0], mask[-1], mask[0, -1] = True, False, False
    return torch.randn(rows, length, D), mask


@pytest.mark.parametrize("layers", [1, 3])
def test_attention_is_what_torch_computes(layers: int) -> None:
    torch.manual_seed(layers)
    ours = moved(SelfAttention(D, layers, 2, HIDDEN, 0.0))
    theirs, (events, mask) = encoder(layers, ours), history()
    some = mask.any(1)
    assert not some.all()
    found, expected = ours(events, mask)[some], theirs(events[some], src_key_padding_mask=~mask[some])
    torch.testing.assert_close(found[mask[some]], expected[mask[some]])
    weights = torch.randn_like(found[mask[some]])
    (found[mask[some]] * weights).sum().backward()
    (expected[mask[some]] * weights).sum().backward()
    for own, other in zip(ours.blocks, theirs.layers, strict=True):
        assert isinstance(own, Block)
        torch.testing.assert_close(own.inputs.weight.grad, other.self_attn.in_proj_weight.grad)
        torch.testing.assert_close(own.forth.weight.grad, other.linear1.weight.grad)


def test_dropout_takes_as_much_as_torchs() -> None:
    torch.manual_seed(0)
    ours = SelfAttention(D, 1, 2, HIDDEN, 0.3)
    theirs, (events, mask) = encoder(1, ours, 0.3), history(1)
    ours.norm, theirs.norm = nn.Identity(), None  # type: ignore[assignment]
    events, mask = events.expand(20_000, -1, -1), mask.new_ones(20_000, L)
    with torch.no_grad():
        own, other = ours(events, mask), theirs(events, src_key_padding_mask=~mask)
    torch.testing.assert_close(own.mean(0), other.mean(0), rtol=0, atol=0.02)
    torch.testing.assert_close(own.std(0), other.std(0), rtol=0.05, atol=0.005)


def test_it_starts_as_torch_starts() -> None:
    torch.manual_seed(0)
    ours, theirs = Block(64, 2, 256, 0.0), nn.TransformerEncoderLayer(64, 2, 256)
    pairs = [(ours.inputs, theirs.self_attn.in_proj_weight, theirs.self_attn.in_proj_bias),
             (ours.out, theirs.self_attn.out_proj.weight, theirs.self_attn.out_proj.bias),
             (ours.forth, theirs.linear1.weight, theirs.linear1.bias),
             (ours.back, theirs.linear2.weight, theirs.linear2.bias)]  # fmt: skip
    for layer, weight, bias in pairs:
        torch.testing.assert_close(layer.weight.std(), weight.std(), rtol=0.03, atol=0)
        torch.testing.assert_close(layer.bias.std(), bias.std(), rtol=0.3, atol=0)


def test_padding_is_read_by_no_history_with_an_event() -> None:
    torch.manual_seed(0)
    net, (events, mask) = moved(SelfAttention(D, 2, 2, HIDDEN, 0.0)), history()
    other = torch.where(mask[..., None], events, 100 * torch.randn_like(events))
    torch.testing.assert_close(net(events, mask)[mask], net(other, mask)[mask])
    # only a history without events reads it, in all kernels alike: nobody reads what comes of it
    torch.testing.assert_close(net(events, mask)[-1], net(events, torch.ones_like(mask))[-1])
    trunk = Transformer(F, D, True).eval()
    e = Encoded(torch.randn(B, F, D), events, mask)
    torch.testing.assert_close(trunk(e, ["a"])["a"], trunk(replace(e, history=other), ["a"])["a"])


def test_what_is_averaged_is_of_one_size_at_any_depth() -> None:
    torch.manual_seed(0)
    events, mask = history(50)
    for layers in (1, 8):
        torch.testing.assert_close(SelfAttention(D, layers, 2, HIDDEN, 0.0)(events, mask).std(), torch.tensor(1.0),
                                   rtol=0.01, atol=0)  # fmt: skip


@pytest.mark.parametrize(("rows", "length"), [(0, L), (B, 0), (0, 0), (1, 1), (B, L)])
@pytest.mark.parametrize("empty", [False, True])
def test_any_size_of_a_batch_trains_every_weight(rows: int, length: int, empty: bool) -> None:
    torch.manual_seed(0)
    trunk, (events, mask) = Transformer(F, D, True, dropout=0.2), history(rows, length)
    e = Encoded(torch.randn(rows, F, D), events, mask & (not empty))
    z = trunk(e, ["a"])["a"]
    assert z.shape == (rows, trunk.out_dim)
    z.sum().backward()
    for name, part in trunk.named_parameters():
        assert part.grad is not None, name
        assert part.grad.isfinite().all(), name
    alone = Encoded(e.fields, torch.zeros(rows, 0, D), torch.zeros(rows, 0, dtype=torch.bool))
    if empty:
        torch.testing.assert_close(trunk.eval()(e, ["a"]), trunk(alone, ["a"]))


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"layers": 0}, "layers, heads and hidden should be at least 1. Found 0, 2 and 32"),
        ({"heads": 0}, "layers, heads and hidden should be at least 1. Found 1, 0 and 32"),
        ({"heads": 3}, "encoder.width should be a multiple of trunk.heads. Found 8 and 3"),
        ({"heads": -1}, "at least 1. Found 1, -1"),
        ({"dropout": 1.0}, r"dropout should be in \[0, 1\). Found 1.0"),
        ({"hidden": []}, r"hidden should be a list of widths of at least 1. Found \[\]"),
    ],
)
def test_what_cannot_be_built_is_refused(more: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Transformer(F, D, True, **more)  # type: ignore[arg-type]
