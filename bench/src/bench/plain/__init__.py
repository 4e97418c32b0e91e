"""The plain chain: foo, bar and baz as web services that call each other by HTTP, without any durability.

What most people would write: Flask under gunicorn with the same worker class and as many threads as foo of the durable
chain, and one `requests.Session` that keeps its connections. A module each; `serving` is what they share.
"""
