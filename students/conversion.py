"""From a base's source to a folder of safetensors, in a process of its own: `python -m students.conversion FROM TO`."""

import sys
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from students import tiny


def from_gguf(path: Path, folder: Path) -> None:
    """A GGUF file's weights in bf16, with the tokenizer and chat template that it carries.

    `save_pretrained` refuses a model that was loaded from GGUF: its weights go into a fresh model of the same
    configuration, less the quantisation.
    """
    source = {"gguf_file": path.name, "local_files_only": True}
    loaded: Any = AutoModelForCausalLM.from_pretrained(path.parent, dtype=torch.float32, **source)
    config = loaded.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    fresh = AutoModelForCausalLM.from_config(config)
    fresh.load_state_dict(loaded.state_dict())
    fresh.to(torch.bfloat16).save_pretrained(folder)
    AutoTokenizer.from_pretrained(path.parent, **source).save_pretrained(folder)


if __name__ == "__main__":
    target = Path(sys.argv[2])
    if sys.argv[1] == "tiny":
        tiny.make(target)
    else:
        from_gguf(Path(sys.argv[1]), target)
