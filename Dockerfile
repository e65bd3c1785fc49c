# The image for users: two static binaries and nothing else. Time zones and root certificates are linked in, so an empty image serves.
# `maxchannel relay` becomes maxchannel-relay, which lies beside it and takes half of the memory.
#
#   docker build -t maxchannel [--build-arg FEATURES=otlp] .
#
# otlp exports traces.
#
# The tests' image is made without an engine: `make image`.
FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
ARG FEATURES=""
# --target, though it is the machine's own: the flag must not reach build scripts and procedural macros, which cannot be static.
RUN target=$(rustc -vV | sed -n 's/^host: //p') \
    && RUSTFLAGS="-C target-feature=+crt-static" cargo build --locked --release --no-default-features --features "$FEATURES" --bin maxchannel --bin maxchannel-relay --target "$target" \
    && cp "target/$target/release/maxchannel" "target/$target/release/maxchannel-relay" /

FROM scratch
COPY --from=build /maxchannel /maxchannel-relay /
# A number, so that Kubernetes can see that it is not root.
USER 65532:65532
# So that `kubectl exec POD -- maxchannel …` finds it.
ENV PATH=/
ENTRYPOINT ["/maxchannel"]
