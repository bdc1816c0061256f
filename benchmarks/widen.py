"""A trained run with tables as large as the paper's, for measuring time: it finds what the small one finds.

The sample supports some thousand pieces; Que2Search's query tower has 150,000, and 500,000 rows of 3-grams, which do
not fit a processor's caches. Pieces are added that no text contains. Rows are repeated: a hash modulo k m decides the
hash modulo m, so with k times the rows, each a copy, every text keeps its vector.
"""

import shutil
from pathlib import Path

import torch
from msgspec.structs import replace
from sentencepiece import sentencepiece_model_pb2
from torch import nn

from models.channels import TextChannel, TrigramChannel
from models.config import RunConfig
from models.errors import RunError
from models.features import Featurizer
from models.presets import PRESETS
from models.tokenizers import SentencePieceTokenizer
from models.towers import TwoTowers, build_towers
from models.training.checkpoint import save_weights
from models.training.run import BEST_FILE, TRAINING_FILE, Run, start_run

PIECES: int = PRESETS["paper"]["features"]["vocabulary"]
TRIGRAM_ROWS: int = PRESETS["paper"]["features"]["trigram_rows"]
QUERY_TOKENS = 32  # so that no query of a measurement is cut
_UNUSED = -1e4  # score of a piece that no text contains


def widen(
    path: Path, out: Path, *, pieces: int = PIECES, trigram_rows: int = TRIGRAM_ROWS, query_tokens: int = QUERY_TOKENS
) -> Run:
    """Write the run at `path` again at `out`, with large tables; vectors stay, but of queries that it cut before.

    Args:
        path: a finished run with a vocabulary of its own.
        out: the new run's directory.
        pieces: of its vocabulary.
        trigram_rows: of its 3-gram tables, to the nearest multiple of what the run has.
        query_tokens: what it reads of a query, at least.

    Raises:
        RunError: `path` is no finished run, or its vocabulary is a pretrained encoder's.
    """
    run = Run.open(path)
    if not isinstance(run.featurizer.tokenizer, SentencePieceTokenizer):
        raise RunError(f"{path} has a pretrained encoder's vocabulary, which is as large as it is; widen another run")
    featurizer = _widened_featurizer(run.featurizer, run.featurizer.tokenizer, pieces, trigram_rows, query_tokens)
    features = replace(run.config.features, vocabulary=pieces, trigram_rows=featurizer.spec.trigram_rows)
    config: RunConfig = replace(run.config, features=features)
    towers = build_towers(config.model, featurizer.spec, vocabulary=featurizer.vocabulary)
    _fill(towers, run.towers)
    start_run(out, config, featurizer)
    save_weights(out / BEST_FILE, towers)
    shutil.copyfile(path / TRAINING_FILE, out / TRAINING_FILE)
    return Run(out, config, featurizer, towers.eval())


def _widened_featurizer(
    featurizer: Featurizer, tokenizer: SentencePieceTokenizer, pieces: int, trigram_rows: int, query_tokens: int
) -> Featurizer:
    spec = featurizer.spec
    times = max(1, round((trigram_rows - 1) / (spec.trigram_rows - 1)))  # row 0 is padding
    wider = replace(
        spec,
        trigram_rows=times * (spec.trigram_rows - 1) + 1,
        query_tokens=max(query_tokens, spec.query_tokens),
    )
    return Featurizer(wider, SentencePieceTokenizer(_with_unused_pieces(tokenizer.saved, pieces)))


def _with_unused_pieces(saved: bytes, pieces: int) -> bytes:
    """The SentencePiece model with pieces of letters from a private use area."""
    model = sentencepiece_model_pb2.ModelProto()  # type: ignore[attr-defined]  # protobuf makes it on import
    model.ParseFromString(saved)
    for at in range(len(model.pieces), pieces):
        model.pieces.add(piece=f"\U000f0000{at}\U000f0000", score=_UNUSED)
    written: bytes = model.SerializeToString()
    return written


def _fill(wide: TwoTowers, narrow: TwoTowers) -> None:
    """Copy every parameter; what is larger in `wide` goes on with copies, or with the random rows that it has."""
    trained = dict(narrow.named_parameters())
    trigrams = {id(module.table.weight) for module in wide.modules() if isinstance(module, TrigramChannel)}
    positions = {id(_positions(module).weight) for module in wide.modules() if isinstance(module, TextChannel)}
    with torch.no_grad():
        for name, parameter in wide.named_parameters():
            source = trained[name]
            parameter[: len(source)].copy_(source)
            if id(parameter) in trigrams:
                parameter[1:].copy_(source[1:].repeat((len(parameter) - 1) // (len(source) - 1), 1))
            elif id(parameter) in positions:
                parameter[len(source) :].copy_(source[-1])


def _positions(channel: TextChannel) -> nn.Embedding:
    return channel.encoder.position_embedding
