"""The plan: what a run will need, by arithmetic alone, before anything is spent.

Four ideas, one file each: `inventory` (which weights there are, and what the recipe does with each),
`activations` (what the forward pass keeps for the backward pass), `packs` (how a sample of rows
falls into packs), `plan` (memory, steps, time and disk as one value). No torch, no checkpoint: the
verb reads the folder and hands in numbers, so every figure can be tested against a known model.
"""
