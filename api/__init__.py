"""The HTTP service: recommendations from the live bundle, incoming events, the operators' page, and metrics.

uvicorn calls `app.create_app` in every worker. Nothing outside imports api.
"""
