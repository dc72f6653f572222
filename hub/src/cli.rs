//! The hub's command line.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{ArgGroup, Parser, Subcommand};
use edge_secrets_protocol::OrgId;

use crate::ca::Step;
use crate::config::{DEFAULT_PORT, TrustDomain};

/// The edge-secrets hub: gives every node the secrets that its deployments bind, sealed to it alone.
#[derive(Debug, Parser)]
#[command(name = "edge-secrets-hub", version, propagate_version = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a data directory: certificate authority, keys, database, hub.yaml, and admin.yaml for
    /// the operator's commands. Never overwrites anything.
    Init(Init),
    /// Serve nodes and operators until SIGTERM or SIGINT.
    Serve {
        /// The configuration, `hub.yaml` in the data directory.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Add another organisation, with an administrator. The hub must not serve meanwhile.
    AddOrg(AddOrg),
    /// Back up everything that the hub is, keys included, into one encrypted file. The hub may serve.
    Backup(Backup),
    /// Make a data directory from a backup.
    ///
    /// What was done since the backup is not in it: nodes that were revoked since are not revoked, nodes
    /// whose certificates were renewed since must enrol again. Tokens that were not used are void.
    Restore(Restore),
    /// Make a key for backups, so that they can be made where they cannot be opened.
    BackupKey {
        /// The new key's file; the public half, for `backup --recipient`, is FILE.pub.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Exchange the master key. The hub must not serve meanwhile; values stay as they are, their keys
    /// are wrapped anew.
    RotateMasterKey {
        /// The configuration, `hub.yaml` in the data directory.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Exchange the certificate authority for a new one, in stages: rotate, switch, finish.
    Ca {
        /// The stage.
        #[command(subcommand)]
        step: Step,
    },
}

/// What `add-org` does.
#[derive(Debug, clap::Args)]
pub struct AddOrg {
    /// The organisation.
    pub org: OrgId,
    /// The configuration, `hub.yaml` in the data directory.
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// Where its administrator's context goes, with certificate and key; it must be absent or empty.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
}

/// What `backup` does.
#[derive(Debug, clap::Args)]
#[command(group = ArgGroup::new("lock").required(true).args(["passphrase_file", "recipient"]))]
pub struct Backup {
    /// The configuration, `hub.yaml` in the data directory.
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// The backup to make, or `-` for standard output. It must not be there yet.
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// A file with the passphrase that opens it, or `-` for standard input.
    #[arg(long, value_name = "FILE")]
    pub passphrase_file: Option<PathBuf>,
    /// The public half of the key that opens it; `backup-key` makes one.
    #[arg(long, value_name = "FILE")]
    pub recipient: Option<PathBuf>,
}

/// What `restore` does.
#[derive(Debug, clap::Args)]
#[command(group = ArgGroup::new("unlock").required(true).args(["passphrase_file", "key"]))]
#[command(group = ArgGroup::new("what").required(true).args(["data_dir", "check"]))]
pub struct Restore {
    /// The backup, or `-` for standard input.
    #[arg(long, value_name = "FILE")]
    pub from: PathBuf,
    /// Where to; it must be absent or empty.
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Restore nothing; read the backup to its end, look into its database and say what is in it.
    #[arg(long)]
    pub check: bool,
    /// A file with the passphrase that it was made with, or `-` for standard input.
    #[arg(long, value_name = "FILE")]
    pub passphrase_file: Option<PathBuf>,
    /// The key that it was made for.
    #[arg(long, value_name = "FILE")]
    pub key: Option<PathBuf>,
}

/// What `init` makes.
#[derive(Debug, clap::Args)]
pub struct Init {
    /// Where; it must be absent or empty.
    #[arg(long, value_name = "DIR")]
    pub data_dir: PathBuf,
    /// The first organisation.
    #[arg(long, default_value = "myorg")]
    pub org: OrgId,
    /// The trust domain of every identity.
    #[arg(long, value_name = "TD", default_value_t = TrustDomain::default())]
    pub trust_domain: TrustDomain,
    /// The address to listen on.
    #[arg(long, value_name = "ADDR", default_value_t = SocketAddr::from(([0, 0, 0, 0], DEFAULT_PORT)))]
    pub listen: SocketAddr,
    /// A DNS name or IP address under which the hub is reached, as often as there are names; the
    /// first one is where the operator's commands go. [default: localhost, the loopback addresses
    /// and the host's name]
    #[arg(long = "server-name", value_name = "NAME")]
    pub server_names: Vec<String>,
}

impl Cli {
    /// Reads the arguments of a process, its name first.
    ///
    /// # Errors
    /// Clap's, for help and version too.
    pub fn read(arguments: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        Self::try_parse_from(arguments)
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn read(arguments: &[&str]) -> Result<Cli, clap::Error> {
        Cli::read(arguments.iter().map(OsString::from))
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn names_are_checked_where_they_are_read() {
        let good = ["hub", "init", "--data-dir", "d", "--org", "my.org"];
        assert!(read(&good).is_ok());
        for bad in [
            ["hub", "init", "--data-dir", "d", "--org", "../x"],
            ["hub", "init", "--data-dir", "d", "--trust-domain", "A/b"],
            ["hub", "init", "--data-dir", "d", "--listen", "nowhere"],
        ] {
            let error = read(&bad).unwrap_err().to_string();
            assert!(error.contains(bad[5]), "{error}");
        }
    }
}
