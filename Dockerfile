# One image for every role: the API (the default), `kingpost migrate`, and any other command.
# Base images are arguments, so that a mirror or an own build can stand in.
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PYTHONDONTWRITEBYTECODE=1
RUN python -m venv /opt/venv
WORKDIR /opt/kingpost
COPY requirements.lock .
RUN /opt/venv/bin/pip install --quiet --require-hashes --no-deps --only-binary :all: -r requirements.lock
# The code beside what it needs, compiled once: the running image cannot write.
COPY . .
RUN printf '#!/bin/sh\nexec /opt/venv/bin/python -m app.cli "$@"\n' > /opt/venv/bin/kingpost \
    && chmod 755 /opt/venv/bin/kingpost \
    && chmod -R a+rX /opt/kingpost \
    && /opt/venv/bin/python -m compileall -q app migrations /opt/venv/lib

FROM ${BASE}
LABEL org.opencontainers.image.title="Kingpost" \
      org.opencontainers.image.description="A production REST API service" \
      org.opencontainers.image.licenses="MIT"
RUN groupadd --gid 10001 kingpost \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin kingpost \
    && install --directory --owner=10001 --group=10001 --mode=0700 /var/lib/kingpost
COPY --from=build /opt/venv /opt/venv
COPY --from=build /opt/kingpost /opt/kingpost
WORKDIR /opt/kingpost
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONPATH=/opt/kingpost \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    ENVIRONMENT=production \
    LOG_FORMAT=json \
    DATA_DIR=/var/lib/kingpost \
    PORT=8000
USER 10001:10001
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen('http://127.0.0.1:' + os.environ['PORT'] + '/health/live', timeout=4)"]
CMD ["gunicorn", "-c", "gunicorn.conf.py", "app.main:app"]
