//! What every manager must do, whatever it is: one suite over all of them, run against stand-ins and,
//! where the environment names one, against the real thing.
//!
//! A manager is tested through a [`World`]: its backend, and hands to change things behind its back.

mod faults;
mod leases;
mod listing;
mod values;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use edge_secrets_protocol::{Fields, OrgId, Secret};

use crate::{Description, Effect, Fault, Kind, ManagerError, SecretManager, SecretRef, Target};

/// How long the clients of these suites wait for an answer: far longer than many of them at once need on a
/// busy machine, and short enough to wait for it in vain.
#[cfg(test)]
pub(crate) const PATIENCE: Duration = Duration::from_secs(4);

/// What a manager as a whole can suffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// Nothing listens: connections are closed at once.
    Drop,
    /// It never answers.
    Hang,
    /// A page for people, with status 200.
    Html,
    /// Answers break off.
    Truncated,
    /// Answers do not end.
    Huge,
    /// JSON of another shape.
    WrongTypes,
    /// It wants fewer calls, and to be asked again in 7 s.
    RateLimited,
    /// It fails with status 500 and a body that quotes what it was asked, and a value.
    Broken,
    /// It is sealed or in maintenance.
    Closed,
    /// The hub's token has died, once: a new login works.
    TokenDied,
    /// The hub is not let in, whatever it tries.
    LockedOut,
}

/// A manager with its surroundings. Every world is a fresh one.
#[async_trait]
pub trait World: Send + Sync {
    /// Its kind.
    fn kind(&self) -> Kind;

    /// The backend under test, with a timeout of at most a second.
    fn manager(&self) -> Arc<dyn SecretManager>;

    /// The organisation whose secrets are seeded.
    fn org(&self) -> OrgId {
        "myorg".parse().expect("an organisation")
    }

    /// A secret with effect `Pure` whose fields are these: `key` is `basicauth`, `value` is
    /// [`CANARY`]; and its reference.
    fn pure(&self) -> SecretRef;

    /// A reference that could be there and is not.
    fn absent(&self) -> SecretRef;

    /// What the manager says of [`absent`](Self::absent).
    fn absence(&self) -> Fault {
        Fault::Missing
    }

    /// References that this manager must refuse without asking anybody, with a word of the reason.
    fn refused(&self) -> Vec<(&'static str, &'static str)>;

    /// A secret whose reads have an effect, with that effect; absent where this kind has none.
    fn leased(&self) -> Option<(SecretRef, Effect)>;

    /// Gives the pure secret another value, behind the hub's back: `value` becomes this.
    async fn rotate(&self, value: &str);

    /// Removes the pure secret behind the hub's back. `false` where the kind cannot be made to.
    async fn remove(&self) -> bool;

    /// How many times a value was given out so far, a minting one included.
    fn values_given(&self) -> Option<usize>;

    /// How many credentials were made, or secrets taken, so far.
    fn minted(&self) -> Option<usize>;

    /// Whether the credential or checkout of this payload still works at its target.
    async fn works(&self, minted: &Secret) -> Option<bool>;

    /// Turns the manager's clock forward; `false` where that is not possible.
    fn advance(&self, by: Duration) -> bool;

    /// Brings trouble over every call but those that the world itself makes; `false` where this kind
    /// or this world cannot have it.
    fn trouble(&self, trouble: Trouble) -> bool;

    /// Loses the answer to the one call that makes a credential or takes a secret, while those before
    /// it are answered; `false` where this world cannot.
    fn lose_mint(&self) -> bool {
        self.trouble(Trouble::Hang)
    }

    /// Ends all trouble.
    fn heal(&self);
}

/// Runs every case, each over a world of its own.
pub async fn run<W: World, F: AsyncFn() -> W>(make: F) {
    values::run(&make).await;
    listing::run(&make).await;
    leases::run(&make).await;
    faults::run(&make).await;
}

/// What the pure secret's `value` is; no error and no `Debug` may show it.
pub const CANARY: &str = "canary-5d1f-value";

async fn describe(world: &impl World, reference: &SecretRef) -> Result<Description, ManagerError> {
    let org = world.org();
    let target = Target {
        org: &org,
        reference,
    };
    world.manager().describe(target).await
}

/// The field `value` of a payload.
fn value_of(payload: &Secret) -> String {
    let fields = Fields::decode(payload.expose()).expect("a payload");
    let value = fields.expose_value().expect("a value");
    String::from_utf8(value.to_vec()).expect("text")
}

fn expect_no_value(shown: &str) {
    assert!(!shown.contains("canary"), "a value is shown: {shown}");
}
