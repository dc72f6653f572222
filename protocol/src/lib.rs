//! What the edge-secrets agent and hub say to each other: names, messages and sealing. No I/O.
//!
//! Everything that arrives from outside is parsed into one of these types at the border. A type
//! that holds a value ([`Secret`], [`Token`], [`SealingKey`]) has no `Clone`, `Display` or
//! `Serialize`, and no `Debug` that shows it; `grep expose` lists every place that looks inside.
#![forbid(unsafe_code)]

pub mod binding;
pub mod enroll;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
pub mod limits;
pub mod name;
pub mod node;
pub mod problem;
pub mod routes;
pub mod sealed;
pub mod secret;
pub mod source;
pub mod status;
pub mod watch;

pub use enroll::Token;
pub use name::{
    ConsumerName, DeploymentId, FieldName, Generation, NameError, NodeId, OrgId, PatternChoice,
    PatternId, PatternName, PolicyName, SecretName, SecretVersion, ServiceId, ServiceUrl, UserId,
};
pub use problem::{Code, Problem};
pub use sealed::{PublicKey, Sealed, SealingKey};
pub use secret::{Fields, Secret};
pub use source::Source;
