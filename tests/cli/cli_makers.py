"""What tests of the command line are made of."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

from click.testing import Result

Call = Callable[..., Result]


def row(number: int) -> dict[str, Any]:
    return {
        "id": number,
        "image": f"{number}.png",
        "conversations": [
            {"from": "human", "value": f"<image>\nこれは何番ですか。{number}"},
            {"from": "gpt", "value": f"{number}番です。"},
        ],
    }


def png(width: int, height: int) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.new("RGB", (width, height), "white").save(buffer, format="PNG")
    return buffer.getvalue()
