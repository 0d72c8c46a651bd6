"""bf16 where the processor has instructions for it, told by what Linux says of it."""

from pathlib import Path

import pytest

from students.processor import dtype_on


@pytest.mark.parametrize(
    ("told", "dtype"),
    [
        ("flags\t\t: fpu avx2 avx512f avx512_bf16 sha_ni\n", "bfloat16"),
        ("flags\t\t: fpu avx512f amx_bf16 amx_tile\n", "bfloat16"),
        ("Features\t: fp asimd i8mm bf16 dgh\n", "bfloat16"),
        ("flags\t\t: fpu avx2 avx512f avx512_vnni\n", "float32"),
        ("Features\t: fp asimd\n", "float32"),
    ],
)
def test_by_its_flags(tmp_path: Path, told: str, dtype: str) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor\t: 0\n" + told)
    assert dtype_on("cpu", cpuinfo) == dtype
    assert dtype_on("cuda", cpuinfo) == "bfloat16"


def test_where_nothing_tells(tmp_path: Path) -> None:
    assert dtype_on("cpu", tmp_path / "none") == "float32"
