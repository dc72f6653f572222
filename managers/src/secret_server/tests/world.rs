//! The suite over all managers.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use edge_secrets_fakes::Fault as Trick;
use edge_secrets_fakes::Response;
use edge_secrets_fakes::secret_server::{Item, SecretServer as Fake};
use edge_secrets_protocol::Secret;
use serde_json::json;

use super::{Allow, Pim, field, reference};
use crate::conformance::{self, CANARY, Trouble, World};
use crate::{Effect, Fault, Kind, SecretManager, SecretRef};

struct Pure {
    pim: Pim,
    pure: u64,
    leased: u64,
}

impl Pure {
    async fn new() -> Self {
        let mut fake = Fake::new();
        let items = [
            Item::text("key", "basicauth"),
            Item::password("value", CANARY),
        ];
        let pure = fake.add("Team/Sub", "db", &items);
        let leased = fake.add("Team/Sub", "root", &super::login());
        let secret = fake.secret(leased);
        secret.checkout = Some(Duration::from_secs(30 * 60));
        secret.changes_at_check_in = true;
        let allow = Allow {
            comment: None,
            checkout: true,
        };
        Self {
            pim: Pim::allowing(fake, allow).await,
            pure,
            leased,
        }
    }
}

#[async_trait]
impl World for Pure {
    fn kind(&self) -> Kind {
        Kind::SecretServer
    }

    fn manager(&self) -> Arc<dyn SecretManager> {
        Arc::clone(&self.pim.manager) as Arc<dyn SecretManager>
    }

    fn pure(&self) -> SecretRef {
        reference("Team/Sub/db")
    }

    fn absent(&self) -> SecretRef {
        reference("Team/Sub/absent")
    }

    fn absence(&self) -> Fault {
        Fault::NotFoundOrDenied
    }

    fn refused(&self) -> Vec<(&'static str, &'static str)> {
        vec![
            ("pim:id/x", "number"),
            ("pim:id/1/2", "number"),
            ("pim:user/alice/db", "users or nodes"),
            ("pim:node/edge-01/db", "users or nodes"),
        ]
    }

    fn leased(&self) -> Option<(SecretRef, Effect)> {
        Some((reference("Team/Sub/root"), Effect::Exclusive))
    }

    async fn rotate(&self, value: &str) {
        let now = self.pim.server.clock.now();
        let id = self.pure;
        self.pim
            .server
            .with(|fake| fake.rotate(id, "value", value, now));
    }

    async fn remove(&self) -> bool {
        let id = self.pure;
        self.pim.server.with(|fake| fake.secret(id).active = false);
        true
    }

    fn values_given(&self) -> Option<usize> {
        Some(self.pim.server.with(|fake| fake.values_given))
    }

    fn minted(&self) -> Option<usize> {
        Some(self.pim.server.with(|fake| fake.checkouts))
    }

    async fn works(&self, minted: &Secret) -> Option<bool> {
        let password = field(minted, "password");
        let id = self.leased;
        self.pim.server.with(|fake| {
            let secret = fake.secret(id);
            let current = secret.items.iter().any(|item| item.shown() == password);
            Some(current && secret.is_ours())
        })
    }

    fn advance(&self, by: Duration) -> bool {
        self.pim.server.clock.advance(by);
        true
    }

    fn trouble(&self, trouble: Trouble) -> bool {
        let server = &self.pim.server;
        let trick = match trouble {
            Trouble::Drop => Trick::Drop,
            Trouble::Hang => Trick::Hang,
            Trouble::Html => Trick::Html,
            Trouble::Truncated => Trick::Truncated,
            Trouble::Huge => Trick::Huge,
            Trouble::WrongTypes => Trick::WrongTypes,
            Trouble::RateLimited => {
                let body = json!({"message": "Too many requests"});
                Trick::Answer(Response::json(429, &body).with("retry-after", "7"))
            }
            Trouble::Broken => Trick::Answer(Response::json(
                500,
                &json!({"message": CANARY, "exceptionMessage": CANARY, "stackTrace": CANARY}),
            )),
            Trouble::Closed => Trick::Answer(Response::empty(503)),
            Trouble::TokenDied => {
                server.with(Fake::end_tokens);
                return true;
            }
            Trouble::LockedOut => {
                server.with(|fake| {
                    fake.locked = true;
                    fake.end_tokens();
                });
                return true;
            }
        };
        server.faults.always(trick);
        true
    }

    fn lose_mint(&self) -> bool {
        let server = &self.pim.server;
        // It is free, so that it is asked for.
        let id = self.leased;
        server.with(|fake| fake.secret(id).checked_out = None);
        let taking = |request: &edge_secrets_fakes::Request| request.path.ends_with("/check-out");
        server.faults.when(taking, Trick::LoseAnswer);
        true
    }

    fn heal(&self) {
        self.pim.server.faults.heal();
        self.pim.server.with(|fake| fake.locked = false);
    }
}

#[tokio::test]
async fn it_is_as_every_manager_is() {
    conformance::run(Pure::new).await;
}
