# The server's image: `docker build -t evbridge .`. It brings no database: EVBRIDGE_DATABASE_URL names one.

FROM python:3.11-slim AS builder
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1
# Without pip: the builder's own installs into it, and the image needs none.
RUN python -m venv --without-pip /opt/evbridge
WORKDIR /build
COPY requirements.lock requirements-build.lock ./
RUN pip --python /opt/evbridge/bin/python install --require-hashes --requirement requirements.lock
# What builds the wheel stays behind in this stage.
RUN pip install --require-hashes --requirement requirements-build.lock
COPY . .
RUN pip wheel --no-deps --no-build-isolation --wheel-dir /wheel . \
    && pip --python /opt/evbridge/bin/python install --no-deps --no-index /wheel/*.whl

FROM python:3.11-slim
LABEL org.opencontainers.image.title="evbridge" \
      org.opencontainers.image.description="One typed gRPC API for everything an EV-charging company exchanges with its partners" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=builder /opt/evbridge /opt/evbridge
# Nothing is written to disk at run time: the root file system may be read-only.
ENV PATH=/opt/evbridge/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    EVBRIDGE_LISTEN=0.0.0.0:50051
USER 10001:10001
EXPOSE 50051
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s CMD ["evbridge", "health"]
ENTRYPOINT ["evbridge"]
CMD ["serve"]
