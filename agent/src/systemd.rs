//! The service manager: units over D-Bus, readiness and watchdog (sd_notify(3)), sockets and stored
//! descriptors that it hands over (sd_listen_fds(3)).
//!
//! ```text
//! Manager --+-- reload, restart, signal, run    a short connection for each (jobs, command)
//!           +-- watch                           one connection that lives as long as it watches
//!                 both over Session: one stream of signals and answers, in the order of the bus
//! ```

pub(crate) mod activation;
mod command;
mod error;
pub(crate) mod manager;
pub(crate) mod notify;
mod session;
mod watch;

#[cfg(test)]
mod fake;
