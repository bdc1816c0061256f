"""Fuzzes one target under atheris: `python -m tests.fuzz.run NAME --seconds 60`. See `make fuzz`.

What was found is written beside the corpus, as `crash-...`: add it to the target's seeds, then mend the code.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["index", "models", "service"]):
    from tests.fuzz import files, texts

TARGETS = texts.TARGETS | files.TARGETS
LONGEST = 65_536  # bytes of an input
MEMORY = Path("/dev/shm")  # noqa: S108 - targets make files durable, which a disk would take its time for
SLOWEST_S = 60  # of one input: more is a hang; also what ending after a finding may take


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("name", choices=TARGETS)
    asked.add_argument("--seconds", type=int, default=60)
    asked.add_argument("--corpus", type=Path, default=Path("var/fuzz"))
    options = asked.parse_args()
    corpus = options.corpus / options.name
    corpus.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="q2s-fuzz-", dir=MEMORY if MEMORY.is_dir() else None) as folder:
        target = TARGETS[options.name](Path(folder))
        for at, seed in enumerate(target.seeds):
            (corpus / f"seed-{at}").write_bytes(seed)
        limits = {"max_total_time": options.seconds, "max_len": LONGEST, "timeout": SLOWEST_S, "rss_limit_mb": 4_096}
        flags = [f"-{name}={value}" for name, value in (limits | {"len_control": 0}).items()]
        atheris.Setup([sys.argv[0], *flags, f"-artifact_prefix={corpus}-", str(corpus)], target.entry)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
