//! `edge-secrets secretsmanager …`, typed as `hzn secretsmanager …` is, so that scripts go on working.

use std::ffi::OsString;
use std::fmt;
use std::os::unix::ffi::OsStringExt;
use std::sync::Arc;

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{Args, Subcommand};
use edge_secrets_protocol::Secret;

use super::{Format, GLOBAL};

/// `edge-secrets secretsmanager …`
#[derive(Debug, Args)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub struct SecretsManagerArgs {
    /// How results are written; what Open Horizon writes as JSON is JSON without it
    // In the place of the global option of that name: `-o` is the organisation here.
    #[arg(long, global = true, value_enum, value_name = "FORMAT", help_heading = GLOBAL)]
    pub output: Option<Format>,
    /// The organisation [default: $HZN_ORG_ID, else the context's]
    #[arg(short, long, global = true, value_name = "ORG", help_heading = THEIRS)]
    pub org: Option<String>,
    /// Taken for scripts' sake: who you are is the context's certificate. A user other than the
    /// context's is refused, and the password is not used: leave it out
    #[arg(short, long, global = true, value_name = "USER[:PW]", help_heading = THEIRS,
          value_parser = user())]
    pub user_pw: Option<Named>,
    /// Has no effect
    #[arg(short, long, global = true, hide = true)]
    pub verbose: bool,
    /// What to do.
    #[command(subcommand)]
    pub command: SecretsManagerCommand,
}

/// What `hzn secretsmanager` has.
#[derive(Debug, Subcommand)]
pub enum SecretsManagerCommand {
    /// Add, list, read and remove secrets
    #[command(subcommand)]
    Secret(TheirSecretCommand),
}

/// `edge-secrets secretsmanager secret …`
#[derive(Debug, Subcommand)]
pub enum TheirSecretCommand {
    /// Add a secret, or give it another value
    #[command(after_help = ADD_EXAMPLES)]
    Add(AddArgs),
    /// List the names of secrets, or say whether one exists (exit code 1 where not)
    #[command(visible_alias = "ls")]
    List {
        /// This secret, or all of user/USER, node/NODE, user/USER/node/NODE [default: the
        /// organisation's]
        name: Option<String>,
        /// All secrets of the organisation that you may know of, those of nodes and users as well
        #[arg(short = 'a', long = "listAll")]
        all: bool,
        /// Which node's.
        #[command(flatten)]
        node: NodeArg,
    },
    /// Show a secret's key and value; the hub keeps a record of it
    Read {
        /// The secret's name in the secrets manager
        name: String,
        /// Which node's.
        #[command(flatten)]
        node: NodeArg,
    },
    /// Remove a secret with all its versions
    #[command(visible_alias = "rm")]
    Remove {
        /// The secret's name in the secrets manager
        name: String,
        /// Do not ask
        #[arg(short, long)]
        force: bool,
        /// Which node's.
        #[command(flatten)]
        node: NodeArg,
    },
}

/// For one node alone.
#[derive(Debug, Args)]
pub struct NodeArg {
    /// The node that the secret is for, where it is for one alone
    #[arg(short = 'n', long = "nodeId", value_name = "NODE")]
    pub node: Option<String>,
}

/// `edge-secrets secretsmanager secret add …`
#[derive(Debug, Args)]
pub struct AddArgs {
    /// The secret's name in the secrets manager: NAME, user/USER/NAME, node/NODE/NAME
    pub name: String,
    /// The key that goes with the value; by custom its kind, such as basicauth
    #[arg(long = "secretKey", value_name = "KEY")]
    pub key: String,
    /// The value. Other processes and the shell's history see it here: use -f instead
    #[arg(short = 'd', long = "secretDetail", value_name = "VALUE", allow_hyphen_values = true,
          value_parser = on_argv())]
    pub detail: Option<OnCommandLine>,
    /// Read the value from a file, or from standard input with `-`; the bytes are taken as they are,
    /// a line end included
    #[arg(short = 'f', long = "secretFile", value_name = "FILE")]
    pub file: Option<String>,
    /// Replace a value that is there without asking
    #[arg(short = 'O', long)]
    pub overwrite: bool,
    /// Which node's.
    #[command(flatten)]
    pub node: NodeArg,
    /// Catches the rest of a value without quotes, so that it is refused without being repeated.
    #[arg(hide = true, allow_hyphen_values = false)]
    pub stray: Vec<String>,
}

/// A value that stood on the command line. Wiped when the last copy goes; the command line itself
/// cannot be.
#[derive(Clone)]
pub struct OnCommandLine(Arc<Secret>);

impl OnCommandLine {
    /// The value.
    #[must_use]
    pub fn value(&self) -> &Secret {
        &self.0
    }
}

impl fmt::Debug for OnCommandLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OnCommandLine")
    }
}

/// Who `-u` or `HZN_EXCHANGE_USER_AUTH` names. What stood behind the colon is not kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// The user, without an organisation in front.
    pub user: String,
    /// There was a password as well.
    pub with_password: bool,
}

impl Named {
    /// Reads `[ORG/]USER[:PASSWORD]`.
    #[must_use]
    pub fn read(text: &str) -> Self {
        let (name, password) = match text.split_once(':') {
            Some((name, password)) => (name, !password.is_empty()),
            None => (text, false),
        };
        let user = name.split_once('/').map_or(name, |(_, user)| user);
        Self {
            user: user.to_owned(),
            with_password: password,
        }
    }
}

/// Never refuses: a refusal would show the text.
fn user() -> impl TypedValueParser<Value = Named> {
    OsStringValueParser::new().map(|text: OsString| Named::read(&text.to_string_lossy()))
}

fn on_argv() -> impl TypedValueParser<Value = OnCommandLine> {
    OsStringValueParser::new()
        .map(|text: OsString| OnCommandLine(Arc::new(Secret::new(text.into_vec()))))
}

const THEIRS: &str = "Options of hzn";
pub(super) const SECRETS_MANAGER_EXAMPLES: &str = "\
The commands, options, results and words of `hzn secretsmanager`. Who you are is the context's
certificate, as with all commands: name another context with --context.

Examples:
  edge-secrets sm secret add --secretKey basicauth -f credential.txt cloudServiceXYZSecret
  edge-secrets sm secret list
  edge-secrets sm secret read -n edge-01 cloudServiceXYZSecret
  edge-secrets sm secret remove -f cloudServiceXYZSecret";
const ADD_EXAMPLES: &str = "\
Without -f and -d the value is asked for at the terminal, without echo.

Examples:
  edge-secrets sm secret add --secretKey basicauth -f credential.txt cloudServiceXYZSecret
  printf %s \"$PASSWORD\" | edge-secrets sm secret add --secretKey password -O -f- db-password
  edge-secrets sm secret add --secretKey tls -f tls.pem -n edge-01 user/alice/tls";

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::operator::cli::{Cli, Command};

    fn parse(line: &str) -> SecretsManagerArgs {
        let words = ["edge-secrets"].into_iter().chain(line.split(' '));
        match Cli::try_parse_from(words).unwrap().command {
            Command::SecretsManager(args) => args,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn lines_of_hzn_are_understood_wherever_their_options_stand() {
        for line in [
            "secretsmanager secret add -o myorg -u alice:pw --secretKey k -f- -n n1 -O db",
            "sm secret add db --secretKey k -f - -n n1 -O -o myorg -u alice:pw",
            "sm -o myorg -u alice:pw secret add --secretKey=k --secretFile=- --nodeId=n1 --overwrite db",
            "sm -v secret -o myorg --user-pw myorg/alice:pw add --secretKey k -f- --nodeId n1 -O db",
        ] {
            let args = parse(line);
            assert_eq!(args.org.as_deref(), Some("myorg"), "{line}");
            assert_eq!(args.user_pw.unwrap(), Named::read("alice:pw"), "{line}");
            let SecretsManagerCommand::Secret(TheirSecretCommand::Add(add)) = args.command else {
                panic!("{line}");
            };
            assert_eq!(
                (add.name.as_str(), add.key.as_str(), add.file.as_deref()),
                ("db", "k", Some("-")),
                "{line}"
            );
            assert_eq!(add.node.node.as_deref(), Some("n1"), "{line}");
            assert!(add.overwrite && add.detail.is_none(), "{line}");
        }
    }

    #[test]
    fn the_format_keeps_its_long_name_alone() {
        let args = parse("sm secret ls -a --output yaml -o json");
        assert_eq!(args.output, Some(Format::Yaml));
        assert_eq!(args.org.as_deref(), Some("json"));
        let words = [
            "edge-secrets",
            "sm",
            "secret",
            "rm",
            "-f",
            "x",
            "--output",
            "yaml",
        ];
        assert_eq!(
            Cli::try_parse_from(words).unwrap().output,
            Some(Format::Yaml)
        );
    }

    #[test]
    fn what_stood_on_the_command_line_is_never_repeated() {
        let words = ["edge-secrets", "sm", "secret", "add", "--secretKey", "k"];
        let line = |rest: &[&str]| Cli::try_parse_from(words.iter().chain(rest));
        let kept = line(&["-d", "-canary", "-u", "alice:canary", "db"]).unwrap();
        assert!(!format!("{kept:?}").contains("canary"), "{kept:?}");
        let stray = line(&["-d", "pass", "db", "canary"]).unwrap();
        assert!(matches!(stray.command, Command::SecretsManager(_)));
        let wrong = line(&["-d", "canary", "-d", "canary", "db"]).unwrap_err();
        assert!(!wrong.to_string().contains("canary"), "{wrong}");
    }

    #[test]
    fn users_are_named_without_organisation_and_password() {
        for (text, user, with_password) in [
            ("alice:pw:d", "alice", true),
            ("myorg/alice:pw", "alice", true),
            ("alice", "alice", false),
            ("alice:", "alice", false),
            (":", "", false),
        ] {
            let user = user.to_owned();
            assert_eq!(
                Named::read(text),
                Named {
                    user,
                    with_password
                }
            );
        }
    }
}
