"""Telegram's log-in as OpenID Connect: a real server on loopback that checks what it is asked and signs what it answers."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import time
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import jwt
from aiohttp import BasicAuth, web
from cryptography.hazmat.primitives.asymmetric import rsa


class FakeLogin:
    """The provider. ``claims`` change what it signs; ``key`` and ``kid`` with what."""

    def __init__(self, client_id: str, secret: str) -> None:
        self.client_id, self.secret = client_id, secret
        self.base_url = ""
        self.other = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.key: Any = self.other
        self.kid = "k1"
        self.algorithm = "RS256"
        self.claims: dict[str, Any] = {}
        self.keys_read = 0
        self.status = 200
        self._codes: dict[str, dict[str, str]] = {}

    def agree(self, location: str) -> tuple[str, dict[str, str]]:
        """Let the person agree on the page that a browser was sent to; return the code and what was asked."""
        assert location.startswith(f"{self.base_url}/auth?")
        asked = {name: values[0] for name, values in parse_qs(urlsplit(location).query).items()}
        assert asked["response_type"] == "code" and asked["client_id"] == self.client_id
        assert asked["code_challenge_method"] == "S256" and "openid" in asked["scope"].split()
        code = f"code-{len(self._codes)}"
        self._codes[code] = asked
        return code, asked

    async def _token(self, request: web.Request) -> web.Response:
        if self.status != 200:
            return web.json_response({"error": "server_error"}, status=self.status)
        form = await request.post()
        asked = self._codes.pop(str(form["code"]), None)
        given = BasicAuth.decode(request.headers["Authorization"])
        challenge = base64.urlsafe_b64encode(hashlib.sha256(str(form["code_verifier"]).encode()).digest()).rstrip(b"=")
        if (
            asked is None
            or (given.login, given.password) != (self.client_id, self.secret)
            or form["redirect_uri"] != asked["redirect_uri"]
            or challenge.decode() != asked["code_challenge"]
        ):
            return web.json_response({"error": "invalid_grant"}, status=400)
        now = int(time.time())
        claims = {
            "iss": self.base_url,
            "aud": self.client_id,
            "iat": now,
            "exp": now + 600,
            "nonce": asked["nonce"],
            **self.claims,
        }
        claims = {name: value for name, value in claims.items() if value is not None}
        token = jwt.encode(claims, self.key, self.algorithm, headers={"kid": self.kid})
        return web.json_response({"access_token": "x", "token_type": "Bearer", "id_token": token})

    async def _keys(self, _request: web.Request) -> web.Response:
        self.keys_read += 1
        public = jwt.algorithms.RSAAlgorithm.to_jwk(self.other.public_key(), as_dict=True)
        return web.json_response({"keys": [{**public, "kid": "k1", "use": "sig", "alg": "RS256"}]})


@contextlib.asynccontextmanager
async def open_login(client_id: str, secret: str) -> AsyncIterator[FakeLogin]:
    """Start the provider."""
    fake = FakeLogin(client_id, secret)
    app = web.Application()
    app.router.add_post("/token", fake._token)
    app.router.add_get("/.well-known/jwks.json", fake._keys)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    fake.base_url = f"http://{host}:{port}"
    try:
        yield fake
    finally:
        await runner.cleanup()
