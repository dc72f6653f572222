//! `edge-secrets secret …` as it is typed.

use clap::{Args, Subcommand};
use edge_secrets_protocol::{FieldName, SecretVersion};

use super::managers::{CREATE_EXAMPLES, CreateArgs};
use crate::generator::{Charset, KeyAlgorithm};
use crate::metadata::{Description, Label, MaxVersions, RotateEvery};
use crate::operator::times::{Until, parse_duration};
use crate::reference::SecretRef;

/// `edge-secrets secret …`
#[derive(Debug, Subcommand)]
pub enum SecretCommand {
    /// Set a secret's value, or one value per field; every set makes a new version
    #[command(after_help = SET_EXAMPLES)]
    Set(SetArgs),
    /// Make a random value or a new key pair, and set it; it is shown nowhere
    #[command(after_help = GENERATE_EXAMPLES)]
    Generate(GenerateArgs),
    /// Make a new value as the last one was generated, and set it
    #[command(after_help = ROTATE_EXAMPLES)]
    Rotate {
        /// The secret's reference
        name: SecretRef,
    },
    /// Make a secret whose values its manager makes, such as IAM credentials of IBM Cloud
    #[command(after_help = CREATE_EXAMPLES)]
    Create(CreateArgs),
    /// Change what is known of a secret, and not its value
    #[command(after_help = EDIT_EXAMPLES)]
    Edit {
        /// The secret's reference
        name: SecretRef,
        /// What changes.
        #[command(flatten)]
        meta: MetaArgs,
    },
    /// List secrets, without their values
    #[command(after_help = LIST_EXAMPLES)]
    List {
        /// Only references that start with this
        prefix: Option<String>,
        /// Only secrets with this label; given again, with all of them
        #[arg(long = "label", value_name = "L")]
        labels: Vec<Label>,
        /// Only secrets that have this text, in all folders below; as the manager searches: IBM Cloud
        /// and Secret Server can
        #[arg(long, value_name = "TEXT")]
        search: Option<String>,
        /// Only secrets to look after: rotation due, expired, or expiring within 7 days
        #[arg(long)]
        due: bool,
    },
    /// Show a secret's version and fields, and with --reveal its value
    #[command(after_help = SHOW_EXAMPLES)]
    Show {
        /// The secret's reference
        name: SecretRef,
        /// Fetch the value and write it to standard output; the hub keeps a record of it
        #[arg(long)]
        reveal: bool,
        /// This version, instead of the one that is delivered
        #[arg(long, value_name = "V")]
        version: Option<SecretVersion>,
    },
    /// List a secret's versions, newest first
    Versions {
        /// The secret's reference
        name: SecretRef,
    },
    /// Make an old version's value the newest version
    Restore {
        /// The secret's reference
        name: SecretRef,
        /// The version whose value comes back
        #[arg(long, value_name = "V")]
        version: SecretVersion,
    },
    /// Remove a secret with all its versions
    Rm {
        /// The secret's reference
        name: SecretRef,
    },
}

/// Where a new value comes from.
#[derive(Debug, Args)]
pub struct SetArgs {
    /// The secret's reference: NAME, user/USER/NAME, node/NODE/NAME, MANAGER:PATH
    pub name: SecretRef,
    /// Read the value from a file, or from standard input with `-`; the bytes are taken as they
    /// are, a line end included
    #[arg(long, value_name = "F", conflicts_with_all = ["field_files", "from_file"])]
    pub value_file: Option<String>,
    /// Read one field from a file (`K=F`, or `K=-` for standard input); can be given again
    #[arg(long = "field-file", value_name = "K=F", conflicts_with = "from_file")]
    pub field_files: Vec<String>,
    /// Read all fields from a file that holds a JSON object of strings, such as
    /// {"key": "…", "value": "…"}
    #[arg(long, value_name = "F")]
    pub from_file: Option<String>,
    /// Leave out one line end at the end of every value that is read from a file
    #[arg(long, conflicts_with = "from_file")]
    pub strip_newline: bool,
    /// What changes with it.
    #[command(flatten)]
    pub meta: MetaArgs,
    /// Catches values on the command line, so that they are refused without being repeated.
    #[arg(hide = true, allow_hyphen_values = false)]
    pub stray: Vec<String>,
}

/// How a new value is made.
#[derive(Debug, Args)]
pub struct GenerateArgs {
    /// The secret's reference: NAME, user/USER/NAME, node/NODE/NAME
    pub name: SecretRef,
    /// How many characters: 1 to 4096 [default: 32]
    #[arg(long, value_name = "N")]
    pub length: Option<usize>,
    /// Which characters [default: alnum]
    #[arg(long, value_enum, value_name = "SET")]
    pub charset: Option<Charset>,
    /// But none of these
    #[arg(long, value_name = "CHARS", allow_hyphen_values = true)]
    pub exclude: Option<String>,
    /// At least so many upper-case letters
    #[arg(long, value_name = "N")]
    pub min_upper: Option<usize>,
    /// At least so many lower-case letters
    #[arg(long, value_name = "N")]
    pub min_lower: Option<usize>,
    /// At least so many digits
    #[arg(long, value_name = "N")]
    pub min_digits: Option<usize>,
    /// At least so many symbols
    #[arg(long, value_name = "N")]
    pub min_symbols: Option<usize>,
    /// The field that gets the value [default: value]
    #[arg(long, value_name = "K")]
    pub field: Option<FieldName>,
    /// A key pair instead: the fields `private` (PKCS#8) and `public` (SPKI), both PEM
    #[arg(
        long,
        value_enum,
        value_name = "ALGORITHM",
        conflicts_with_all = [
            "length", "charset", "exclude", "min_upper", "min_lower", "min_digits", "min_symbols",
            "field",
        ]
    )]
    pub key_pair: Option<KeyAlgorithm>,
    /// What changes with it.
    #[command(flatten)]
    pub meta: MetaArgs,
}

/// What is known of a secret beside its value; what is not given stays as it is.
#[derive(Debug, Args)]
#[command(next_help_heading = METADATA)]
pub struct MetaArgs {
    /// A label, 2 to 64 characters; given again, all the labels from now on, at most 30
    #[arg(long = "label", value_name = "L")]
    pub labels: Vec<Label>,
    /// Take all labels away
    #[arg(long, conflicts_with = "labels")]
    pub no_labels: bool,
    /// A description, at most 1024 characters; "" for none
    #[arg(long, value_name = "T")]
    pub description: Option<Description>,
    /// When no node gets it any more: from now (30d), at a time (RFC 3339), or `never`
    #[arg(long, value_name = "T|never", value_parser = expires)]
    pub expires: Option<Setting<Until>>,
    /// How many versions are kept, 1 to 1000, or `unlimited`; a new version removes the oldest
    #[arg(long, value_name = "N|unlimited", value_parser = max_versions)]
    pub max_versions: Option<Setting<MaxVersions>>,
    /// How old a value becomes before you are reminded to rotate it (90d), or `never`
    #[arg(long, value_name = "T|never", value_parser = rotate_every)]
    pub rotate_every: Option<Setting<RotateEvery>>,
}

/// An option whose value can be taken away again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Setting<T> {
    /// This.
    To(T),
    /// Nothing.
    Nothing,
}

impl<T> From<Setting<T>> for Option<T> {
    fn from(setting: Setting<T>) -> Self {
        match setting {
            Setting::To(value) => Some(value),
            Setting::Nothing => None,
        }
    }
}

fn expires(text: &str) -> Result<Setting<Until>, String> {
    setting(text, "never", Until::parse)
}

fn max_versions(text: &str) -> Result<Setting<MaxVersions>, String> {
    setting(text, "unlimited", |text| {
        text.parse()
            .map_err(|error: crate::metadata::MetaError| error.to_string())
    })
}

fn rotate_every(text: &str) -> Result<Setting<RotateEvery>, String> {
    setting(text, "never", |text| {
        let every = parse_duration(text)?;
        RotateEvery::try_from(every).map_err(|error| error.to_string())
    })
}

fn setting<T>(
    text: &str,
    nothing: &str,
    parse: impl FnOnce(&str) -> Result<T, String>,
) -> Result<Setting<T>, String> {
    if text == nothing {
        return Ok(Setting::Nothing);
    }
    parse(text).map(Setting::To)
}

const METADATA: &str = "What is known of it";
const SET_EXAMPLES: &str = "\
A value never stands on the command line, where other processes and the shell's history would see
it. Without an option it is asked for at the terminal, without echo. What is sent is sealed to the
hub before it leaves this process.

Examples:
  edge-secrets secret set db-password
  edge-secrets secret set db-password --value-file - --strip-newline < password.txt
  edge-secrets secret set user/alice/tls --field-file cert=tls.crt --field-file key=tls.key
  edge-secrets secret set cloudServiceXYZSecret --from-file cred.json
  edge-secrets secret set db-password --value-file pw --label prod --expires 30d --max-versions 10";
const GENERATE_EXAMPLES: &str = "\
The value is made in this process and sealed to the hub before it leaves it. How it was made is
remembered with the secret, so that `edge-secrets secret rotate` can make the next one.

Examples:
  edge-secrets secret generate db-password
  edge-secrets secret generate db-password --length 20 --charset ascii --exclude \"'\\\"\" --min-digits 2
  edge-secrets secret generate pin --length 6 --charset digits --field pin --rotate-every 90d
  edge-secrets secret generate signing-key --key-pair ed25519 --label prod";
const ROTATE_EXAMPLES: &str = "\
It needs a secret whose value was generated; a value that was set by hand is rotated by setting
another. If somebody else sets it meanwhile, nothing is changed.

Examples:
  edge-secrets secret rotate db-password
  edge-secrets secret list --due";
const EDIT_EXAMPLES: &str = "\
What is not given stays as it is. The value and its version stay as well.

Examples:
  edge-secrets secret edit db-password --label prod --label team/payments
  edge-secrets secret edit db-password --description \"the read replica\" --rotate-every 90d
  edge-secrets secret edit db-password --expires 2026-12-31T00:00:00Z
  edge-secrets secret edit db-password --expires never --max-versions unlimited --no-labels";
const LIST_EXAMPLES: &str = "\
Examples:
  edge-secrets secret list
  edge-secrets secret list user/alice/
  edge-secrets secret list --label prod --label team/payments
  edge-secrets secret list pim:BU044/ --search uplink
  edge-secrets secret list --due -o json";
const SHOW_EXAMPLES: &str = "\
Without --reveal the value is not fetched at all. With it, a pipe gets the raw bytes where the
secret is one field `value`, and a JSON object of its fields otherwise; a terminal gets a line per
field. In JSON and YAML, a field that is not UTF-8 stands as {\"base64\": \"…\"}.

Examples:
  edge-secrets secret show db-password
  edge-secrets secret show db-password --reveal > password.txt
  edge-secrets secret show user/alice/tls --reveal --version 3 -o json";
