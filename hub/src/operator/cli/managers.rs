//! `edge-secrets manager …` and `edge-secrets lease …` as they are typed.

use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use edge_secrets_protocol::NodeId;

use crate::managers::ManagerName;
use crate::operator::times::parse_duration;
use crate::reference::SecretRef;

/// `edge-secrets manager …`
#[derive(Debug, Subcommand)]
pub enum ManagerCommand {
    /// List the secrets managers outside the hub, and how they are
    List,
    /// Ask a secrets manager whether it answers and knows the hub; no secret is read
    Check {
        /// The manager's name, as in hub.yaml and before the colon of references
        name: ManagerName,
    },
    /// Give a secrets manager the key that it makes credentials with
    #[command(after_help = ENGINE_EXAMPLES)]
    Engine(EngineArgs),
}

/// What a manager makes credentials with.
#[derive(Debug, Args)]
pub struct EngineArgs {
    /// The manager's name
    pub name: ManagerName,
    /// Read the API key from a file, or from standard input with `-`; line ends at its end are left out
    #[arg(long, value_name = "F")]
    pub api_key_file: String,
    /// What the engine's configuration is called at the manager; one of that name is replaced
    #[arg(long, value_name = "ENGINE", default_value = "edge-secrets")]
    pub engine: String,
    /// Catches a key on the command line, so that it is refused without being repeated.
    #[arg(hide = true, allow_hyphen_values = false)]
    pub stray: Vec<String>,
}

/// `edge-secrets lease …`
#[derive(Debug, Subcommand)]
pub enum LeaseCommand {
    /// List the credentials that were made for bindings on nodes, and how long they live
    List {
        /// Only those of this node
        #[arg(long)]
        node: Option<NodeId>,
        /// Those that are dead too
        #[arg(long)]
        ended: bool,
    },
    /// End a credential at its manager; where its binding still stands another one is made
    Revoke {
        /// The lease's number, as `lease list` shows it
        lease: u64,
    },
}

/// A secret whose values its manager makes.
#[derive(Debug, Args)]
pub struct CreateArgs {
    /// The secret's reference at its manager, such as ibm:default/iam_credentials/edge01-cos
    pub name: SecretRef,
    /// What the manager makes
    #[arg(long = "type", value_enum, value_name = "TYPE")]
    pub kind: CredentialType,
    /// An access group that each credential is a member of; can be given again
    #[arg(
        long = "access-group",
        value_name = "ID",
        required_unless_present = "service_id"
    )]
    pub access_groups: Vec<String>,
    /// The service id that each credential is a key of, instead of access groups
    #[arg(long, value_name = "ID", conflicts_with = "access_groups")]
    pub service_id: Option<String>,
    /// How long each credential lives
    #[arg(long, value_name = "T", value_parser = parse_duration)]
    pub ttl: Duration,
    /// One credential for all who read it, until it ends. Without it every read makes another one and
    /// ends the one before: such a secret goes to one node alone
    #[arg(long)]
    pub reuse: bool,
    /// A label; can be given again
    #[arg(long = "label", value_name = "L")]
    pub labels: Vec<String>,
    /// For people
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub description: String,
}

/// What a manager makes by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum CredentialType {
    /// An API key of IBM Cloud IAM
    IamCredentials,
}

pub(super) const MANAGER_EXAMPLES: &str = "\
Managers are named in the hub's configuration, each with its own credentials from files; references
name them before a colon.

Examples:
  edge-secrets manager list
  edge-secrets manager check vault
  edge-secrets manager engine ibm --api-key-file engine-key
  edge-secrets secret list vault:team/
  edge-secrets secret show vault:team/db";
const ENGINE_EXAMPLES: &str = "\
IBM Cloud Secrets Manager makes the API keys of iam_credentials with an API key of its own: this makes
or replaces its iam_credentials_configuration. The manager wants `write: true` in the hub's
configuration, and the hub's service id the role Manager. The key is sealed to the hub before it leaves
this process.

Examples:
  edge-secrets manager engine ibm --api-key-file engine-key
  edge-secrets manager engine ibm --api-key-file - --engine iam-config < engine-key";
pub(super) const LEASE_EXAMPLES: &str = "\
Examples:
  edge-secrets lease list --node edge-01
  edge-secrets lease revoke 17";
pub(super) const CREATE_EXAMPLES: &str = "\
Example:
  edge-secrets secret create ibm:default/iam_credentials/edge01-cos --type iam-credentials \\
    --access-group AccessGroupId-4f9c --ttl 12h --label edge";
