"""Who may talk to the workbench."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from calibrae.app._guard import LOOPBACK, Guard

TOKEN = "s3cret"


async def hello(_, receive, send):
    """An application that answers with what it was sent."""
    taken = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        taken += message.get("body", b"")
        if not message.get("more_body"):
            break
    await send(
        {"type": "http.response.start", "status": 200, "headers": [(b"server", b"x"), (b"content-type", b"text/plain")]}
    )
    await send({"type": "http.response.body", "body": b"hello " + taken})


def ask(method="GET", path="/", *, token=None, most=1000, hosts=LOOPBACK, cookies=None, **how):
    """The answer of a guarded application."""

    async def asked():
        transport = httpx.ASGITransport(app=Guard(hello, hosts, token, most))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:4896", cookies=cookies) as client:
            return await client.request(method, path, **how)

    with ThreadPoolExecutor(1) as one:  # a thread of its own: a browser's tests leave a running loop in this one
        return one.submit(asyncio.run, asked()).result()


@pytest.mark.parametrize("host", ["127.0.0.1:4896", "localhost:4896", "[::1]:4896", "LOCALHOST"])
def test_its_own_names_are_answered(host):
    found = ask(headers={"host": host})
    assert found.status_code == 200
    assert "server" not in found.headers
    assert "default-src 'self'" in found.headers["content-security-policy"]
    assert found.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:4896", "", "[", "a@127.0.0.1"[2:] + "x"]
)
def test_other_names_are_refused(host):
    assert ask(headers={"host": host}).status_code == 421


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "http://127.0.0.1:80", "null", "http://127.0.0.1:4896.evil.example"]
)
def test_pages_of_others_are_refused(origin):
    assert ask("POST", headers={"origin": origin}).status_code == 403
    assert ask("GET", headers={"origin": origin}).status_code == 403


def test_its_own_pages_are_answered():
    assert ask("POST", headers={"origin": "http://127.0.0.1:4896"}, content=b"x").text == "hello x"


def test_a_cross_site_post_without_origin_is_refused():
    assert ask("POST", headers={"sec-fetch-site": "cross-site"}).status_code == 403
    assert ask("GET", headers={"sec-fetch-site": "cross-site"}).status_code == 200  # a link that somebody clicked


def test_the_token_is_asked_for_and_becomes_a_cookie():
    assert ask(token=TOKEN).status_code == 401
    assert ask(path="/?token=wrong", token=TOKEN).status_code == 401
    assert ask(token=TOKEN, cookies={"calibrae-token": "wrong"}).status_code == 401
    first = ask(path=f"/?token={TOKEN}", token=TOKEN)
    assert first.status_code == 200
    assert "httponly" in first.headers["set-cookie"].lower()
    assert "samesite=strict" in first.headers["set-cookie"].lower()
    assert ask(token=TOKEN, cookies={"calibrae-token": TOKEN}).status_code == 200


def test_the_size_of_a_request_is_limited_by_what_it_says_and_by_what_comes():
    assert ask("POST", content=b"x" * 1000).status_code == 200
    assert ask("POST", content=b"x" * 1001).status_code == 413

    async def pieces():
        for _ in range(30):
            yield b"x" * 100

    assert ask("POST", content=pieces()).status_code == 413


def test_a_refusal_says_what_to_do_in_a_line():
    text = ask(headers={"host": "evil.example"}).text
    assert text.startswith("calibrae: ")
    assert text.count("\n") == 1


def test_a_right_token_beats_an_old_cookie_and_odd_cookies_of_others():
    old = {"cookie": "calibrae-token=old"}
    assert ask(path=f"/?token={TOKEN}", token=TOKEN, headers=old).status_code == 200
    for others in ('foo={"a": 1}; ', "a b=c; ", "foo; "):
        assert ask(token=TOKEN, headers={"cookie": f"{others}calibrae-token={TOKEN}"}).status_code == 200
