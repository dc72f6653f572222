//! `enroll`: a token for an identity.

use std::fs::File;
use std::io::{self, Read};

use edge_secrets_protocol::Token;
use zeroize::Zeroizing;

use super::{EnrollArgs, Exit, Failure, TokenSource, say};
use crate::app;
use crate::config::Config;
use crate::identity::{Custody, CustodyError, EnrolError, Store, enrol};

pub(super) async fn run(config: &Config, args: EnrollArgs) -> Result<(), Failure> {
    let token = read(args.token)?;
    let facts = app::gather_facts(config, Vec::new())?;
    let wanted = config.identity.sealing_key;
    let credentials = Custody::credentials();
    let custody = match Custody::of(wanted, credentials.as_deref()) {
        Ok(custody) => custody,
        // It is the unit's; a command that somebody types has none.
        Err(CustodyError::Absent) => Custody::default(),
        Err(error) => return Err(Failure::new(Exit::Usage, error)),
    };
    let store = Store::new(&config.state_dir).with_custody(custody);
    let identity = enrol(config, &store, token, facts, args.force).await?;
    say(format_args!(
        "Enrolled as {}/{}; the certificate is good until {} and renews itself.",
        identity.org, identity.node, identity.validity.not_after
    ))?;
    if identity.custody == wanted {
        return Ok(());
    }
    say(
        "The sealing key is a plain file until the agent has reached the hub: then it gets another \
         one, encrypted under its unit's credential, before any value.",
    )
}

fn read(source: TokenSource) -> Result<Token, Failure> {
    let text = match (source.token, source.token_file) {
        (Some(token), _) if token != "-" => Zeroizing::new(token),
        (_, Some(path)) => File::open(&path)
            .and_then(bounded)
            .map_err(|e| Failure::new(Exit::Usage, format_args!("{}: {e}", path.display())))?,
        _ => bounded(io::stdin())
            .map_err(|e| Failure::new(Exit::Usage, format_args!("standard input: {e}")))?,
    };
    text.trim()
        .parse()
        .map_err(|error| Failure::new(Exit::Usage, error))
}

fn bounded(source: impl Read) -> io::Result<Zeroizing<String>> {
    // The whole room at once: a growing text would leave copies behind.
    let mut text = Zeroizing::new(String::with_capacity(MAX_TOKEN));
    source.take(MAX_TOKEN as u64).read_to_string(&mut text)?;
    Ok(text)
}

impl From<EnrolError> for Failure {
    fn from(error: EnrolError) -> Self {
        let exit = match &error {
            EnrolError::Enrolled(_) => Exit::Usage,
            EnrolError::Refused(_) | EnrolError::OtherHub(_) => Exit::Denied,
            EnrolError::Hub(_) => Exit::Unavailable,
            EnrolError::Identity(_) | EnrolError::Key(_) | EnrolError::Answer(_) => Exit::Other,
        };
        Self::new(exit, error)
    }
}

const MAX_TOKEN: usize = 4096;
