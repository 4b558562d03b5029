"""The laws that every family obeys, one file each; found by looking into this folder."""
