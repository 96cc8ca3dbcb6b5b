"""Modules of transformers, and one written as timm's are: called as people call them, with masks on their weights.

timm itself needs torchvision, which is not to be had for every build of torch. So its way of writing is copied here.
"""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskstore import Mask
from supsup_models import convert
from supsup_models.networks.convert import ConvertedModel

TOKENS = torch.randint(0, 50, (2, 7), generator=torch.Generator().manual_seed(0))
PICTURES = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))
SIZES: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}


def masks(model: ConvertedModel) -> tuple[Mask, Mask]:
    """One of ones, and one that drops a tenth of the weights."""
    drawn = torch.rand(model.spec.bits, generator=torch.Generator().manual_seed(2))
    return model.mask_of(torch.ones_like(drawn)), model.mask_of(drawn - 0.1)


def check(module: nn.Module, *args: Any, **kwargs: Any) -> ConvertedModel:
    """Convert a module; what it gives under masks is what it gives by itself, in the same kind of object."""
    module.eval()
    model = convert(module, weights="keep")
    ones, some = masks(model)
    with torch.no_grad():
        plain, same, other = module(*args, **kwargs), *(model.bind(mask)(*args, **kwargs) for mask in (ones, some))
        exported = model.export(some)(*args, **kwargs)
    assert type(plain) is type(same) is type(other) is type(exported)
    for wanted, found in ((plain, same), (exported, other)):
        for one, two in zip(tensors(wanted), tensors(found), strict=True):
            assert torch.equal(one, two)
    assert not torch.equal(tensors(plain)[0], tensors(other)[0])
    return model


def tensors(answer: Any) -> list[Tensor]:
    """Every tensor in what a module gives: a tensor, a tuple, or a dict-like dataclass of either."""
    if isinstance(answer, Tensor):
        return [answer]
    if answer is None:
        return []
    parts = answer.values() if hasattr(answer, "values") else answer
    return [each for part in parts for each in tensors(part)]


@pytest.fixture(scope="module")
def transformers() -> Any:
    return pytest.importorskip("transformers", reason="needs the package transformers")


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("as_dataclass", [True, False])
def test_a_bert_takes_keywords_and_gives_a_dataclass_or_a_tuple(transformers, attention, as_dataclass):
    config = transformers.BertConfig(vocab_size=50, **SIZES, attn_implementation=attention, num_labels=3)
    module = transformers.BertForSequenceClassification(config)
    keep = torch.ones_like(TOKENS)
    keep[1, 4:] = 0
    model = check(module, input_ids=TOKENS, attention_mask=keep, labels=torch.tensor([0, 2]), return_dict=as_dataclass)
    assert "bert.encoder.layer.1.attention.self.query.weight" in model.spec.shapes


def test_a_vision_transformer_gives_hidden_states_and_attentions(transformers):
    config = transformers.ViTConfig(image_size=16, patch_size=8, num_labels=3, **SIZES, attn_implementation="eager")
    module = transformers.ViTForImageClassification(config)
    check(module, PICTURES)
    check(module, pixel_values=PICTURES, output_hidden_states=True, output_attentions=True)


def test_a_resnet_of_transformers_keeps_its_statistics(transformers):
    config = transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], num_labels=3)
    module = transformers.ResNetForImageClassification(config)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.uniform_(part.running_mean)
    check(module, pixel_values=PICTURES)


def test_layers_of_a_kind_of_transformers_own_are_left_as_they_are(transformers):
    config = transformers.GPT2Config(vocab_size=50, n_embd=16, n_layer=1, n_head=2, bos_token_id=1, eos_token_id=2)
    model = check(transformers.GPT2LMHeadModel(config), input_ids=TOKENS, use_cache=False)
    assert list(model.spec.shapes) == ["lm_head.weight"]  # `Conv1D` of transformers is no layer of torch


def test_a_language_model_of_linear_layers_answers_with_a_cache(transformers):
    sizes = SIZES | {"num_key_value_heads": 1}
    config = transformers.LlamaConfig(vocab_size=50, max_position_embeddings=16, **sizes, tie_word_embeddings=False)
    module = transformers.LlamaForCausalLM(config)
    check(module, input_ids=TOKENS, use_cache=False)
    model = convert(module.eval(), weights="keep")
    bound = model.bind(masks(model)[1])
    with torch.no_grad():
        whole = bound(input_ids=TOKENS, use_cache=True).logits[:, -1]
        first = bound(input_ids=TOKENS[:, :-1], use_cache=True)
        last = bound(input_ids=TOKENS[:, -1:], cache=first.past_key_values, use_cache=True).logits[:, -1]
    assert torch.allclose(whole, last, atol=1e-5)


class Attention(nn.Module):
    """As in timm's vision_transformer.py: one linear layer for queries, keys and values, and fused attention."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads, self.head_dim, self.fused_attn = num_heads, dim // num_heads, True
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, channels = x.shape
        qkv = self.qkv(x).reshape(batch, length, 3, self.num_heads, self.head_dim).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(batch, length, channels))


class LayerScale(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.rand(dim))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma


class Block(nn.Module):
    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.norm1, self.attn, self.ls1 = nn.LayerNorm(dim), Attention(dim, num_heads), LayerScale(dim)
        self.norm2, self.ls2 = nn.LayerNorm(dim), LayerScale(dim)
        self.mlp = nn.Sequential(nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.ls1(self.attn(self.norm1(x)))
        return x + self.ls2(self.mlp(self.norm2(x)))


class VisionTransformer(nn.Module):
    """As timm's: `forward_features`, `forward_head`, a class token and learnt positions."""

    def __init__(self, num_classes: int = 1000, dim: int = 16, depth: int = 2) -> None:
        super().__init__()
        self.patch_embed = nn.Conv2d(3, dim, 8, stride=8)
        self.cls_token, self.pos_embed = nn.Parameter(torch.zeros(1, 1, dim)), nn.Parameter(torch.randn(1, 5, dim))
        self.blocks = nn.Sequential(*(Block(dim, 2) for _ in range(depth)))
        self.norm, self.head_drop, self.head = nn.LayerNorm(dim), nn.Dropout(0.1), nn.Linear(dim, num_classes)

    def forward_features(self, x: Tensor) -> Tensor:
        x = self.patch_embed(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], dim=1) + self.pos_embed
        found: Tensor = self.norm(self.blocks(x))
        return found

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        x = self.head_drop(x[:, 0])
        found: Tensor = x if pre_logits else self.head(x)
        return found

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))


def test_a_model_written_as_timms_are_takes_masks_and_heads():
    torch.manual_seed(0)
    module = VisionTransformer().eval()
    check(module, PICTURES)
    model = convert(module, weights="keep", head="head", own="norm", image_shape=(3, 16, 16), classes=5)
    extras = model.final_extras(model.initial_extras(4))
    exported = model.export(masks(model)[1], extras)
    with torch.no_grad():
        assert torch.equal(exported(PICTURES), model(PICTURES, masks(model)[1], extras=extras))
        assert exported.forward_head(exported.forward_features(PICTURES), pre_logits=True).shape == (2, 16)
    assert exported.head.out_features == 4
