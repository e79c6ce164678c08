# syntax=docker/dockerfile:1
# Images of Vigil. They need BuildKit (export DOCKER_BUILDKIT=1 where the engine is older than 23). Build one role each:
#   docker build --target node       -t vigil-node:0.1.0 .
#   docker build --target api        -t vigil-api:0.1.0 .
#   docker build --target worker     -t vigil-worker:0.1.0 .       # infers on the CPU, or delivers
#   docker build --target worker-gpu -t vigil-worker-gpu:0.1.0 .   # needs the NVIDIA container toolkit
#   docker build --target training   -t vigil-training:0.1.0 .     # trains models; never where studies are scored
# The database is the site's own: the embedded PostgreSQL, which carries a GPL readline, is in none of them, and
# torch only in the last one. Each holds its SBOM and licence list, sbom.cdx.json and LICENSES.txt, in
# /usr/share/doc/vigil.

# Vigil as a wheel: code, pages, migrations and the shipped model.
FROM python:3.11-slim-bookworm AS assets
WORKDIR /source
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_CONSTRAINT=/source/constraints.txt
COPY constraints.txt pyproject.toml README.md LICENSE NOTICE ./
COPY models models
COPY dicom_node dicom_node
COPY service service
RUN pip wheel --no-deps --wheel-dir /wheels .

# What every role needs, and the user that runs it.
FROM python:3.11-slim-bookworm AS installed
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN groupadd --gid 10001 vigil \
 && useradd --uid 10001 --gid 10001 --no-create-home --shell /usr/sbin/nologin vigil \
 && install --directory --owner=vigil --group=vigil --mode=0700 /var/lib/vigil
COPY constraints.txt LICENSE NOTICE /usr/share/doc/vigil/
RUN --mount=type=bind,from=assets,source=/wheels,target=/wheels \
    pip install --constraint /usr/share/doc/vigil/constraints.txt "$(echo /wheels/*.whl)[s3,traces]"
ENV VIGIL_DATA=/var/lib/vigil
WORKDIR /var/lib/vigil

# ONNX Runtime for CUDA in place of that for the CPU, with NVIDIA's libraries from its own packages. For TensorRT
# name the package of the version that this ONNX Runtime was made for: --build-arg TENSORRT=tensorrt-cu13-libs==...
FROM installed AS installed-gpu
ARG TENSORRT=""
COPY constraints-gpu.txt /usr/share/doc/vigil/
# The versions stand in the two files.
# hadolint ignore=DL3013
RUN pip uninstall --yes onnxruntime \
 && pip install --constraint /usr/share/doc/vigil/constraints.txt \
      --constraint /usr/share/doc/vigil/constraints-gpu.txt \
      "onnxruntime-gpu[cuda,cudnn]" ${TENSORRT:+"$TENSORRT"} \
 && find "$(python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" \
      \( -path '*/nvidia/*' -o -path '*/tensorrt_libs/*' \) -name '*.so*' -printf '%h\n' \
      >/etc/ld.so.conf.d/vigil-gpu.conf \
 && ldconfig

# What trains and exports models.
FROM installed AS installed-training
RUN --mount=type=bind,from=assets,source=/wheels,target=/wheels \
    pip install --constraint /usr/share/doc/vigil/constraints.txt "$(echo /wheels/*.whl)[making]"

# The bills, made where nothing else stays.
FROM installed AS bill
COPY deploy/image/bill /bill
RUN /bill /usr/local/bin/python /made

FROM installed-gpu AS bill-gpu
COPY deploy/image/bill /bill
RUN /bill /usr/local/bin/python /made

FROM installed-training AS bill-training
COPY deploy/image/bill /bill
RUN /bill /usr/local/bin/python /made

FROM installed AS base
COPY --from=bill /made /usr/share/doc/vigil/
VOLUME /var/lib/vigil
USER 10001:10001
ENTRYPOINT ["vigil"]

FROM base AS node
# Inside a container loopback reaches nobody; what is published decides who comes in, and the peers file who is answered.
ENV VIGIL_HOST=0.0.0.0
EXPOSE 11112
# By the port for metrics where there is one: with TLS a bare connection is a failed handshake, told in the log each time.
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s \
    CMD ["python", "-c", "import os, socket; socket.create_connection(('127.0.0.1', int(os.environ.get('VIGIL_NODE_METRICS_PORT') or os.environ.get('VIGIL_PORT', 11112))), 3)"]
CMD ["node"]

FROM base AS api
# People sign in, over plain HTTP: publish this port to a proxy with TLS alone.
ENV VIGIL_API_HOST=0.0.0.0
EXPOSE 8080
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s \
    CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen(f\"http://127.0.0.1:{os.environ.get('VIGIL_API_PORT', 8080)}/healthz\", timeout=3)"]
CMD ["api"]

FROM base AS worker
# Each pool has its port for metrics, on loopback unless VIGIL_METRICS_HOST says otherwise. One that answers lives; a
# worker that loses its database ends by itself, and the restart policy brings it back.
ENV VIGIL_WORKER_METRICS_PORT=9102 VIGIL_DELIVER_METRICS_PORT=9103
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s --retries=5 \
    CMD ["python", "-c", "import os, socket, sys; ports = [int(os.environ[f'VIGIL_{pool}_METRICS_PORT']) for pool in ('WORKER', 'DELIVER')]; sys.exit(all(socket.socket().connect_ex(('127.0.0.1', port)) for port in ports))"]
CMD ["worker", "--pool", "infer"]

FROM installed-gpu AS worker-gpu
COPY --from=bill-gpu /made /usr/share/doc/vigil/
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    VIGIL_WORKER_METRICS_PORT=9102
VOLUME /var/lib/vigil
USER 10001:10001
# The first start with TensorRT builds its engines, which takes minutes; metrics are answered meanwhile.
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s --retries=5 \
    CMD ["python", "-c", "import os, socket; socket.create_connection(('127.0.0.1', int(os.environ['VIGIL_WORKER_METRICS_PORT'])), 5)"]
ENTRYPOINT ["vigil"]
CMD ["worker", "--pool", "infer"]

FROM installed-training AS training
COPY --from=bill-training /made /usr/share/doc/vigil/
VOLUME /var/lib/vigil
USER 10001:10001
HEALTHCHECK NONE
ENTRYPOINT ["vigil"]
CMD ["models", "train", "--help"]
