//! Stand-ins for secrets managers: real servers on loopback, with a clock to turn, faults to switch
//! on and calls to count. Each is driven by its manager's own official client before it is believed.
#![expect(
    clippy::expect_used,
    reason = "a stand-in that cannot be set up ends its test"
)]

pub mod clock;
pub mod faults;
pub mod ibm;
pub mod log;
pub mod message;
pub mod secret_server;
pub mod server;
pub mod vault;

pub use clock::Clock;
pub use faults::{Fault, Faults};
pub use log::Log;
pub use message::{Request, Response};
pub use server::{Pki, Server};

/// What a stand-in does with a request. One at a time: it is as consistent as its original.
pub trait App: Send + 'static {
    /// Answers one request. `now` is what the stand-in's clock says.
    fn answer(&mut self, request: &Request, now: jiff::Timestamp) -> Response;
}
