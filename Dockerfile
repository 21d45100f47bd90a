# The image of API and worker. Data (uploads, passwords of the database logins) lives in the volume /var/lib/geocrm.

FROM node:22-bookworm-slim AS maps
WORKDIR /app/maps
COPY maps/package.json maps/package-lock.json maps/.npmrc ./
RUN npm ci --no-audit --no-fund
COPY maps ./
RUN npm run build

FROM python:3.12-slim-bookworm AS packages
WORKDIR /app
COPY scripts/uv.lock scripts/uv.lock
RUN python -m venv /opt/uv && /opt/uv/bin/pip install --no-cache-dir --require-hashes -r scripts/uv.lock
COPY requirements.lock ./
RUN /opt/uv/bin/uv venv /app/.venv && \
    /opt/uv/bin/uv pip install --no-cache -p /app/.venv/bin/python --require-hashes -r requirements.lock
COPY pyproject.toml README.md ./
COPY geocrm geocrm
RUN /opt/uv/bin/uv pip install --no-cache -p /app/.venv/bin/python --no-deps --no-build-isolation -e .

FROM python:3.12-slim-bookworm
RUN useradd --system --uid 10001 --home-dir /var/lib/geocrm --shell /usr/sbin/nologin geocrm && \
    install -d -o geocrm -g geocrm -m 0700 /var/lib/geocrm
WORKDIR /app
COPY --from=packages /app /app
COPY --from=maps /app/maps/dist maps/dist
COPY --from=maps /app/maps/node_modules/world-atlas maps/node_modules/world-atlas
COPY --from=maps /app/maps/node_modules/us-atlas maps/node_modules/us-atlas
ENV PATH=/app/.venv/bin:$PATH PYTHONUNBUFFERED=1 GEOCRM_HOME=/var/lib/geocrm GEOCRM_HOST=0.0.0.0 PORT=8000
USER geocrm
VOLUME /var/lib/geocrm
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s CMD ["geocrm", "ready"]
CMD ["sh", "-c", "geocrm migrate && exec uvicorn geocrm.api.app:app --host 0.0.0.0 --port \"$PORT\" --no-access-log --no-server-header --no-proxy-headers --timeout-graceful-shutdown 10"]
