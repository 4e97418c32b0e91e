"""baz of the plain chain: `POST /baz` is answered with 1."""

from flask import Flask

from bench.plain.serving import serve

app = Flask(__name__)


@app.post("/baz")
def baz() -> dict[str, int]:
    return {"message": 1}


if __name__ == "__main__":
    serve(app)
