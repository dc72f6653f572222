//! A hub and an agent as people run them: release programs, logs at info.

use std::path::PathBuf;

use edge_secrets_tests::client::Client;
use edge_secrets_tests::hub::Context;
use edge_secrets_tests::node::AdminApi;
use edge_secrets_tests::reader::stamped;
use edge_secrets_tests::samples::{plain_service, policy};
use edge_secrets_tests::{TestAgent, TestHub, wait};
use serde_json::Value;

pub(crate) struct Scene {
    pub(crate) agent: TestAgent,
    pub(crate) hub: TestHub,
    pub(crate) services: usize,
    pub(crate) names: Vec<&'static str>,
}

impl Scene {
    /// So many services, each with these secrets, all delivered.
    pub(crate) fn deploy(services: usize, names: &[&'static str]) -> Self {
        let hub = TestHub::configured(|config| config["log"]["level"] = "info".into());
        let agent = TestAgent::enrolled(&hub, "edge-01", &[]);
        agent.reconfigure(|config| config["log"]["level"] = "info".into());
        let mut scene = Self {
            agent,
            hub,
            services,
            names: names.to_vec(),
        };
        let mut admin = scene.admin();
        for service in 0..services {
            let url = Self::url(service);
            let references: Vec<_> = names
                .iter()
                .map(|name| Self::reference(service, name))
                .collect();
            for reference in &references {
                admin.set(reference, &stamped(0, LEN));
            }
            let definition = plain_service(&url, names);
            admin.post("services", &definition).ok::<Value>();
            let bound = names
                .iter()
                .copied()
                .zip(references.iter().map(String::as_str));
            let policy = policy(&url, &[], &bound.collect::<Vec<_>>());
            admin
                .put(&format!("policies/s{service}"), &policy)
                .ok::<Value>();
        }
        scene.agent.run();
        scene.await_all();
        for service in 0..services {
            scene.hub.await_rollout(&format!("s{service}"), 1);
        }
        scene
    }

    /// Waits until every file is readable.
    pub(crate) fn await_all(&self) {
        for service in 0..self.services {
            for name in &self.names {
                let file = self.dir(service).join(name);
                if !file.exists() {
                    wait::until(&self.dir(service), name, || file.exists());
                }
            }
        }
    }

    /// One connection on a runtime of this thread, so that nothing is handed between threads.
    pub(crate) fn admin(&self) -> AdminApi {
        let context = Context::load(self.hub.operator().context());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let client = Client::connect_on(
            runtime.expect("a runtime"),
            self.hub.port(),
            Some(&context.ca),
            Some(&context.credentials),
        );
        AdminApi::over(client.expect("a connection"))
    }

    pub(crate) fn dir(&self, service: usize) -> PathBuf {
        self.agent.consumer(&Self::url(service), "main")
    }

    pub(crate) fn reference(service: usize, name: &str) -> String {
        format!("s{service}/{name}")
    }

    fn url(service: usize) -> String {
        format!("com.example.s{service}")
    }
}

/// The size of a value, as in the floor.
pub(crate) const LEN: usize = 1024;
