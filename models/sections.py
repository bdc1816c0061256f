"""The tables of a run's configuration: typed, frozen, refusing unknown keys, each with the paper's section or equation.

A loss is one of several tables, told apart by its `type`; so a margin in a loss that has none is an error.
"""

from typing import Literal

import msgspec

from models.errors import ConfigError

QUERY_CHANNELS = ("text", "trigram", "country")
DOCUMENT_CHANNELS = ("title_text", "description_text", "title_trigram", "description_trigram", "image")
# Off unless named. Language and country are in Table 2 of the paper, not in its Fig. 2; `text` is title and description
# as one text, as a pretrained sentence encoder reads them best [ours].
FURTHER_DOCUMENT_CHANNELS = ("language", "country", "text")


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of the configuration file: immutable, and unknown keys are errors."""


class EncoderConfig(Section, frozen=True, kw_only=True):
    """A transformer text encoder. With `pretrained`, its other values are read from that directory."""

    layers: int
    dim: int
    heads: int
    ffn: int
    pooling: Literal["cls", "mean"] = "cls"  # the paper takes the [CLS]; sentence encoders often the mean
    norm_eps: float = 1e-5
    pretrained: str | None = None  # directory in Hugging Face layout whose first `layers` layers it starts from
    frozen: bool = False  # it stays as pretrained: a text is read once, and what is behind the encoder learns

    def check(self, name: str) -> None:
        if self.dim % self.heads:
            raise ConfigError(f"{name}.dim={self.dim} must be divisible by {name}.heads={self.heads}")


class FeatureConfig(Section, frozen=True, kw_only=True):
    """What the featuriser is built with; query length comes from the data (99th percentile)."""

    vocabulary: int  # SentencePiece pieces, at most: small data supports fewer; a pretrained encoder brings its own
    trigram_rows: int  # rows of a trigram table, row 0 is padding
    title_tokens: int
    description_tokens: int
    text_tokens: int = 96  # of title and description as one text, where the channel `text` reads them
    query_tokens: int | None = None  # at most; None: the 99th percentile of the training queries


class ModelConfig(Section, frozen=True, kw_only=True):
    """The two towers."""

    query_encoder: EncoderConfig
    document_encoder: EncoderConfig
    dim: int = 128  # of the towers' outputs
    dropout: float = 0.1
    fusion: Literal["attention", "concatenation", "sum"] = "attention"  # Eq. 1, and what Table 3 compares it with
    shared_encoder: bool = True  # one encoder for titles and descriptions (Table 3)
    shared_start: bool = True  # all 3-gram tables start as one, so that shared 3-grams bring texts together [inferred]
    query_channels: tuple[str, ...] = QUERY_CHANNELS
    document_channels: tuple[str, ...] = DOCUMENT_CHANNELS


class ScaledSoftmax(Section, frozen=True, kw_only=True, tag="softmax"):
    """Que2Search Eq. 2 and 3. The scale is 1/temperature: a low one smooths noisy clicks (Taobao's MGDSPR)."""

    scale: float = 20.0  # the paper says 15 to 20
    symmetric: bool = False  # Eq. 3, neutral for query to document in the paper


class MarginRank(Section, frozen=True, kw_only=True, tag="margin"):
    """Que2Search Eq. 5 over the hardest in-batch negatives."""

    margin: float = 0.1  # the paper says 0.1 to 0.2
    reduction: Literal["sum", "mean"] = "sum"
    negatives: int = 1  # hardest per positive; Facebook EBR found at most two best


class ScaledBce(Section, frozen=True, kw_only=True, tag="bce"):
    """Que2Search Eq. 4 over the hardest in-batch negatives, its misprinted sign corrected."""

    scale: float = 20.0
    negatives: int = 1


class AdaptiveMargin(Section, frozen=True, kw_only=True, tag="adaptive_margin"):
    """JD's margin loss: delta = alpha (1 - s(positive item, negative item)) + delta_0."""

    alpha: float = 0.5
    delta_0: float = 0.01
    trainable: bool = False  # learn alpha and delta_0
    stop_gradient: bool = True  # without it the items gather
    symmetric_weight: float = 0.05  # of the loss with the item as anchor


class AdaptiveSoftmax(Section, frozen=True, kw_only=True, tag="adaptive_softmax"):
    """JD's softmax with a temperature per negative [reconstructed; the forms are alternatives]."""

    alpha: float = 0.5
    tau_0: float = 1 / 30
    tau_form: Literal["mul", "add"] = "mul"  # tau_0 (1 + alpha (1 - s)), or alpha (1 - s) + tau_0
    tau_place: Literal["pair", "neg"] = "pair"  # tau of the difference, or of the negative alone
    trainable: bool = False
    stop_gradient: bool = True
    symmetric_weight: float = 0.05


class AdapTau(Section, frozen=True, kw_only=True, tag="adap_tau"):
    """Adap-tau (WWW'23): a temperature per query, by how hard the query still is. Its base is measured per epoch."""

    smoothing: float = 1.0  # T2: how far a query's loss moves its temperature


class DifficultySoftmax(Section, frozen=True, kw_only=True, tag="difficulty_softmax"):
    """A softmax whose negatives weigh more the harder they are, in the manner of PEG [form inferred]."""

    scale: float = 20.0
    strength: float = 1.0  # 0: the plain softmax


class MixedSoftmax(Section, frozen=True, kw_only=True, tag="mixed_softmax"):
    """Taobao's mixed negatives: the hardest ones, each blended with the positive, join the denominator."""

    scale: float = 20.0
    hardest: int = 32  # N; Taobao's best was 684 of its random negatives
    mix_low: float = 0.4
    mix_high: float = 0.6


LossConfig = (
    ScaledSoftmax
    | MarginRank
    | ScaledBce
    | AdaptiveMargin
    | AdaptiveSoftmax
    | AdapTau
    | DifficultySoftmax
    | MixedSoftmax
)


class TrainConfig(Section, frozen=True, kw_only=True):
    """Stage 1: one loss until the validation ROC AUC stops rising."""

    batch: int
    epochs: int  # at most; early stopping usually ends before
    loss: LossConfig = ScaledSoftmax()
    learning_rate: float = 7e-4
    encoder_learning_rate: float = 2e-4
    warmup_steps: int = 100  # a post-norm transformer needs a gentle start [inferred]
    decay_epochs: int = 0  # learning rates fall linearly to a tenth over so many, and stay there; 0: never [inferred]
    clip: float = 1.0
    patience: int = 3  # evaluations without a better validation ROC AUC
    least_gain: float = 0.0  # of the validation ROC AUC, to count as better
    evaluations_per_epoch: int = 1
    checkpoint_steps: int = 200
    chunk: int | None = None  # rows in memory at once; the gradient stays that of the whole batch
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["auto", "float32", "bfloat16"] = "auto"  # of the towers; losses are float32
    threads: int = 0  # of torch; 0: every core


class CurriculumConfig(Section, frozen=True, kw_only=True):
    """Stage 2 (Que2Search 3.3): another loss on the same data, from the best weights of a converged stage 1."""

    loss: LossConfig = MarginRank()
    epochs: int = 2  # at most
    learning_rate_share: float = 0.1  # of stage 1's rates [inferred]
    patience: int = 3
    start: Literal["converged", "immediately"] = "converged"  # the other only shows why


class MiningConfig(Section, frozen=True, kw_only=True):
    """Offline hard negatives as in Facebook EBR: documents of middling rank join every batch."""

    first_rank: int = 101
    last_rank: int = 500
    easy_per_hard: int = 100  # random negatives per hard one; 100:1 was where the gain saturated
    stage: Literal[1, 2] = 2  # from which stage on; mined again at the start of each of its epochs


class TeacherConfig(Section, frozen=True, kw_only=True):
    """A pretrained encoder teaches both towers its in-batch similarities, beside the pairs' own loss.

    Weak pairs say which words a product has; the encoder knows what they mean. Not in the papers. The encoder is not
    part of the trained towers.
    """

    encoder: str  # directory in Hugging Face layout
    weight: float = 1.0  # of the difference of the in-batch similarities
    scale: float = 20.0  # of those similarities
    pair_weight: float = 0.3  # of the pairs' own loss beside it
    tokens: int = 96  # of a product's title and description, which the teacher reads as one text


class ClassificationConfig(Section, frozen=True, kw_only=True):
    """The document classification task (Que2Search 3.1.1): which head queries a document answers."""

    weight: float = 0.1  # of its loss; not in the paper
    labels: int = 45_000  # head queries, at most
    least_pairs: int = 5  # a label needs so many training pairs


class PretrainConfig(Section, frozen=True, kw_only=True):
    """`que2search pretrain`: the masked language model of XLM and BERT on the data's own text."""

    epochs: int = 6
    batch: int = 128  # texts
    learning_rate: float = 1e-3
    warmup_steps: int = 200
    masked_share: float = 0.15
    checkpoint_steps: int = 500


class BlendingConfig(Section, frozen=True, kw_only=True):
    """Gradient blending over the towers' channels (Que2Search 3.6, Eq. 6); inference is unchanged."""

    groups: Literal["grouped", "single"] = "grouped"  # 6 losses, or 9
    weights: Literal["equal", "offline", "online"] = "offline"  # G/O^2 estimated once, or every super-epoch
    probe_steps: int = 60  # steps that each estimate trains
    super_epochs: int = 1  # epochs between two estimates, with `online`


class DistillationConfig(Section, frozen=True, kw_only=True):
    """A trained run teaches the query tower; its document tower is taken over and stays as it is."""

    teacher: str  # run directory
    vector_weight: float = 1.0  # of 1 - cos(student, teacher)
    similarity_weight: float = 1.0  # of the difference of the in-batch similarities
    scale: float = 20.0  # of those similarities
    pair_weight: float = 0.0  # of the ordinary loss
    titles: bool = True  # product titles, read as queries, are further examples
