//! The container engine: podman's or Docker's API over its Unix socket, as far as both are the same.
