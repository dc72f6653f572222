//! The commands and their options, as people type them.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use edge_secrets_protocol::{NodeId, OrgId, PatternChoice, PatternName, PolicyName, UserId};

use super::times::{Since, parse_duration};
use crate::catalog::records::Role;

pub use import::{ImportCommand, OpenHorizonArgs};
pub use managers::{CreateArgs, CredentialType, EngineArgs, LeaseCommand, ManagerCommand};
pub use secret::{GenerateArgs, MetaArgs, SecretCommand, SetArgs, Setting};
pub use secrets_manager::{
    AddArgs, Named, NodeArg, OnCommandLine, SecretsManagerArgs, SecretsManagerCommand,
    TheirSecretCommand,
};

mod import;
mod managers;
mod secret;
mod secrets_manager;

/// Operate an edge-secrets hub: secrets, services, policies and nodes.
#[derive(Debug, Parser)]
#[command(name = "edge-secrets", version, max_term_width = 100, after_help = EXIT_CODES)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub struct Cli {
    /// Which hub, and who you are there [default: $EDGE_SECRETS_CONTEXT, else
    /// ~/.config/edge-secrets/context.yaml]
    #[arg(long, global = true, value_name = "FILE", help_heading = GLOBAL)]
    pub context: Option<PathBuf>,
    /// How results are written [default: table]
    #[arg(short, long, global = true, value_enum, value_name = "FORMAT", help_heading = GLOBAL)]
    pub output: Option<Format>,
    /// Do not ask before something is removed or revoked; needed where nobody can be asked
    #[arg(short, long, global = true, help_heading = GLOBAL)]
    pub yes: bool,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Set, generate, rotate, edit, list, show, restore and remove secrets
    #[command(subcommand)]
    Secret(SecretCommand),
    /// Add, list, read and remove secrets as `hzn secretsmanager` does, for scripts written for it
    #[command(
        name = "secretsmanager",
        visible_alias = "sm",
        after_help = secrets_manager::SECRETS_MANAGER_EXAMPLES
    )]
    SecretsManager(SecretsManagerArgs),
    /// Publish what Open Horizon has: definitions, policies and patterns
    #[command(subcommand)]
    Import(ImportCommand),
    /// Publish, list, show and remove service definitions
    #[command(subcommand)]
    Service(ServiceCommand),
    /// Publish, list, show and withdraw deployment policies
    #[command(subcommand)]
    Policy(PolicyCommand),
    /// Publish, list, show and withdraw patterns
    #[command(subcommand)]
    Pattern(PatternCommand),
    /// Let nodes in, look at them, and shut them out
    #[command(subcommand)]
    Node(NodeCommand),
    /// Show which nodes have applied what a policy or pattern gives them, which have not, and why
    #[command(after_help = ROLLOUT_EXAMPLES)]
    Rollout(RolloutArgs),
    /// Explain why services are or are not deployed on a node, and where their secrets stand
    #[command(after_help = EXPLAIN_EXAMPLES)]
    Explain(ExplainArgs),
    /// Add, list and remove the people and programs that operate the hub
    #[command(subcommand)]
    User(UserCommand),
    /// List, check and configure the secrets managers outside the hub
    #[command(subcommand, after_help = managers::MANAGER_EXAMPLES)]
    Manager(ManagerCommand),
    /// List and end the credentials that were made for bindings on nodes
    #[command(subcommand, after_help = managers::LEASE_EXAMPLES)]
    Lease(LeaseCommand),
    /// Show who did what, when, and with which result
    #[command(after_help = AUDIT_EXAMPLES)]
    Audit(AuditArgs),
    /// Write a completion script for a shell to standard output; the package installs them
    #[command(after_help = COMPLETIONS_EXAMPLES)]
    Completions {
        /// The shell
        shell: Shell,
    },
}

/// How results are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Table,
    /// For programs: what the hub said, as it is.
    Json,
    /// The same as YAML.
    Yaml,
}

/// `edge-secrets service …`
#[derive(Debug, Subcommand)]
pub enum ServiceCommand {
    /// Publish a service definition in Open Horizon's schema, JSON or YAML
    Publish {
        /// The definition's file, or `-` for standard input
        file: String,
        /// Change nothing; show which nodes would get which secrets
        #[arg(long)]
        dry_run: bool,
    },
    /// List service definitions with the secrets that they declare
    List,
    /// Show a service definition
    Show(ServiceArgs),
    /// Remove a service definition
    Rm(ServiceArgs),
    /// Set, show and remove a service's own policy: its properties, and what it demands of nodes
    #[command(subcommand)]
    Policy(ServicePolicyCommand),
}

/// `edge-secrets service policy …`
#[derive(Debug, Subcommand)]
pub enum ServicePolicyCommand {
    /// Set the policy of a service, in Open Horizon's schema, JSON or YAML
    Set {
        /// The service
        #[command(flatten)]
        service: ServiceArgs,
        /// The policy's file, or `-` for standard input
        file: String,
        /// Change nothing; show which nodes would get and lose which secrets
        #[arg(long)]
        dry_run: bool,
    },
    /// Show the policy of a service
    Show(ServiceArgs),
    /// Remove the policy of a service
    Rm {
        /// The service
        #[command(flatten)]
        service: ServiceArgs,
        /// Change nothing; show which nodes would get and lose which secrets
        #[arg(long)]
        dry_run: bool,
    },
}

/// Which service definition.
#[derive(Debug, Args)]
pub struct ServiceArgs {
    /// The service's url, such as com.example.uplink
    pub url: String,
    /// The version, where the url has several definitions
    #[arg(long, value_name = "V")]
    pub version: Option<String>,
    /// The architecture, where the url has several definitions
    #[arg(long)]
    pub arch: Option<String>,
}

/// `edge-secrets policy …`
#[derive(Debug, Subcommand)]
pub enum PolicyCommand {
    /// Publish or replace a deployment policy in Open Horizon's schema, JSON or YAML
    #[command(after_help = POLICY_EXAMPLES)]
    Publish {
        /// The policy's name
        name: PolicyName,
        /// The policy's file, or `-` for standard input
        file: String,
        /// Change nothing; show which nodes would get which secrets
        #[arg(long)]
        dry_run: bool,
        /// Take secrets that do not exist yet for a warning, as Open Horizon does
        #[arg(long)]
        allow_missing: bool,
    },
    /// List deployment policies
    List,
    /// Show a deployment policy
    Show {
        /// The policy's name
        name: PolicyName,
    },
    /// Withdraw a deployment policy; what it delivered is wiped from its nodes
    Rm {
        /// The policy's name
        name: PolicyName,
        /// Change nothing; show which nodes would lose which secrets
        #[arg(long)]
        dry_run: bool,
    },
}

/// `edge-secrets pattern …`
#[derive(Debug, Subcommand)]
pub enum PatternCommand {
    /// Publish or replace a pattern in Open Horizon's schema, JSON or YAML
    #[command(after_help = PATTERN_EXAMPLES)]
    Publish {
        /// The pattern's name
        name: PatternName,
        /// The pattern's file, or `-` for standard input
        file: String,
        /// Change nothing; show which nodes would get which secrets
        #[arg(long)]
        dry_run: bool,
        /// Take secrets that do not exist yet for a warning, as Open Horizon does
        #[arg(long)]
        allow_missing: bool,
    },
    /// List patterns
    List {
        /// The public patterns of this other organisation
        #[arg(long, value_name = "ORG")]
        of: Option<OrgId>,
    },
    /// Show a pattern
    Show {
        /// The pattern: NAME, or ORG/NAME of another organisation's public one
        #[arg(value_name = "PATTERN")]
        name: PatternChoice,
    },
    /// Withdraw a pattern; what it delivered is wiped from its nodes
    Rm {
        /// The pattern's name
        name: PatternName,
        /// Change nothing; show which nodes would lose which secrets
        #[arg(long)]
        dry_run: bool,
    },
}

/// `edge-secrets node …`
#[derive(Debug, Subcommand)]
pub enum NodeCommand {
    /// Make a token that lets one node enrol once; it is shown this once
    #[command(after_help = TOKEN_EXAMPLES)]
    Token {
        /// The node's name
        node: NodeId,
        /// For how long the token works
        #[arg(long, value_name = "T", default_value = "1h", value_parser = parse_duration)]
        ttl: Duration,
        /// The user who will own the node, and whose private secrets it may have
        #[arg(long, value_name = "USER")]
        owner: Option<UserId>,
        /// The pattern that the node will be on, instead of policies: NAME, or ORG/NAME of another
        /// organisation's public one
        #[arg(long, value_name = "PATTERN")]
        pattern: Option<PatternChoice>,
    },
    /// Put a node on a pattern instead of policies, or back on policies
    Pattern {
        /// The node's name
        node: NodeId,
        /// The pattern: NAME, or ORG/NAME of another organisation's public one
        #[arg(required_unless_present = "none", conflicts_with = "none")]
        pattern: Option<PatternChoice>,
        /// On policies
        #[arg(long)]
        none: bool,
        /// Change nothing; show which secrets the node would get and lose
        #[arg(long)]
        dry_run: bool,
    },
    /// List nodes
    List {
        /// Only those that do not have all that they should, the longest behind first
        #[arg(long)]
        behind: bool,
    },
    /// Show a node: what it said of itself, its deployments and their secrets
    Show {
        /// The node's name
        node: NodeId,
    },
    /// Shut a node out for good: it wipes what it has as soon as it hears of it
    Revoke {
        /// The node's name
        node: NodeId,
    },
    /// Forget a node
    Rm {
        /// The node's name
        node: NodeId,
    },
}

/// `edge-secrets rollout …`
#[derive(Debug, Args)]
pub struct RolloutArgs {
    /// The policy's name
    #[arg(required_unless_present = "pattern", conflicts_with = "pattern")]
    pub policy: Option<PolicyName>,
    /// A pattern instead, on the nodes of your organisation: NAME, or ORG/NAME of another
    /// organisation's
    #[arg(long, value_name = "PATTERN")]
    pub pattern: Option<PatternChoice>,
    /// Show every change until all nodes have applied everything
    #[arg(short, long)]
    pub watch: bool,
}

/// `edge-secrets explain …`
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// The node's name
    pub node: NodeId,
    /// Only this service: its url, or ORG/URL
    pub service: Option<String>,
}

/// `edge-secrets user …`
#[derive(Debug, Subcommand)]
pub enum UserCommand {
    /// Add a user, and write the context that they will work with
    #[command(after_help = USER_EXAMPLES)]
    Add {
        /// The user's name
        name: UserId,
        /// What they may do
        #[arg(long, value_enum)]
        role: RoleName,
        /// The context to write; its certificate, key and CA are written beside it, and nothing
        /// is ever overwritten
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// List users
    List,
    /// Remove a user; their certificate stops working at once
    Rm {
        /// The user's name
        name: UserId,
    },
}

/// What a user may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum RoleName {
    /// Administers the organisation
    Admin,
    /// Works in it
    User,
}

impl From<RoleName> for Role {
    fn from(name: RoleName) -> Self {
        match name {
            RoleName::Admin => Self::Admin,
            RoleName::User => Self::User,
        }
    }
}

/// `edge-secrets audit …`
#[derive(Debug, Args)]
pub struct AuditArgs {
    /// Not before this time (RFC 3339), or not longer ago than this
    #[arg(long, value_name = "T", default_value = "24h", value_parser = Since::parse)]
    pub since: Since,
    /// Go on with every new record until interrupted
    #[arg(short, long)]
    pub follow: bool,
}

const GLOBAL: &str = "Options of all commands";
const EXIT_CODES: &str = "\
A first look around:
  edge-secrets secret set cloudServiceXYZSecret --value-file cred.txt
  edge-secrets service publish service.json
  edge-secrets policy publish uplink policy.json --dry-run
  edge-secrets rollout uplink --watch

Exit codes:
  0 done · 64 usage or configuration · 69 hub unavailable · 77 denied · 1 anything else";
const POLICY_EXAMPLES: &str = "\
Examples:
  edge-secrets policy publish uplink policy.json --dry-run
  edge-secrets policy publish uplink policy.json && edge-secrets rollout uplink --watch";
const PATTERN_EXAMPLES: &str = "\
Examples:
  edge-secrets pattern publish edge pattern.json --dry-run
  edge-secrets pattern publish edge pattern.json && edge-secrets rollout --pattern edge --watch";
const TOKEN_EXAMPLES: &str = "\
Only the token goes to standard output.

Examples:
  edge-secrets node token edge-01 --ttl 15m > edge-01.token
  edge-secrets node token edge-01 --owner alice";
const ROLLOUT_EXAMPLES: &str = "\
With --watch every change is shown as it happens; in JSON one object per line, in YAML one document
each. It ends, with exit code 0, once every node has applied everything.

Examples:
  edge-secrets rollout uplink
  edge-secrets rollout uplink --watch";
const EXPLAIN_EXAMPLES: &str = "\
Examples:
  edge-secrets explain edge-01
  edge-secrets explain edge-01 com.example.uplink";
const USER_EXAMPLES: &str = "\
The private key is made here and never leaves this machine: FILE's directory then holds FILE and,
under the same name, .crt, .key (readable by its owner alone) and .ca.crt. Hand all four over.

Example:
  edge-secrets user add alice --role user --out alice.yaml";
const AUDIT_EXAMPLES: &str = "\
Examples:
  edge-secrets audit --since 7d
  edge-secrets audit --since 2026-03-01T12:00:00Z -o json
  edge-secrets audit --follow";
const COMPLETIONS_EXAMPLES: &str = "\
Example:
  edge-secrets completions bash > ~/.local/share/bash-completion/completions/edge-secrets";

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn names_are_checked_before_anything_is_asked() {
        for line in [
            "node show ../x",
            "secret show a//b",
            "policy rm a/b",
            "pattern rm a/b",
            "node token n --ttl 0s",
            "user add a/b --role admin --out f",
            "audit --since yesterday",
            "secret edit x --label a",
            "secret edit x --label a,b",
            "secret edit x --label ab --no-labels",
            "secret edit x --expires soon",
            "secret edit x --max-versions 0",
            "secret edit x --max-versions never",
            "secret edit x --rotate-every 59s",
            "secret generate x --key-pair ed25519 --length 4",
            "secret generate x --key-pair rsa-1024",
            "secret generate x --charset words",
            "secret generate x --field a/b",
            "secret list --label x",
        ] {
            let words = ["edge-secrets"].into_iter().chain(line.split(' '));
            assert!(Cli::try_parse_from(words).is_err(), "{line}");
        }
    }
}
