# All images; the build context is the repository:
#   docker build --target server .
#   docker build --target foo .
#   docker build --target worker --build-arg SERVICE=bar .
ARG PYTHON_IMAGE=python:3.13-slim@sha256:7c61056e61ac89e852de05f3dc6fa51a6dd2181797bceed46aa725dd7cb2cd3b

FROM ${PYTHON_IMAGE} AS base
RUN useradd --uid 10001 --create-home app
ENV PATH=/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1

# A stand-in from Debian's packages if PostgreSQL's official image cannot be pulled: same user, variables, folder and port.
FROM ${PYTHON_IMAGE} AS postgres
RUN apt-get update --quiet=2 && apt-get install --quiet=2 --yes --no-install-recommends postgresql >/dev/null && \
    rm -rf /var/lib/apt/lists/* /var/lib/postgresql/* && \
    ln -s /usr/lib/postgresql/*/bin /usr/local/postgresql && \
    install --directory --owner=postgres --group=postgres /var/lib/postgresql/data
ENV PATH=/usr/local/postgresql:$PATH \
    PGDATA=/var/lib/postgresql/data
COPY --chmod=755 <<'END' /entrypoint.sh
#!/bin/sh
set -eu
if [ ! -s "$PGDATA/PG_VERSION" ]; then
    echo "$POSTGRES_PASSWORD" >/tmp/password
    initdb --username="$POSTGRES_USER" --pwfile=/tmp/password --auth-host=scram-sha-256 --encoding=UTF8 --locale=C.UTF-8
    rm /tmp/password
    echo "host all all all scram-sha-256" >>"$PGDATA/pg_hba.conf"
    echo "CREATE DATABASE \"$POSTGRES_USER\"" | postgres --single postgres
fi
exec postgres -c listen_addresses='*'
END
USER postgres
STOPSIGNAL SIGINT
EXPOSE 5432
CMD ["/entrypoint.sh"]

# uv and the build backend, in the versions of the lock files. They are not in the final images.
FROM base AS tools
COPY scripts/uv.requirements.lock /locks/
RUN --mount=type=cache,target=/root/.cache/pip \
    python3 -m venv /tools && \
    /tools/bin/pip install --quiet --require-hashes -r /locks/uv.requirements.lock && \
    /tools/bin/uv venv --quiet --python "$(command -v python3)" /venv
ENV PATH=/tools/bin:$PATH \
    UV_LINK_MODE=copy \
    UV_SYSTEM_CERTS=true

FROM tools AS backend
COPY requirements.lock /locks/
RUN --mount=type=cache,target=/root/.cache/uv \
    uv pip install --quiet --python /tools --require-hashes --constraint /locks/requirements.lock \
    "$(grep --only-matching '^hatchling==[^ ]*' /locks/requirements.lock)"

# Dependencies before sources, so that changes to the sources do not rebuild this layer. Services with the same lock file
# share it: its stage does not know the name of the service.
FROM tools AS server-dependencies
COPY resonate-server/requirements.lock /locks/
RUN --mount=type=cache,target=/root/.cache/uv \
    uv pip install --quiet --python /venv --compile-bytecode --require-hashes -r /locks/requirements.lock

FROM scratch AS service-lock
ARG SERVICE=foo
COPY services/${SERVICE}/requirements.lock /

FROM tools AS service-dependencies
COPY --from=service-lock /requirements.lock /locks/
RUN --mount=type=cache,target=/root/.cache/uv \
    uv pip install --quiet --python /venv --compile-bytecode --require-hashes -r /locks/requirements.lock

# Our own packages. A wheel has its own file modes, whatever the umask with which the repository was cloned.
FROM backend AS server-wheels
COPY resonate-server/ /source/
RUN cd /source && hatchling build -t wheel -d /wheels

FROM backend AS service-wheels
ARG SERVICE=foo
COPY worker/ /worker/
COPY services/${SERVICE}/ /service/
RUN for package in /worker /service; do (cd "$package" && hatchling build -t wheel -d /wheels) || exit 1; done

FROM base AS server
COPY --from=server-dependencies /venv /venv
RUN --mount=from=tools,source=/tools,target=/tools --mount=from=server-wheels,source=/wheels,target=/wheels \
    /tools/bin/uv pip install --quiet --python /venv --no-cache --offline --no-deps --compile-bytecode /wheels/*.whl && \
    install --directory --owner=app --group=app /data # a new volume mounted here inherits the owner
ENV RESONATE_STORAGE__SQLITE__PATH=/data/resonate.sqlite
USER app
EXPOSE 8001
# With bash, here and below: Python takes ten times as long to start, and starting the stack waits for these checks.
HEALTHCHECK --interval=15s --timeout=10s --start-period=60s --start-interval=250ms CMD ["bash", "-c", \
    "exec 3<>/dev/tcp/127.0.0.1/8001; printf 'GET /ready HTTP/1.0\\r\\nHost: 127.0.0.1\\r\\n\\r\\n' >&3; read -r _ status _ <&3; [ \"$status\" = 200 ]"]
CMD ["resonate-server", "serve"]

FROM base AS service
COPY --from=service-dependencies /venv /venv
RUN --mount=from=tools,source=/tools,target=/tools --mount=from=service-wheels,source=/wheels,target=/wheels \
    /tools/bin/uv pip install --quiet --python /venv --no-cache --offline --no-deps --compile-bytecode /wheels/*.whl
USER app

FROM service AS foo
EXPOSE 5000
HEALTHCHECK --interval=15s --timeout=10s --start-period=60s --start-interval=250ms CMD ["bash", "-c", \
    "exec 3<>/dev/tcp/127.0.0.1/5000; printf 'GET /health HTTP/1.0\\r\\nHost: 127.0.0.1\\r\\n\\r\\n' >&3; read -r _ status _ <&3; [ \"$status\" = 200 ]"]
CMD ["foo"]

FROM service AS worker
ARG SERVICE
ENV SERVICE=${SERVICE} \
    HEALTH_FILE=/tmp/worker-health
# Healthy while the stream to the server is established: see worker/src/worker/health.py.
HEALTHCHECK --interval=15s --timeout=10s --start-period=60s --start-interval=250ms CMD ["sh", "-c", \
    "find \"$HEALTH_FILE\" -newermt '5 seconds ago' | grep --quiet ."]
CMD ["sh", "-c", "exec \"$SERVICE\""]
