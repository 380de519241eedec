"""The models: each comes out as item vectors and an encoder of histories.

`MODELS` in `contract` names each by a dotted path, so that no room loads torch before it trains. Adding one is a file
and a line.

Other rooms import `contract`, `budget`, `device`, `vectors` and `onnx_encoder`.
"""
