"""One command for a machine with an accelerator: is everything right there, and how fast is it?

`python -m benchmarks.speed.gpu --out DIR --budget SECONDS` needs torch, transformers and what these
bring, no installation. Its parts run in order of worth; what a part has measured is written as soon
as it is known, so that a run that is cut off keeps it.
"""
