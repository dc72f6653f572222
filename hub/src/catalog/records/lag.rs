//! What nodes lack of what they should have, by their own reports.

use std::str::FromStr;

use edge_secrets_protocol::status::{DeploymentState, StatusReport};
use edge_secrets_protocol::{Generation, NodeId};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// A node that does not have all that it should.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lag {
    /// The node.
    pub node: NodeId,
    /// Since when it is behind; absent when it has worked through everything.
    pub since: Option<Timestamp>,
    /// What it has worked through; absent when it has not reported since it enrolled.
    pub reported: Option<Generation>,
    /// What it could not do of that.
    pub unsettled: Option<Unsettled>,
}

/// The worst that a node says of its deployments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unsettled {
    /// One is not done yet.
    Pending,
    /// One has a secret that is missing or denied.
    Blocked,
    /// One could not be delivered.
    Failed,
}

impl Unsettled {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Pending, Self::Blocked, Self::Failed];

    /// Of a report; `None` when all is as it should be.
    #[must_use]
    pub fn of(report: &StatusReport) -> Option<Self> {
        let deployments = report.deployments.iter();
        let unsettled = deployments.filter_map(|one| match one.state {
            DeploymentState::Pending => Some(Self::Pending),
            DeploymentState::Blocked => Some(Self::Blocked),
            DeploymentState::Failed => Some(Self::Failed),
            DeploymentState::Applied | DeploymentState::Stopped | DeploymentState::Wiped => None,
        });
        unsettled.max()
    }

    /// As it is stored and shown.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Blocked => "blocked",
            Self::Failed => "failed",
        }
    }
}

impl FromStr for Unsettled {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|one| one.as_str() == text);
        found.ok_or(())
    }
}
