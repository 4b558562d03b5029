"""Verbs: what a person can do. The only room that wires rooms together; each verb is a function.

The command line calls one verb and prints what it returns; Python calls the same function.
"""
