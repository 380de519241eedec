"""The models: each comes out as item vectors and an encoder of histories.

`MODELS` names each by a dotted path, so that no room loads torch before it trains.

Other rooms import `contract`, `budget`, `vectors` and `onnx_encoder`.
"""
