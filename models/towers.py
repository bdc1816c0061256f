"""The two towers: channels, attention fusion, and an output of norm 1, so that inner product is the cosine."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.channels import ChannelOutput, CountryChannel, ImageChannel, TextChannel, TrigramChannel
from models.sections import ModelConfig
from models.encoder import TextEncoder
from models.features import DocumentFeatures, FeatureSpec, QueryFeatures
from models.fusion import AttentionFusion

# The features that a tower takes, in order; an exported tower's inputs bear the same names.
QUERY_INPUTS = ("token_ids", "trigram_ids", "country_ids")
DOCUMENT_INPUTS = (
    "title_ids",
    "description_ids",
    "title_trigram_ids",
    "description_trigram_ids",
    "images",
    "image_mask",
)


class Tower(nn.Module):
    """Channels, given, and their fusion."""

    inputs: tuple[str, ...]  # the features it takes, in order

    def __init__(self, *, channels: nn.ModuleDict, fusion: AttentionFusion) -> None:
        super().__init__()
        self.channels = channels
        self.fusion = fusion

    @property
    def dim(self) -> int:
        return self.fusion.dim


class QueryTower(Tower):
    """Query text, its 3-grams and the searcher's country to (b, d), rows of norm 1 (Que2Search 3.1, Fig. 2)."""

    inputs = QUERY_INPUTS

    def encode_channels(self, token_ids: Tensor, trigram_ids: Tensor, country_ids: Tensor) -> list[ChannelOutput]:
        inputs = {"text": token_ids, "trigram": trigram_ids, "country": country_ids}
        return [channel(inputs[name]) for name, channel in self.channels.items()]

    def forward(self, token_ids: Tensor, trigram_ids: Tensor, country_ids: Tensor) -> Tensor:
        return F.normalize(self.fusion(self.encode_channels(token_ids, trigram_ids, country_ids)), dim=-1)


class DocumentTower(Tower):
    """Title, description and images to (b, d), rows of norm 1; both texts go through one encoder."""

    inputs = DOCUMENT_INPUTS

    def encode_channels(
        self,
        title_ids: Tensor,
        description_ids: Tensor,
        title_trigram_ids: Tensor,
        description_trigram_ids: Tensor,
        images: Tensor,
        image_mask: Tensor,
    ) -> list[ChannelOutput]:
        inputs = {
            "title_text": (title_ids,),
            "description_text": (description_ids,),
            "title_trigram": (title_trigram_ids,),
            "description_trigram": (description_trigram_ids,),
            "image": (images, image_mask),
        }
        return [channel(*inputs[name]) for name, channel in self.channels.items()]

    def forward(
        self,
        title_ids: Tensor,
        description_ids: Tensor,
        title_trigram_ids: Tensor,
        description_trigram_ids: Tensor,
        images: Tensor,
        image_mask: Tensor,
    ) -> Tensor:
        channels = self.encode_channels(
            title_ids, description_ids, title_trigram_ids, description_trigram_ids, images, image_mask
        )
        return F.normalize(self.fusion(channels), dim=-1)


class TwoTowers(nn.Module):
    """Both towers, trained together and exported apart."""

    def __init__(self, *, query: QueryTower, document: DocumentTower) -> None:
        super().__init__()
        self.query = query
        self.document = document

    def encoder_parameters(self) -> list[nn.Parameter]:
        """The text encoders' parameters, which learn at their own rate (Que2Search 3.1)."""
        encoders = [module for module in self.modules() if isinstance(module, TextEncoder)]
        return list({id(p): p for encoder in encoders for p in encoder.parameters()}.values())


def as_tensors(features: QueryFeatures | DocumentFeatures, tower: Tower) -> list[Tensor]:
    """The features that a tower takes, in its order."""
    return [torch.from_numpy(getattr(features, name)) for name in tower.inputs]


def build_towers(config: ModelConfig, spec: FeatureSpec, *, vocabulary: int) -> TwoTowers:
    """Untrained towers for a feature space; the image channel exists only where the data has images."""
    return TwoTowers(
        query=_build_query_tower(config, spec, vocabulary=vocabulary),
        document=_build_document_tower(config, spec, vocabulary=vocabulary),
    )


def _build_query_tower(config: ModelConfig, spec: FeatureSpec, *, vocabulary: int) -> QueryTower:
    channels: dict[str, nn.Module] = {}
    for name in config.query_channels:
        if name == "text":
            encoder = TextEncoder(
                config.query_encoder,
                vocabulary=vocabulary,
                max_tokens=spec.query_tokens,
                dropout=config.dropout,
            )
            channels[name] = TextChannel(encoder, dim=config.dim)
        elif name == "trigram":
            channels[name] = TrigramChannel(rows=spec.trigram_rows, dim=config.dim)
        else:
            channels[name] = CountryChannel(countries=len(spec.countries), dim=config.dim)
    return QueryTower(channels=nn.ModuleDict(channels), fusion=AttentionFusion(channels=len(channels), dim=config.dim))


def _build_document_tower(config: ModelConfig, spec: FeatureSpec, *, vocabulary: int) -> DocumentTower:
    names = [name for name in config.document_channels if name != "image" or spec.image_dim]
    encoder = (
        TextEncoder(
            config.document_encoder,
            vocabulary=vocabulary,
            max_tokens=max(spec.title_tokens, spec.description_tokens),
            dropout=config.dropout,
        )
        if any(name.endswith("_text") for name in names)
        else None
    )
    channels: dict[str, nn.Module] = {}
    for name in names:
        if encoder is not None and name.endswith("_text"):
            channels[name] = TextChannel(encoder, dim=config.dim)  # shared: one encoder for all text fields
        elif name.endswith("_trigram"):
            channels[name] = TrigramChannel(rows=spec.trigram_rows, dim=config.dim)
        else:
            channels[name] = ImageChannel(image_dim=spec.image_dim, dim=config.dim)
    return DocumentTower(
        channels=nn.ModuleDict(channels), fusion=AttentionFusion(channels=len(channels), dim=config.dim)
    )
