//! The agent's side of the node protocol: one HTTP/2 connection over mutual TLS 1.3.

pub mod backoff;
mod border;
mod connection;
mod error;
mod timer;
pub mod tls;
mod watch;

#[cfg(test)]
pub(crate) mod fake;

pub(crate) use border::check as check_bindings;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use border::{MAX_DETAIL, tame};
pub use connection::{Connection, Pulled};
pub use error::{HubError, TlsFault};
pub use watch::WatchStream;

#[cfg(test)]
mod tests;
