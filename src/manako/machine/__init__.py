"""The doctor: what works on this machine. Every probe is a file, run in a process of its own."""
