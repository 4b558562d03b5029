"""Projectors by their sizes: which matrices lie between the vision tower and the decoder, how many
rows each multiplies, and what its rows come from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from manako.plan.activations import LanguageShape, VisionShape
from manako.plan.towers import JOINED, TowerKind, projector_kind, vision_of, whole

Rows = Literal["tokens", "patches", "both"]
Reads = Literal["vision", "own", "latents", "inner"]


@dataclass(frozen=True, kw_only=True)
class Matrix:
    """A linear layer of a projector, `count` times.

    rows: what it multiplies: the picture's vectors, the tower's patches, or both. reads: where its
    rows come from, which decides whether they need a gradient: from the tower as they are, from
    there through something of the projector's own (a norm, vectors put between), from latents, or
    from a matrix in front.
    """

    out: int
    into: int
    count: int = 1
    rows: Rows = "tokens"
    reads: Reads = "inner"

    @property
    def numbers(self) -> int:
        return self.out * self.into * self.count


@dataclass(frozen=True, kw_only=True)
class Projector:
    """matrices: all of it that multiplies. joins: patches along a side that become one vector, the
    last of them filled up. latents: vectors that a resampler makes of each picture
    or piece; they attend to its patches and to themselves, `pair_width` numbers in all layers.
    fills_places: it multiplies every place of a picture, row ends and separators too. others:
    numbers of two or more dimensions that multiply nothing."""

    matrices: tuple[Matrix, ...] = ()
    latents: int = 0
    pair_width: int = 0
    fills_places: bool = False
    others: int = 0
    joins: int = 1

    def shapes(self) -> Iterator[tuple[int, int]]:
        """(out, in) of each matrix."""
        for matrix in self.matrices:
            yield from [(matrix.out, matrix.into)] * matrix.count


def projector_of(
    config: Mapping[str, Any],
    kind: TowerKind | None,
    vision: VisionShape,
    language: LanguageShape,
    text: Mapping[str, Any],
) -> Projector:
    """What a config says of its projector; without matrices where it speaks of none."""
    width, merge = vision.width, whole(vision_of(config), "spatial_merge_size")
    if not width:
        return Projector()
    if merge:
        mergers = 1 + len(vision_of(config).get("deepstack_visual_indexes") or ())
        return _merger(merge**2 * width, language.width, mergers)
    if perceiver := config.get("perceiver_config"):
        return _resampler(perceiver, width, whole(text, "intermediate_size"))
    if (joined := JOINED.get(str(projector_kind(config)))) == 2:
        bare = Projector(joins=joined)
        return _two_layers(bare, joined**2 * width, language.width, reads="own")
    if whole(joining := config.get("projector_config") or {}, "n_embed"):
        bare = Projector(joins=whole(joining, "downsample_ratio") or 2)
        return _two_layers(bare, bare.joins**2 * width, language.width, reads="vision")
    if whole(config, "mm_tokens_per_image"):
        return Projector(matrices=(Matrix(out=language.width, into=width, reads="own"),))
    if kind is not None and kind.pool > 1:
        between = Projector(fills_places=True, others=2 * width)
        return _two_layers(between, width, language.width, reads="own")
    if "projector_hidden_act" in config and "spatial_merge_size" not in config:
        return _two_layers(Projector(), width, language.width, reads="vision")
    if (merge := whole(config, "scale_factor")) and kind is not None:
        shuffled = Matrix(out=language.width, into=merge**2 * width, reads="vision")
        return Projector(matrices=(shuffled,))
    return Projector()


def _merger(merged: int, width: int, count: int) -> Projector:
    """As Qwen2-VL has it, behind a norm; Qwen3-VL has more of them, for layers inside the tower."""
    return Projector(
        matrices=(
            Matrix(out=merged, into=merged, count=count, reads="own"),
            Matrix(out=width, into=merged, count=count),
        )
    )


def _two_layers(bare: Projector, vision: int, language: int, *, reads: Reads) -> Projector:
    """As LLaVA has it, on what the tower gives; Phi-4 puts vectors of its own between."""
    matrices = (
        Matrix(out=language, into=vision, reads=reads),
        Matrix(out=language, into=language),
    )
    return replace(bare, matrices=matrices)


def _resampler(perceiver: Mapping[str, Any], vision: int, ffn: int) -> Projector:
    """A gated MLP on every patch, then layers in which latents look at them (Idefics2,
    transformers 5.24, `models/idefics2/`): of each layer query, key, value, output, gated MLP."""
    width, depth = whole(perceiver, "hidden_size"), whole(perceiver, "resampler_depth")
    latents = whole(perceiver, "resampler_n_latents")
    head = whole(perceiver, "resampler_head_dim")
    query = whole(perceiver, "resampler_n_heads") * head
    key = whole(perceiver, "num_key_value_heads") * head
    if not (width and depth and latents and query and key and ffn):
        return Projector()
    return Projector(
        matrices=(
            Matrix(out=ffn, into=vision, count=2, rows="patches", reads="vision"),
            Matrix(out=width, into=ffn, rows="patches"),
            Matrix(out=query, into=width, reads="latents"),
            Matrix(out=query, into=width, count=depth - 1),
            Matrix(out=key, into=width, count=2 * depth, rows="both"),
            Matrix(out=width, into=query, count=depth),
            Matrix(out=4 * width, into=width, count=2 * depth),
            Matrix(out=width, into=4 * width, count=depth),
        ),
        latents=latents,
        pair_width=query * depth,
        others=latents * width,
    )
