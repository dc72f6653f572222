//! What the agent tells people, always up to date for whoever asks.

use std::sync::Arc;

use edge_secrets_protocol::Generation;
use jiff::Timestamp;
use tokio::sync::watch;

use super::host::Host;
use crate::config::Config;
use crate::hub::HubError;
use crate::identity::NodeIdentity;
use crate::reconcile::Reconciler;
use crate::status::{AgentStatus, CacheStatus, HubState, HubStatus};

/// The status, and who watches it.
pub(super) struct Board {
    sender: watch::Sender<Arc<AgentStatus>>,
    hub: HubStatus,
}

impl Board {
    pub(super) fn new(
        config: &Config,
        identity: &NodeIdentity,
        mut protection: Vec<String>,
        reconciler: &Reconciler,
    ) -> Self {
        let hub = HubStatus {
            url: config.hub.url.to_string(),
            state: HubState::Connecting,
            since: Timestamp::now(),
            error: None,
            certificate_not_after: Some(identity.validity.not_after),
        };
        protection.push(reconciler.protection());
        protection.push(reconciler.memory_protection());
        let status = AgentStatus {
            agent_version: env!("CARGO_PKG_VERSION").into(),
            org: identity.org.clone(),
            node: identity.node.clone(),
            hub: hub.clone(),
            generation: Generation::default(),
            protection,
            services: reconciler.services(),
            profile_problems: Vec::new(),
            cache: None,
        };
        Self {
            sender: watch::channel(Arc::new(status)).0,
            hub,
        }
    }

    pub(super) fn watch(&self) -> watch::Receiver<Arc<AgentStatus>> {
        self.sender.subscribe()
    }

    /// What people are told now.
    pub(super) fn status(&self) -> Arc<AgentStatus> {
        self.sender.borrow().clone()
    }

    pub(super) fn state(&self) -> HubState {
        self.hub.state
    }

    /// The hub answers, or does not. A node that is revoked stays so until the hub answers.
    pub(super) fn hub_is(&mut self, state: HubState, error: Option<&HubError>) {
        let state = match (self.hub.state, state) {
            (HubState::Revoked, HubState::Disconnected) => return,
            (HubState::Connecting, HubState::Disconnected) => HubState::Connecting,
            (_, state) => state,
        };
        if state != self.hub.state {
            self.hub.since = Timestamp::now();
            self.hub.state = state;
        }
        self.hub.error = error.map(ToString::to_string);
    }

    /// The identity or the hub's address has changed.
    pub(super) fn identity_is(&mut self, config: &Config, identity: &NodeIdentity) {
        self.hub.url = config.hub.url.to_string();
        self.hub.certificate_not_after = Some(identity.validity.not_after);
    }

    /// Makes the present state visible; watchers wake only when it is another than before.
    pub(super) fn publish(
        &self,
        identity: &NodeIdentity,
        reconciler: &Reconciler,
        host: &Host,
        cache: Option<CacheStatus>,
    ) {
        let generation = reconciler.report().generation;
        let mut services = reconciler.services();
        host.describe(&mut services, reconciler);
        let problems = host.problems();
        self.sender.send_if_modified(|status| {
            let same = status.hub == self.hub
                && status.generation == generation
                && status.services == services
                && status.profile_problems == problems
                && status.cache == cache
                && status.node == identity.node
                && status.org == identity.org;
            if same {
                return false;
            }
            let status = Arc::make_mut(status);
            status.hub = self.hub.clone();
            status.generation = generation;
            status.services = services;
            status.profile_problems = problems.to_vec();
            status.cache = cache;
            status.node = identity.node.clone();
            status.org = identity.org.clone();
            true
        });
    }
}
