//! What the service manager is told: ready when all that can be delivered is, or when the hub was
//! waited for long enough; how it goes; that the agent lives.

use std::time::Duration;

use edge_secrets_protocol::status::DeploymentState;
use tokio::time::Instant;

use crate::status::{AgentStatus, HubState};
use crate::systemd::notify::Notifier;

/// What was told so far, and when to tell the next thing.
pub(super) struct Readiness {
    notifier: Notifier,
    ready: bool,
    /// Ready then, hub or no hub.
    at_latest: Instant,
    watchdog: Option<(Duration, Instant)>,
    said: String,
}

impl Readiness {
    pub(super) fn new(notifier: Notifier, timeout: Duration, now: Instant) -> Self {
        let watchdog = notifier
            .watchdog_interval()
            .map(|every| (every, now + every));
        Self {
            notifier,
            ready: false,
            at_latest: now + timeout,
            watchdog,
            said: String::new(),
        }
    }

    /// When [`tick`](Self::tick) has something to tell.
    pub(super) fn next(&self) -> Option<Instant> {
        let latest = (!self.ready).then_some(self.at_latest);
        let watchdog = self.watchdog.map(|(_, at)| at);
        [latest, watchdog].into_iter().flatten().min()
    }

    /// Tells that the agent lives, and that it is ready where the hub was waited for long enough.
    pub(super) fn tick(&mut self, now: Instant) {
        if let Some((every, at)) = &mut self.watchdog
            && *at <= now
        {
            self.notifier.watchdog();
            *at = now + *every;
        }
        if self.at_latest <= now {
            self.ready();
        }
    }

    /// All that can be delivered is.
    pub(super) fn ready(&mut self) {
        if !self.ready {
            self.ready = true;
            self.notifier.ready(&self.said);
        }
    }

    /// Configuration and profiles are being read again.
    pub(super) fn reloading(&self) {
        self.notifier.reloading();
    }

    /// They have been read.
    pub(super) fn reloaded(&self) {
        if self.ready {
            self.notifier.ready(&self.said);
        }
    }

    pub(super) fn stopping(&self) {
        self.notifier.stopping();
    }

    /// Says in a line how things stand, where that is another line than before.
    pub(super) fn say(&mut self, status: &AgentStatus) {
        let line = line(status);
        if line != self.said {
            self.notifier.status(&line);
            self.said = line;
        }
    }
}

fn line(status: &AgentStatus) -> String {
    let hub = match status.hub.state {
        HubState::Connecting => "connecting to the hub",
        HubState::Connected => "connected",
        HubState::Disconnected => "hub lost, everything stays as it is",
        HubState::Revoked => "revoked, everything is wiped",
    };
    let count = |state| status.services.iter().filter(|s| s.state == state).count();
    let mut line = format!("{hub}; {} applied", count(DeploymentState::Applied));
    for (state, name) in [
        (DeploymentState::Blocked, "blocked"),
        (DeploymentState::Failed, "failed"),
        (DeploymentState::Pending, "pending"),
        (DeploymentState::Stopped, "stopped"),
    ] {
        let count = count(state);
        if count > 0 {
            line.push_str(&format!(", {count} {name}"));
        }
    }
    if !status.profile_problems.is_empty() {
        let count = status.profile_problems.len();
        line.push_str(&format!("; {count} problems with profiles"));
    }
    line
}
