"""The torch leaf: attention over packs, batches, checkpoints and adapters."""
