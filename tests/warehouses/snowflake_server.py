"""A Snowflake for tests: fakesnow, in its own environment, with the answers that the newer connector also wants.

Added to fakesnow: a master token and lifetimes at login; passwords and key pairs that are really checked; NULL
timestamps; ALTER SESSION (remembered, shown at /test/session); results cut into gzipped chunks of CHUNK rows;
SYSTEM$WAIT, and the two ways to cancel what a session runs.
Usage: python snowflake_server.py PORT PUBLIC_KEY_FILE
"""

import asyncio
import base64
import gzip
import json
import re
import sys
from pathlib import Path

import fakesnow.arrow
import fakesnow.server
import pyarrow as pa
import uvicorn
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding
from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

CHUNK = 10_000
PORT, PUBLIC_KEY = int(sys.argv[1]), serialization.load_pem_public_key(Path(sys.argv[2]).read_bytes())
chunks: dict[str, bytes] = {}
session: dict = {}
waiting: list[asyncio.Event] = []
one_at_a_time = asyncio.Lock()
_plain_struct = fakesnow.arrow.timestamp_to_sf_struct


def with_nulls(ts):
    """fakesnow's struct of a timestamp says 1970 for NULL."""
    ts = ts.combine_chunks() if isinstance(ts, pa.ChunkedArray) else ts
    plain = _plain_struct(ts)
    names = [plain.type.field(i).name for i in range(plain.type.num_fields)]
    return pa.StructArray.from_arrays(plain.flatten(), names=names, mask=ts.is_null())


fakesnow.arrow.timestamp_to_sf_struct = with_nulls


def refused(code, message):
    return JSONResponse({"data": {}, "code": code, "message": message, "success": False})


def good_token(token):
    head, _, signature = token.rpartition(".")
    try:
        PUBLIC_KEY.verify(
            base64.urlsafe_b64decode(signature + "=="), head.encode(), padding.PKCS1v15(), hashes.SHA256()
        )
    except Exception:
        return False
    return True


async def login(request):
    body = await request.body()
    text = gzip.decompress(body) if request.headers.get("Content-Encoding") == "gzip" else body
    data = json.loads(text)["data"]
    session["logins"] = session.get("logins", 0) + 1
    if data.get("AUTHENTICATOR") == "SNOWFLAKE_JWT" and not good_token(data.get("TOKEN", "")):
        return refused("390144", "JWT token is invalid.")
    if data.get("PASSWORD") == "wrong":
        return refused("390100", "Incorrect username or password was specified.")
    if data.get("PASSWORD") == "mfa":
        return refused("390197", "Multi-factor authentication is required for this account.")
    session.update({k.upper(): str(v) for k, v in data.get("SESSION_PARAMETERS", {}).items()})
    answer = json.loads((await fakesnow.server.login_request(request)).body)
    answer["data"] |= {
        "masterToken": "m",
        "sessionId": session["logins"],
        "validityInSeconds": 3600,
        "masterValidityInSeconds": 14400,
    }
    return JSONResponse(answer)


async def query(request):
    body = await request.body()
    text = gzip.decompress(body) if request.headers.get("Content-Encoding") == "gzip" else body
    asked = json.loads(text)
    setting = re.match(r"\s*ALTER\s+SESSION\s+SET\s+(\w+)\s*=\s*'(.*)'\s*$", asked["sqlText"], re.I | re.S)
    if setting:
        session[setting[1].upper()] = setting[2]
        asked["sqlText"] = "SELECT 'Statement executed successfully.' AS status"
    cancelled = re.search(r"SYSTEM\$CANCEL_ALL_QUERIES\((\d+)\)", asked["sqlText"], re.I)
    if cancelled:
        session["cancelled"] = [*session.get("cancelled", []), int(cancelled[1])]
        asked["sqlText"] = f"SELECT '{cancel()} queries cancelled.' AS status"
    wait = re.search(r"SYSTEM\$WAIT\((\d+)\)", asked["sqlText"], re.I)
    if wait:
        asked["sqlText"] = asked["sqlText"].replace(wait[0], "'waited'")
        if not asked.get("describeOnly") and await wait_for_a_cancel(int(wait[1])):
            return refused("000604", "SQL execution canceled")
    request._body = json.dumps(asked).encode()
    request.scope["headers"] = [(k, v) for k, v in request.scope["headers"] if k != b"content-encoding"]
    if hasattr(request, "_headers"):
        del request._headers
    # Two statements of one session at a time are too much for it.
    async with one_at_a_time:
        answer = await fakesnow.server.query_request(request)
    found = json.loads(answer.body)
    data = found.get("data") or {}
    if found.get("success") and data.get("rowsetBase64") and data.get("total", 0) > CHUNK:
        cut(data, str(len(chunks)))
        return JSONResponse(found)
    return answer


async def wait_for_a_cancel(seconds):
    """True when somebody cancelled in that time."""
    mine = asyncio.Event()
    waiting.append(mine)
    try:
        await asyncio.wait_for(mine.wait(), seconds)
    except TimeoutError:
        return False
    finally:
        waiting.remove(mine)
    return True


def cancel():
    for one in waiting:
        one.set()
    return len(waiting)


async def abort(request):
    session["aborted"] = session.get("aborted", 0) + 1
    cancel()
    return JSONResponse({"success": True})


def cut(data, name):
    table = pa.ipc.open_stream(base64.b64decode(data["rowsetBase64"])).read_all()
    data["rowsetBase64"] = base64.b64encode(fakesnow.arrow.to_ipc(table.slice(0, CHUNK))).decode()
    data["chunks"] = []
    for start in range(CHUNK, table.num_rows, CHUNK):
        part = table.slice(start, CHUNK)
        raw = bytes(fakesnow.arrow.to_ipc(part))
        packed = gzip.compress(raw, 1)
        key = f"{name}-{start}"
        chunks[key] = packed
        data["chunks"].append(
            {
                "url": f"http://127.0.0.1:{PORT}/test/chunk/{key}",
                "rowCount": part.num_rows,
                "uncompressedSize": len(raw),
                "compressedSize": len(packed),
            }
        )
    data["chunkHeaders"] = {"x-test": "1"}


async def chunk(request):
    found = chunks.pop(request.path_params["key"], None)
    if found is None:
        return Response(status_code=404)
    return Response(found, headers={"Content-Encoding": "gzip"}, media_type="binary/octet-stream")


routes = [
    Route("/session/v1/login-request", login, methods=["POST"]),
    Route("/queries/v1/query-request", query, methods=["POST"]),
    Route("/test/chunk/{key}", chunk),
    Route("/test/session", lambda _: JSONResponse(session | {"waiting": len(waiting)})),
    Route("/queries/v1/abort-request", abort, methods=["POST"]),
    *fakesnow.server.routes,
]

if __name__ == "__main__":
    uvicorn.run(Starlette(routes=routes), host="127.0.0.1", port=PORT, log_level="warning")
