import numpy as np
import onnx
import onnxruntime
import pytest

from benchmarks.doctor_costs import Times
from benchmarks.doctor_pools import Exchanges, Loaded, Pools, Threads, matrix_product
from benchmarks.doctor_report import Finding
from benchmarks.doctor_software import (
    faiss_build,
    onnx_pool,
    openmp_names,
    openmp_pools,
    server_parts,
    threads,
    torch,
)

MAPS = """7f00-7f01 r-xp 00000000 fe:00 1    /venv/lib/faiss_cpu.libs/libgomp-e985.so.1.0.0
7f01-7f02 r--p 00000000 fe:00 1    /venv/lib/faiss_cpu.libs/libgomp-e985.so.1.0.0
7f02-7f03 rw-p 00000000 00:00 0
7f03-7f04 r-xp 00000000 fe:00 2    /usr/lib/libcompat.so.1
""".splitlines()
WITH_TORCH = [*MAPS, "7f05-7f06 r-xp 0 fe:00 3    /torch/lib/libgomp-6a29.so.1"]
WITH_INTEL = [*MAPS, "7f05-7f06 r-xp 0 fe:00 3    /mkl/libiomp5.so"]
ONE, MANY = Times(100.0, 120.0, 100.0), Times(90.0, 900.0, 800.0)


@pytest.mark.parametrize(
    ("finding", "complaint"),
    [
        (faiss_build("AVX512", ("avx2", "avx512f")), None),
        (faiss_build("AVX2", ("avx2",)), None),
        (faiss_build("AVX2", ("avx2", "avx512f")), "AVX-512"),
        (faiss_build("NONE", ("avx2",)), "without SIMD"),
        (threads({"OMP_NUM_THREADS": "1"}, 1, None), None),
        (threads({}, 1, None), None),
        (threads({}, 8, None), "many threads"),
        (threads({"OMP_NUM_THREADS": "4", "OMP_WAIT_POLICY": "ACTIVE"}, 4, None), "spins"),
        (onnx_pool(["CPUExecutionProvider"], None), None),
        (openmp_pools([], 8, None), None),
        (openmp_pools(MAPS, 8, None), None),
        (openmp_pools(WITH_TORCH, 1, None), None),
        (openmp_pools(WITH_TORCH, 8, None), "compete"),
        (openmp_pools(WITH_INTEL, 8, None), "compete"),
        (torch(None, None), None),
        (torch("2.13.0", None), None),
        (server_parts([], None), None),
        (server_parts(["uvloop"], None), "cannot start"),
    ],
)
def test_a_finding_says_what_is_slow_and_what_to_do_or_nothing(finding: Finding, complaint: str | None) -> None:
    """Silence where all is well."""
    assert (complaint is None) == (finding.slow is None) == (finding.remedy is None)
    assert complaint is None or complaint in (finding.slow or "")


def test_costs_put_one_thread_beside_many() -> None:
    """The wall clock gains a tenth, the CPU pays eightfold: both are said."""
    pooled = Loaded(seconds=2.04, megabytes=180.0, alone_us=100.0, in_turn_us=4000.0, maps=[])

    expected = "one flat search: 100 us, 100 us of CPU; with 8 threads 90 and 800"
    assert expected == threads({}, 8, Threads(8, ONE, MANY)).costs
    beside_busy = onnx_pool([], Pools(one=ONE, waiting=ONE, spinning=MANY)).costs or ""
    assert beside_busy.endswith("a spinning pool p99 900 us, 800 us of CPU")
    assert "one flat search: 100 us alone, 4,000 us in turn with torch's pool" == openmp_pools([], 8, pooled).costs
    assert "loading it takes 2.0 s and 180 MB" == torch("2.13.0", pooled).costs
    assert "a message there and back: 200 us on asyncio's loop, 90 us on uvloop's" == (
        server_parts([], Exchanges(200.0, 90.0)).costs
    )
    assert "a message there and back: 200 us on asyncio's loop" == server_parts([], Exchanges(200.0, None)).costs


def test_pools_are_named_once_by_whose_they_are() -> None:
    """A library is mapped in several parts; other libraries are none of our business."""
    assert ["faiss_cpu.libs/libgomp-e985.so.1.0.0"] == openmp_names(MAPS)
    assert ["faiss_cpu.libs/libgomp-e985.so.1.0.0", "lib/libgomp-6a29.so.1"] == openmp_names(WITH_TORCH)


def test_the_product_that_is_timed_is_a_valid_model() -> None:
    """Written without the `onnx` package, read by it; rows of ones times ones are the inner size."""
    model = matrix_product()

    onnx.checker.check_model(onnx.load_from_string(model))
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    sizes = {node.name: node.shape for node in session.get_inputs()}
    (product,) = session.run(None, {name: np.ones(size, np.float32) for name, size in sizes.items()})
    assert float(sizes["x"][1]) == product.min() == product.max()
