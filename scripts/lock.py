"""Rewrites constraints.txt from pyproject.toml: every package but torch and its CUDA parts, with hashes."""

import pathlib
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).parent.parent
HEADER = "# Every package but torch, with hashes. Made by `make lock`; for torch see docs/dependencies.md.\n"
CUDA = re.compile(r"(torch|triton|nvidia-|cuda-)")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        python = f"{folder}/bin/python"
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        subprocess.run([python, "-m", "pip", "install", "-q", "pip-tools==7.6.2"], check=True)
        output = f"{folder}/constraints.txt"
        extras = [f"--extra={name}" for name in ("local", "otel", "dev")]
        quiet = [
            "--no-emit-index-url",
            "--no-emit-trusted-host",
            "--no-emit-find-links",
            "--no-header",
            "--no-annotate",
        ]
        command = [
            python,
            "-m",
            "piptools",
            "compile",
            "-q",
            "--strip-extras",
            "--generate-hashes",
            "--unsafe-package=torch",
        ]
        subprocess.run([*command, *quiet, *extras, "-o", output, "pyproject.toml"], check=True, cwd=ROOT)
        text = pathlib.Path(output).read_text(encoding="utf-8")
    blocks = re.split(r"\n(?=[a-z0-9])", text.split("\n# WARNING")[0].strip())
    kept = [block for block in blocks if not CUDA.match(block)]
    (ROOT / "constraints.txt").write_text(HEADER + "\n".join(kept) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
