//! The service manager: units over D-Bus, readiness and watchdog (sd_notify(3)), sockets and stored
//! descriptors that it hands over (sd_listen_fds(3)).
