"""The two towers: channels, their fusion, and an output of norm 1, so that inner product is the cosine."""

from collections.abc import Iterator, Sequence
from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.channels import CategoryChannel, ChannelOutput, ImageChannel, TextChannel, TrigramChannel
from models.encoder import TextEncoder
from models.features import FeatureSpec
from models.fusion import FUSIONS, AttentionFusion, Fusion, only
from models.sections import EncoderConfig, ModelConfig

# Channels that go missing together (Que2Search 3.6), for gradient blending.
GROUPS = (
    ("text", "trigram"),
    ("title_text", "title_trigram"),
    ("description_text", "description_trigram"),
    ("image",),
    ("language", "country"),
)


class Views(NamedTuple):
    """One tower's outputs for a batch: view 0 is the full fusion, then comes one per group of channels."""

    vectors: Tensor  # (b, v, d), rows of norm 1
    present: Tensor  # (b, v) bool: the row has some channel of the view


class Weighed(NamedTuple):
    """A tower's output for a batch, and how much each channel had to say in it."""

    vectors: Tensor  # (b, d), rows of norm 1
    weights: Tensor  # (b, n), rows of sum 1, in the order of the channels


class Tower(nn.Module):
    """Channels, given, and their fusion.

    `groups` names the channels of each further view, for gradient blending; they serve training and change nothing in
    what the tower computes.
    """

    features: ClassVar[dict[str, tuple[str, ...]]]  # by channel: the features that it reads
    always: ClassVar[tuple[str, ...]]  # the features that the tower takes whatever its channels

    def __init__(self, *, channels: nn.ModuleDict, fusion: Fusion) -> None:
        super().__init__()
        self.channels = channels
        self.fusion = fusion
        self.groups: tuple[tuple[str, ...], ...] = ()

    @property
    def dim(self) -> int:
        return self.fusion.dim

    @property
    def attention(self) -> AttentionFusion | None:
        """The fusion, where it weighs the channels; a concatenation and a sum do not."""
        return self.fusion if isinstance(self.fusion, AttentionFusion) else None

    @property
    def device(self) -> torch.device:
        return next((parameter.device for parameter in self.parameters()), torch.device("cpu"))

    @property
    def inputs(self) -> tuple[str, ...]:
        """The features it takes, in order; an exported tower's inputs bear the same names."""
        needed = (name for channel in self.channels for name in self.features[channel])
        return tuple(dict.fromkeys((*self.always, *needed)))

    def text_encoders(self) -> list[TextEncoder]:
        """Each once, where channels share one."""
        return [module for module in self.modules() if isinstance(module, TextEncoder)]

    def encode_channels(self, *features: Tensor) -> list[ChannelOutput]:
        """The channels' outputs in their order; `features` are those of `inputs`."""
        given = dict(zip(self.inputs, features, strict=True))
        return [
            channel(*(given[name] for name in self.features[channel_name]))
            for channel_name, channel in self.channels.items()
        ]

    def forward(self, *features: Tensor) -> Tensor:
        """(b, d), rows of norm 1."""
        return F.normalize(self.fusion(self.encode_channels(*features)), dim=-1)

    def views(self, *features: Tensor) -> Views:
        """The full output and one per group, fused alone as if all other channels were absent [inferred]."""
        channels = self.encode_channels(*features)
        places = {name: at for at, name in enumerate(self.channels)}
        parts = [channels, *(only(channels, {places[name] for name in group}) for group in self.groups)]
        vectors = torch.stack([F.normalize(self.fusion(part), dim=-1) for part in parts], dim=1)
        present = [torch.stack([channel.present for channel in part]).any(dim=0) for part in parts]
        return Views(vectors, torch.stack(present, dim=1))


class QueryTower(Tower):
    """Query text, its 3-grams and the searcher's country (Que2Search 3.1, Fig. 2)."""

    features: ClassVar[dict[str, tuple[str, ...]]] = {
        "text": ("token_ids",),
        "trigram": ("trigram_ids",),
        "country": ("country_ids",),
    }
    always: ClassVar[tuple[str, ...]] = ("token_ids", "trigram_ids", "country_ids")


class DocumentTower(Tower):
    """Title, description and images; its language and country too where they are asked for (Table 2)."""

    features: ClassVar[dict[str, tuple[str, ...]]] = {
        "title_text": ("title_ids",),
        "description_text": ("description_ids",),
        "title_trigram": ("title_trigram_ids",),
        "description_trigram": ("description_trigram_ids",),
        "image": ("images", "image_mask"),
        "language": ("language_ids",),
        "country": ("country_ids",),
        "text": ("text_ids",),
    }
    always: ClassVar[tuple[str, ...]] = (
        "title_ids",
        "description_ids",
        "title_trigram_ids",
        "description_trigram_ids",
        "images",
        "image_mask",
    )


class WeighedTower(nn.Module):
    """A tower with attention that gives its weights too: what is exported, so that a search can be explained.

    Args:
        attention: the tower's own fusion.
    """

    def __init__(self, tower: Tower, attention: AttentionFusion) -> None:
        super().__init__()
        self.tower = tower
        self.attention = attention

    def forward(self, *features: Tensor) -> Weighed:
        channels = self.tower.encode_channels(*features)
        weights = self.attention.weights(channels)
        return Weighed(F.normalize(self.attention.weighted(channels, weights), dim=-1), weights)


class TwoTowers(nn.Module):
    """Both towers, trained together and exported apart."""

    def __init__(self, *, query: Tower, document: Tower) -> None:
        super().__init__()
        self.query = query
        self.document = document

    def encoder_parameters(self) -> list[nn.Parameter]:
        """The text encoders' parameters, which learn at their own rate (Que2Search 3.1)."""
        encoders = self.query.text_encoders() + self.document.text_encoders()
        return list({id(p): p for encoder in encoders for p in encoder.parameters()}.values())


def as_tensors(features: NamedTuple, tower: Tower, device: torch.device | None = None) -> list[Tensor]:
    """The features that a tower takes, in its order."""
    return [torch.from_numpy(getattr(features, name)).to(device) for name in tower.inputs]


def channel_groups(kind: str, tower: Tower) -> tuple[tuple[str, ...], ...]:
    """The views that gradient blending trains beside the full one; none that is the full one again.

    `grouped`: channels that go missing together, 2 and 3 of the paper's towers and so 6 losses; `single`: each channel
    alone, 3 and 5, 9 losses (Que2Search 3.6, Table 1).
    """
    names = tuple(tower.channels)
    whole = tuple((name,) for name in names) if kind == "single" else GROUPS
    kept = (tuple(name for name in group if name in names) for group in whole)
    return tuple(group for group in kept if group and set(group) != set(names))


def build_towers(config: ModelConfig, spec: FeatureSpec, *, vocabulary: int) -> TwoTowers:
    """Untrained towers for a feature space; the image channel exists only where the data has images."""
    query = dict(_query_channels(config, spec, vocabulary=vocabulary))
    document = dict(_document_channels(config, spec, vocabulary=vocabulary))
    fusion = FUSIONS[config.fusion]
    if config.shared_start:
        _start_alike(
            [channel for channel in (*query.values(), *document.values()) if isinstance(channel, TrigramChannel)]
        )
    return TwoTowers(
        query=QueryTower(channels=nn.ModuleDict(query), fusion=fusion(channels=len(query), dim=config.dim)),
        document=DocumentTower(channels=nn.ModuleDict(document), fusion=fusion(channels=len(document), dim=config.dim)),
    )


def _start_alike(channels: Sequence[TrigramChannel]) -> None:
    """3-grams that query and document share bring them together from step 0, those of no training query too."""
    with torch.no_grad():
        for channel in channels[1:]:
            channel.table.weight.copy_(channels[0].table.weight)


def _query_channels(config: ModelConfig, spec: FeatureSpec, *, vocabulary: int) -> Iterator[tuple[str, nn.Module]]:
    for name in config.query_channels:
        if name == "text":
            tokens = spec.query_tokens
            encoder = _encoder(config.query_encoder, config, vocabulary=vocabulary, max_tokens=tokens)
            yield name, TextChannel(encoder, dim=config.dim)
        elif name == "trigram":
            yield name, TrigramChannel(rows=spec.trigram_rows, dim=config.dim)
        else:
            yield name, CategoryChannel(values=len(spec.countries), dim=config.dim)


def _document_channels(config: ModelConfig, spec: FeatureSpec, *, vocabulary: int) -> Iterator[tuple[str, nn.Module]]:
    names = [name for name in config.document_channels if name != "image" or spec.image_dim]
    shared: TextEncoder | None = None  # one encoder for all text fields, unless the configuration says otherwise
    for name in names:
        if name == "text" or name.endswith("_text"):
            if shared is None or not config.shared_encoder:
                tokens = max(spec.title_tokens, spec.description_tokens, spec.text_tokens)
                shared = _encoder(config.document_encoder, config, vocabulary=vocabulary, max_tokens=tokens)
            yield name, TextChannel(shared, dim=config.dim)
        elif name.endswith("_trigram"):
            yield name, TrigramChannel(rows=spec.trigram_rows, dim=config.dim)
        elif name in ("language", "country"):
            values = spec.languages if name == "language" else spec.countries
            yield name, CategoryChannel(values=len(values), dim=config.dim)
        else:
            yield name, ImageChannel(image_dim=spec.image_dim, dim=config.dim)


def _encoder(encoder: EncoderConfig, config: ModelConfig, *, vocabulary: int, max_tokens: int) -> TextEncoder:
    return TextEncoder(encoder, vocabulary=vocabulary, max_tokens=max_tokens, dropout=config.dropout)
