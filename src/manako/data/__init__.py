"""Data sets: from any source to one canonical form, and from there into packs in a fixed order.

`convert` reads a source through its format (`formats/`) and hands rows to `writer`; `manifest` says
what a data set's folder holds; `store` reads rows by number; `census` counts. `order`, `schedule`,
`pack` and `loader` turn rows into training steps.
"""
