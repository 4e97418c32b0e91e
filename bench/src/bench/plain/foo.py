"""foo of the plain chain: `POST /foo` is answered with what bar returned, plus 1."""

import secrets

from flask import Flask

from bench.plain.serving import Client, serve

app = Flask(__name__)
client = Client()


@app.post("/foo")
def foo() -> dict[str, str | int]:
    return {"id": f"foo-{secrets.token_hex(8)}", "message": client.call() + 1}


if __name__ == "__main__":
    serve(app)
