//! The conformance suite over the stand-in.

use edge_secrets_fakes::{Fault as Wrong, Response};

use super::*;
use crate::conformance::{self, CANARY, Trouble, World};

struct Standing {
    bench: Bench,
    vault: Arc<Vault>,
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vault_does_what_every_manager_does() {
    conformance::run(async || Standing::new().await).await;
}

impl Standing {
    async fn new() -> Self {
        let bench = Bench::new().await;
        let data = json!({"data": {"key": "basicauth", "value": CANARY}});
        bench.act("POST", "secret/data/team/db", data);
        let vault = Arc::new(bench.vault());
        Self { bench, vault }
    }
}

#[async_trait]
impl World for Standing {
    fn kind(&self) -> Kind {
        Kind::Vault
    }

    fn manager(&self) -> Arc<dyn SecretManager> {
        Arc::clone(&self.vault) as Arc<dyn SecretManager>
    }

    fn pure(&self) -> SecretRef {
        "vault:team/db".parse().unwrap()
    }

    fn absent(&self) -> SecretRef {
        "vault:team/nothing".parse().unwrap()
    }

    fn refused(&self) -> Vec<(&'static str, &'static str)> {
        vec![
            ("vault:secret/team/db", "vault:team/db"),
            ("vault:kv1", "no secret on it"),
            ("vault:database/config/app", "MOUNT/creds/ROLE"),
        ]
    }

    fn leased(&self) -> Option<(SecretRef, Effect)> {
        let reference = "vault:database/creds/app".parse().unwrap();
        Some((reference, Effect::Mints))
    }

    async fn rotate(&self, value: &str) {
        let data = json!({"data": {"key": "basicauth", "value": value}});
        self.bench.act("POST", "secret/data/team/db", data);
    }

    async fn remove(&self) -> bool {
        self.bench.act("DELETE", "secret/data/team/db", Value::Null);
        true
    }

    fn values_given(&self) -> Option<usize> {
        Some(self.bench.counted().values)
    }

    fn minted(&self) -> Option<usize> {
        Some(self.bench.counted().minted)
    }

    async fn works(&self, minted: &Secret) -> Option<bool> {
        let (user, password) = (field(minted, "username"), field(minted, "password"));
        Some(
            self.bench
                .server
                .with(|fake| fake.user_works("database", &user, &password)),
        )
    }

    fn advance(&self, by: Duration) -> bool {
        self.bench.advance(by);
        true
    }

    fn trouble(&self, trouble: Trouble) -> bool {
        let server = &self.bench.server;
        match trouble {
            Trouble::Drop => server.faults.always(Wrong::Drop),
            Trouble::Hang => server.faults.always(Wrong::Hang),
            Trouble::Html => server.faults.always(Wrong::Html),
            Trouble::Truncated => server.faults.always(Wrong::Truncated),
            Trouble::Huge => server.faults.always(Wrong::Huge),
            Trouble::WrongTypes => server.faults.always(Wrong::WrongTypes),
            Trouble::RateLimited => server.with(|fake| fake.rate_limited = Some(7)),
            Trouble::Broken => {
                let quoting = json!({"errors": [format!("1 error occurred: {CANARY}")]});
                let answer = Response::json(500, &quoting);
                server.faults.always(Wrong::Answer(answer));
            }
            Trouble::Closed => server.with(|fake| fake.sealed = true),
            Trouble::TokenDied => {
                let now = server.clock.now();
                server.with(|fake| fake.end_tokens(now));
            }
            Trouble::LockedOut => {
                let denied = json!({"errors": ["permission denied"]});
                let answer = Response::json(403, &denied);
                server.faults.always(Wrong::Answer(answer));
            }
        }
        true
    }

    fn heal(&self) {
        self.bench.server.faults.heal();
        self.bench.server.with(|fake| {
            fake.sealed = false;
            fake.rate_limited = None;
        });
    }
}
