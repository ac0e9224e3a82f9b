# The binary, which `make image` builds first, on a base that has glibc: NVIDIA's driver library needs
# it. For a binary of `make build-nogpu`, BASE=scratch will do.
ARG BASE=gcr.io/distroless/base-debian12
FROM ${BASE}
LABEL org.opencontainers.image.title="defib" \
      org.opencontainers.image.description="Keeps the containers of one Docker host alive" \
      org.opencontainers.image.source="https://github.com/defib-dev/defib" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY bin/defib /defib
HEALTHCHECK --interval=15s --timeout=5s --start-period=30s --retries=3 CMD ["/defib", "healthcheck"]
ENTRYPOINT ["/defib"]
CMD ["run"]
