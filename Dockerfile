# An image with pyqik and nothing to run. Build yours on top of it:
#
#     FROM pyqik
#     COPY requirements.txt .
#     USER root
#     RUN pip install --no-cache-dir -r requirements.txt
#     USER pyqik
#     COPY shop shop
#     CMD ["work", "-r", "shop.jobs", "-q", "python"]
FROM python:3.13-slim AS build
WORKDIR /build
COPY pyproject.toml README.md LICENSE ./
COPY pyqik pyqik
RUN python -m venv /opt/pyqik && /opt/pyqik/bin/pip install --no-cache-dir ".[yaml]"

FROM python:3.13-slim
COPY --from=build /opt/pyqik /opt/pyqik
ENV PATH=/opt/pyqik/bin:$PATH PYTHONUNBUFFERED=1 PYQIK_PORT=9394
RUN useradd --create-home --home-dir /app --uid 10001 pyqik
WORKDIR /app
USER pyqik
EXPOSE 9394
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s \
  CMD ["python", "-c", "import os, urllib.request as r; r.urlopen(f'http://127.0.0.1:{os.environ[\"PYQIK_PORT\"]}/healthz')"]
# The exec form: signals reach pyqik itself, and no shell stands between.
ENTRYPOINT ["pyqik"]
CMD ["--help"]
