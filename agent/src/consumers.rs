//! What a node's administrator says about the services on it, and what follows from that: how files
//! look, who hears of a change, when a service may have its secrets at all, and which units get them
//! as systemd credentials.
//!
//! ```text
//! services.d/*.yaml --profiles--> Profiles --+--> delivery    owner, mode, format, templates
//!                                            +--> on_change   after the swap: reload, signal, command
//!                                            +--> lifecycle   there while the unit or container runs
//!                                            +--> credentials LoadCredential= of which units
//!                                            +--> secrets_api which services ask the agent themselves
//! ```

pub(crate) mod credentials;
pub(crate) mod lifecycle;
pub(crate) mod names;
pub(crate) mod on_change;
pub(crate) mod profile;
pub(crate) mod profiles;
pub(crate) mod secrets_api;
