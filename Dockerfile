# fastPort in a container of nothing else. The programs are linked statically, so there is no distribution
# beneath them; they come from the archive that `make tarball` writes. From a checkout:
#
#   make tarball
#   archive=$(ls -t dist/fastport-*-"$(uname -m)"-unknown-linux-musl.tar.gz | head -n 1)     # the newest
#   rm -rf target/image && mkdir -p target/image
#   tar xz -C target/image --strip-components=1 -f "$archive"
#   docker build -t fastport -f Dockerfile target/image
#   docker run -p 7470:7470 -p 7471:7471 -v fastport:/var/lib/fastport fastport
#
# No certificate authorities are in it: for an uplink over TLS to a central instance that a public one vouches for, lend
# it the host's, which are kept up to date there,
#
#   -v /etc/ssl/certs/ca-certificates.crt:/etc/ssl/certs/ca-certificates.crt:ro
#
# or mount a file of your own and name it in uplink.ca.
#
# `make image` builds it with buildah, runs it, and writes what `docker load` reads. No other engine has built or run it
# yet. tests/package.rs checks that each path it copies is in the archive.
FROM scratch
COPY bin/fastportd bin/fastport /usr/bin/
COPY etc/container.toml /etc/fastport/gateway.toml
# an empty folder that belongs to the daemon, which a new volume takes over
COPY --chown=7470:7470 var/lib/fastport /var/lib/fastport
USER 7470:7470
ENV STATE_DIRECTORY=/var/lib/fastport
VOLUME /var/lib/fastport
EXPOSE 7470 7471
ENTRYPOINT ["/usr/bin/fastportd"]
CMD ["--config", "/etc/fastport/gateway.toml"]
