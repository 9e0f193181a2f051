"""An API for agents: a key signs itself up, searches until its budget is spent, and its owner may revoke it.
A search costs a cent for each result that it asks for.

    DATABASE_URL=... PORT=3000 python app.py
"""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any, Union

import uvicorn
from fastapi import Depends, FastAPI, Response
from fastapi.responses import JSONResponse

from pyagentkey import AsyncAgentKey, Grant
from pyagentkey.fastapi import RESPONSES, create_router, presented_key, require_key

ak = AsyncAgentKey(os.environ["DATABASE_URL"], valid_scopes=["search"], ledger=True)
Searcher = Annotated[Grant, Depends(require_key(ak, scope="search"))]
Key = Annotated[str, Depends(presented_key)]


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    async with ak:
        await ak.migrate()
        yield


app = FastAPI(title="Search", lifespan=lifespan)
app.include_router(
    create_router(
        ak, signup_scopes=["search"], signup_budget=(50, "day"), signup_max_expires_in="7d", signup_rate_limit=100
    )
)


@app.get("/search", responses=RESPONSES, response_model=None)
async def search(_: Searcher, key: Key, limit: int = 3) -> Union[Response, dict[str, Any]]:
    if not 1 <= limit <= 10:
        return JSONResponse({"error": "limit must be 1 to 10"}, 400)
    usage = await ak.track_usage(key, limit)
    if not usage:
        return JSONResponse({"error": usage.reason}, 429)
    return {"found": ["a result"] * limit, "remainingCents": usage.budget_remaining_cents}


class Server(uvicorn.Server):
    """Says when it listens, and where: PORT may be 0."""

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        if self.started:
            print(f"listening on {self.servers[0].sockets[0].getsockname()[1]}", flush=True)


if __name__ == "__main__":
    port = int(os.environ.get("PORT", "3000"))
    asyncio.run(Server(uvicorn.Config(app, host="0.0.0.0", port=port, log_level="warning")).serve())
