"""DELETE /v1/users/{user_id}: delete a user."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Request
from pydantic import BaseModel, Field

from api.auth import needs
from api.problems import documented
from api.schemas import Id, JsonRoute
from api.state import state_of
from recsys.data.times import rfc3339
from recsys.store import users
from recsys.store.database import Store

router = APIRouter(route_class=JsonRoute, tags=["users"])


class Receipt(BaseModel):
    """What was deleted now, and what the next training deletes."""

    request_id: str
    user_id: str
    deleted_at: str = Field(description="Events up to this time no longer count", examples=["2026-11-23T08:00:00Z"])
    events: int = Field(description="Events of the own tables that were removed", examples=[12])
    files: str = Field(examples=["left out of every answer now; the next training rewrites the extract without them"])


@router.delete(
    "/v1/users/{user_id:id}",
    response_model=Receipt,
    responses=documented(400, 401, 403, 422, 503),
    dependencies=[Depends(needs("admin"))],
)
def delete_user(user_id: Annotated[Id, Path()], request: Request) -> dict[str, Any]:
    """Delete a user: from every answer at once, and from the files with the next training. Twice is no error."""
    state = state_of(request)

    def delete(store: Store) -> tuple[int, int]:
        now = store.now()
        return now, users.delete_user(store, user_id, now=now)

    deleted_at, events = state.store.write(delete)
    state.deleted = {**state.deleted, user_id: deleted_at}
    return {
        "request_id": request.state.request_id,
        "user_id": user_id,
        "deleted_at": rfc3339(deleted_at),
        "events": events,
        "files": "left out of every answer now; the next training rewrites the extract without them",
    }
