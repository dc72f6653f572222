//! `edge-secrets import …` as it is typed.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// `edge-secrets import …`
#[derive(Debug, Subcommand)]
pub enum ImportCommand {
    /// Publish the definitions, policies and patterns of an Open Horizon fleet as they are
    #[command(after_help = IMPORT_EXAMPLES)]
    OpenHorizon(OpenHorizonArgs),
}

/// `edge-secrets import open-horizon …`
#[derive(Debug, Args)]
pub struct OpenHorizonArgs {
    /// Directories, which are searched for .json and .yaml, and files
    #[arg(required = true, value_name = "DIR|FILE")]
    pub paths: Vec<PathBuf>,
    /// Change nothing; show what is understood, what differs, what is left and what would change
    #[arg(long)]
    pub dry_run: bool,
    /// Take variables from this hzn.json, instead of from the one nearest to each file
    #[arg(long, value_name = "FILE")]
    pub hzn_json: Option<PathBuf>,
    /// Give a variable a value; comes before the environment and hzn.json
    #[arg(long = "var", value_name = "NAME=VALUE")]
    pub vars: Vec<String>,
    /// Publish the policy or pattern of this file by this name [default: the file's, else its
    /// directory's]
    #[arg(long = "name", value_name = "FILE=NAME")]
    pub names: Vec<String>,
    /// Let variables without a value become nothing, as hzn does
    #[arg(long)]
    pub allow_undefined: bool,
    /// Take secrets that do not exist yet for a warning, as Open Horizon does
    #[arg(long)]
    pub allow_missing: bool,
    /// Publish what is good although something is refused
    #[arg(long)]
    pub keep_going: bool,
}

const IMPORT_EXAMPLES: &str = "\
Files are those that hzn is given (service.definition.json, deployment.policy.json, pattern.json, …)
or what it lists (`hzn exchange service list ORG/ -l`, `hzn exchange deployment listpolicy -l`). Their
variables are replaced as hzn does. Nothing is published when anything is refused, and what is there
already stays as it is: it can be run again.

Examples:
  edge-secrets import open-horizon fleet/ --dry-run
  edge-secrets import open-horizon fleet/ --var ARCH=arm64 --allow-missing
  edge-secrets import open-horizon horizon/deployment.policy.json \\
      --name horizon/deployment.policy.json=uplink
  edge-secrets import open-horizon fleet/ --dry-run -o json";
