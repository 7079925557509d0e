# Cross-compile on the build platform instead of emulating the target.
FROM --platform=$BUILDPLATFORM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG TARGETOS
ARG TARGETARCH
ARG VERSION=0.0.0-dev
ARG REVISION=unknown
ARG BRANCH=unknown
ARG BUILD_DATE=1970-01-01T00:00:00Z
RUN CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH go build -trimpath -buildvcs=false -ldflags "-s -w \
      -X github.com/prometheus/common/version.Version=$VERSION \
      -X github.com/prometheus/common/version.Revision=$REVISION \
      -X github.com/prometheus/common/version.Branch=$BRANCH \
      -X github.com/prometheus/common/version.BuildUser=docker \
      -X github.com/prometheus/common/version.BuildDate=$BUILD_DATE" \
      -o /azure-secure-score-exporter .

# CA certificates and a nonroot user, no shell
FROM gcr.io/distroless/static-debian13:nonroot
ARG VERSION=0.0.0-dev
ARG REVISION=unknown
ARG BUILD_DATE=1970-01-01T00:00:00Z
LABEL org.opencontainers.image.title="azure-secure-score-exporter" \
      org.opencontainers.image.description="Prometheus exporter for the secure score of Microsoft Defender for Cloud" \
      org.opencontainers.image.source="https://github.com/azure-secure-score-exporter/azure-secure-score-exporter" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION" \
      org.opencontainers.image.created="$BUILD_DATE" \
      org.opencontainers.image.base.name="gcr.io/distroless/static-debian13:nonroot"
COPY LICENSE /LICENSE
COPY --from=build /azure-secure-score-exporter /azure-secure-score-exporter
# runAsNonRoot needs a numeric user.
USER 65532:65532
EXPOSE 10060
ENTRYPOINT ["/azure-secure-score-exporter"]
