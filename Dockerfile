# A relay: docker build --tag rejoin . && docker run --network host --volume rejoin:/var/lib/rejoin rejoin
# The relay listens on loopback until there are tokens, so the container shares the host's network.
FROM rust:1-bookworm AS build
WORKDIR /source
COPY . .
RUN cargo build --release --locked --package rejoin-cli

FROM debian:bookworm-slim
RUN useradd --system --home-dir /var/lib/rejoin --create-home --shell /usr/sbin/nologin rejoin
COPY --from=build /source/target/release/rejoin /usr/local/bin/rejoin
USER rejoin
VOLUME /var/lib/rejoin
STOPSIGNAL SIGTERM
ENTRYPOINT ["rejoin"]
CMD ["relay", "--data", "/var/lib/rejoin"]
