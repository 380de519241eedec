"""`create_app`: the routes, the errors, and the lifespan of a worker. uvicorn calls it once in every worker."""

import json
import logging
import multiprocessing
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio.to_thread
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from api import problems
from api.admission import Admission
from api.auth import KeyAuth
from api.live import Live
from api.middleware import Middleware
from api.request_log import RequestLog
from api.routes import (
    boxes,
    campaigns,
    docs,
    events,
    health,
    history,
    items,
    page,
    placements,
    propensity,
    requests,
    runs,
    status,
    users,
)
from api.routes import recommendations as recommend
from api.state import AppState
from recsys.config.loading import load_config
from recsys.config.settings import Config
from recsys.process import end_with_parent
from recsys.store.resilient import ResilientStore

CONFIG = "RECSYS_CONFIG"  # environment variable that names the configuration file; `recsys serve` sets it
_SPARE_CONNECTIONS = 2  # for the threads that watch the database and the bundle


def create_app(config: Config | None = None) -> FastAPI:
    """Create the service. Without a configuration, the file that RECSYS_CONFIG names is read.

    Nothing is opened before the process starts to serve. Raises ConfigError.
    """
    _end_with_server()
    config = config or load_config(Path(os.environ.get(CONFIG, "recsys.toml")))
    logging.getLogger("recsys").setLevel(logging.INFO)
    settings = config.api
    store = ResilientStore(
        config.store, patience_seconds=settings.database_timeout_seconds, size=settings.threads + _SPARE_CONNECTIONS
    )
    auth = KeyAuth(settings.host)
    state = AppState(config, store, Live(config, store), auth, RequestLog(config.requests, store))

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        anyio.to_thread.current_default_thread_limiter().total_tokens = settings.threads
        state.start()
        await anyio.to_thread.run_sync(state.settle)
        yield
        state.stop()

    app = FastAPI(
        title="recsys",
        version="1",
        lifespan=lifespan,
        openapi_url=None,
        redirect_slashes=False,
        generate_unique_id_function=lambda route: route.name,  # the names of the methods of generated clients
    )
    app.state.shared, app.state.auth = state, auth
    rooms = (
        recommend,
        boxes,
        placements,
        items,
        events,
        users,
        history,
        propensity,
        campaigns,
        requests,
        status,
        runs,
        health,
        page,
        docs,
    )
    for room in rooms:
        app.include_router(room.router)
    app.state.routes = [route for room in rooms for route in room.router.routes]
    problems.install(app)
    admission = Admission(threads=settings.threads, max_wait_seconds=settings.max_wait_seconds)
    app.add_middleware(Middleware, max_body_bytes=settings.max_body_bytes, admission=admission)
    _document(app, list(config.events.weights), list(config.events.returns))
    return app


def _end_with_server() -> None:
    """End with the process that started this one as one of several workers, even when that is killed by SIGKILL.

    A worker that lived on would answer from the port that the next start needs, and nobody could stop it.
    """
    parent = multiprocessing.parent_process()
    if parent is not None and sys.platform == "linux":
        end_with_parent(str(parent.pid))


def _say_defaults(shape: dict[str, Any]) -> None:
    """Move the defaults of a schema into its descriptions: generators of clients demand what has one."""
    for about in shape.get("properties", {}).values():
        default = about.pop("default", None)
        if default not in (None, [], {}):
            words = [about.get("description"), f"Unset: {json.dumps(default)}"]
            about["description"] = ". ".join(word for word in words if word)


def _document(app: FastAPI, kinds: list[str], returns: list[str]) -> None:
    """Complete the OpenAPI document: problem responses, bearer keys, and the kinds of events."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = get_openapi(title=app.title, version=app.version, routes=app.routes)
            schemas = schema["components"]["schemas"]
            for name, shape in problems.schemas().items():
                schemas[name] = shape
            schemas.pop("HTTPValidationError", None)
            schemas.pop("ValidationError", None)
            schemas["Event"]["properties"]["kind"]["examples"] = kinds + returns
            schemas["PastEvent"]["properties"]["kind"]["examples"] = kinds
            for shape in schemas.values():
                _say_defaults(shape)
            schema["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
            schema["security"] = [{}, {"key": []}]
            app.openapi_schema = schema
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]
