"""What people want to know before they train, as data: models, data sets, cautions.

Every figure stands in a TOML file, made to be edited by hand, and names its source.
"""
