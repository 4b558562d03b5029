"""One file per model family; `manako.core.family` finds them by looking into this folder."""
