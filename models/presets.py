"""The presets: what a configuration file is laid over.

Sizes follow Que2Search (KDD'21) section 3.1 where the paper gives them: two layers, four heads, width 128 and an FFN of
three times the width for the query encoder, Adam at 7e-4 with 2e-4 for the text encoders, dropout 0.1, gradient clip
1.0, patience 3.
"""

from typing import Any

_PAPERS_QUERY_ENCODER: dict[str, Any] = {"layers": 2, "dim": 128, "heads": 4, "ffn": 384}
# From scratch the mean of the tokens learns at once what a [CLS] learns late: the paper's encoders are pretrained.
_QUERY_ENCODER = _PAPERS_QUERY_ENCODER | {"pooling": "mean"}
_SMALL_ENCODER: dict[str, Any] = {"layers": 2, "dim": 64, "heads": 2, "ffn": 192, "pooling": "mean"}

PRESETS: dict[str, dict[str, Any]] = {
    "tiny": {  # minutes on two cores
        "features": {
            "vocabulary": 8_000,
            "trigram_rows": 50_000,
            "title_tokens": 24,
            "description_tokens": 32,
        },
        "model": {"query_encoder": _QUERY_ENCODER, "document_encoder": _QUERY_ENCODER},
        "train": {
            "loss": {"type": "softmax"},
            "batch": 256,
            "epochs": 6,
            "decay_epochs": 3,
            "evaluations_per_epoch": 4,
            "patience": 2,
            "least_gain": 0.006,
        },
        "curriculum": {"epochs": 1, "patience": 1},
    },
    "ablation": {  # a minute on two cores: `ablate` trains dozens
        "features": {
            "vocabulary": 4_000,
            "trigram_rows": 20_000,
            "title_tokens": 16,
            "description_tokens": 32,
        },
        "model": {
            "query_encoder": _SMALL_ENCODER,
            "document_encoder": _SMALL_ENCODER,
            "dim": 64,
        },
        "train": {
            "loss": {"type": "softmax"},
            "batch": 256,
            "epochs": 8,
            "decay_epochs": 4,
            "encoder_learning_rate": 7e-4,  # one rate, until a row asks for two
            "evaluations_per_epoch": 2,
            "patience": 2,
            "least_gain": 0.002,
        },
    },
    "base": {  # hours on a few cores
        "features": {
            "vocabulary": 32_000,
            "trigram_rows": 200_000,
            "title_tokens": 32,
            "description_tokens": 96,
        },
        "model": {
            "query_encoder": _QUERY_ENCODER,
            "document_encoder": {"layers": 4, "dim": 256, "heads": 4, "ffn": 768, "pooling": "mean"},
        },
        "train": {"loss": {"type": "softmax"}, "batch": 512, "epochs": 20, "decay_epochs": 15},
        "curriculum": {"epochs": 10},
    },
    "paper": {  # the published widths: XLM-R base for documents, 150 k pieces, batch 768
        "features": {
            "vocabulary": 150_000,
            "trigram_rows": 500_000,
            "title_tokens": 64,
            "description_tokens": 128,
        },
        "model": {
            "query_encoder": _PAPERS_QUERY_ENCODER,
            "document_encoder": {"layers": 6, "dim": 768, "heads": 12, "ffn": 3072},
        },
        "train": {"loss": {"type": "softmax"}, "batch": 768, "epochs": 100, "chunk": 32},
        "curriculum": {"epochs": 100},
        "classification": {},
        "blending": {},
    },
    "catalogue": {  # no click log: a pretrained encoder as it is (--encoder) beside 3-grams, which it teaches
        "features": {
            "vocabulary": 32_000,
            "trigram_rows": 30_000,
            "query_tokens": 16,
            "title_tokens": 48,
            "description_tokens": 64,
        },
        "model": {
            "query_encoder": {"frozen": True},
            "document_encoder": {"frozen": True},
            "dim": 384,
            "document_channels": ("text", "title_trigram", "description_trigram", "image"),
        },
        "train": {"loss": {"type": "softmax"}, "batch": 256, "epochs": 2, "decay_epochs": 2},
        "teacher": {},
    },
    "jd": {  # Adaptive Hyper-parameter Learning (EMNLP'23): batch, rate and lengths as there; encoder sizes are ours
        "features": {
            "vocabulary": 32_000,
            "trigram_rows": 200_000,
            "query_tokens": 30,
            "title_tokens": 100,
            "description_tokens": 100,
        },
        "model": {"query_encoder": _QUERY_ENCODER, "document_encoder": _QUERY_ENCODER},
        "train": {
            "batch": 350,
            "epochs": 20,
            "loss": {"type": "adaptive_margin"},
            "learning_rate": 5e-5,
            "encoder_learning_rate": 5e-5,
        },
    },
}
