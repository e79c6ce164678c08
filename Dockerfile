# syntax=docker/dockerfile:1
# Images of Vigil, CPU only. Build one role each:
#   docker build --target node   -t vigil-node:0.1.0 .
#   docker build --target api    -t vigil-api:0.1.0 .
#   docker build --target worker -t vigil-worker:0.1.0 .
# The database is the site's own: the embedded PostgreSQL and torch are in none of them.

# Vigil as a wheel: code, pages, migrations and the shipped model.
FROM python:3.11-slim-bookworm AS assets
WORKDIR /source
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_CONSTRAINT=/source/constraints.txt
COPY constraints.txt pyproject.toml README.md LICENSE NOTICE ./
COPY models models
COPY dicom_node dicom_node
COPY service service
RUN pip wheel --no-deps --wheel-dir /wheels .

# What every role needs, run by an ordinary user.
FROM python:3.11-slim-bookworm AS base
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN groupadd --gid 10001 vigil \
 && useradd --uid 10001 --gid 10001 --no-create-home --shell /usr/sbin/nologin vigil \
 && install --directory --owner=vigil --group=vigil --mode=0700 /var/lib/vigil
COPY constraints.txt LICENSE NOTICE /usr/share/doc/vigil/
RUN --mount=type=bind,from=assets,source=/wheels,target=/wheels \
    pip install --constraint /usr/share/doc/vigil/constraints.txt "$(echo /wheels/*.whl)[s3]"
ENV VIGIL_DATA=/var/lib/vigil
VOLUME /var/lib/vigil
WORKDIR /var/lib/vigil
USER 10001:10001
ENTRYPOINT ["vigil"]

FROM base AS node
# Inside a container loopback reaches nobody; what is published decides who comes in, and the peers file who is answered.
ENV VIGIL_HOST=0.0.0.0
EXPOSE 11112
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s \
    CMD ["python", "-c", "import os, socket; socket.create_connection(('127.0.0.1', int(os.environ.get('VIGIL_PORT', 11112))), 3)"]
CMD ["node"]

FROM base AS api
# There is no sign-in: publish this port to an authenticating proxy alone.
ENV VIGIL_API_HOST=0.0.0.0
EXPOSE 8080
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s \
    CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen(f\"http://127.0.0.1:{os.environ.get('VIGIL_API_PORT', 8080)}/healthz\", timeout=3)"]
CMD ["api"]

FROM base AS worker
# A worker listens nowhere. It ends when it loses its database; the restart policy brings it back, and
# /readyz of the API tells how many work.
HEALTHCHECK NONE
CMD ["worker", "--pool", "infer"]
