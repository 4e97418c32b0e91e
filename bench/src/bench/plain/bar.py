"""bar of the plain chain: `POST /bar` is answered with what baz returned, plus 1."""

from flask import Flask

from bench.plain.serving import Client, serve

app = Flask(__name__)
client = Client()


@app.post("/bar")
def bar() -> dict[str, int]:
    return {"message": client.call() + 1}


if __name__ == "__main__":
    serve(app)
