"""The server API as its callers have it: the published package, in protobuf and in JSON."""

import contextlib
import json
import uuid

import aiohttp
from google.protobuf import json_format
from livekit import api
from livekit.api.twirp_client import ServerError, TwirpClient

from conftest import KEY, SECRET


class JsonClient(TwirpClient):
    """The package's client, but with JSON on the wire."""

    async def request(self, service, method, data, headers, response_class, *, timeout=None):
        url = f"{self.host}/{self.prefix}/{self.pkg}.{service}/{method}"
        body = json_format.MessageToJson(data)
        headers = {**headers, "Content-Type": "application/json"}
        async with self._session.post(url, headers=headers, data=body) as response:
            if response.status != 200:
                raise self._server_error(await response.json(), response.status)
            assert response.content_type == "application/json"
            return json_format.Parse(await response.text(), response_class())


@contextlib.asynccontextmanager
async def opened(server, encoding, path=""):
    """The package's `LiveKitAPI`, speaking protobuf or JSON."""
    async with api.LiveKitAPI(server.http + path, KEY, SECRET) as opened:
        if encoding == "json":
            opened.room._client = JsonClient(opened._session, server.http + path, "livekit")
        yield opened


async def error_of(call):
    """The error that a call is answered with: its code, and its HTTP status."""
    try:
        await call
    except ServerError as error:
        assert error.message
        return error.code, error.status
    raise AssertionError("the call was answered without an error")


def bearer(**grants):
    """A caller's header."""
    token = api.AccessToken(KEY, SECRET).with_identity("caller").with_grants(api.VideoGrants(**grants)).to_jwt()
    return {"Authorization": f"Bearer {token}"}


async def post(server, method, body="{}", headers=None, service="livekit.RoomService", verb="POST", path="/twirp"):
    """A call by hand; gives the status, the headers and what the JSON body says."""
    sent = {"Content-Type": "application/json", **(headers or {})}
    url = f"{server.http}{path}/{service}/{method}"
    async with aiohttp.ClientSession() as http, http.request(verb, url, headers=sent, data=body) as response:
        text = await response.text()
        return response.status, response.headers, json.loads(text) if response.content_type == "application/json" else text


def nonce():
    return uuid.uuid4().bytes
