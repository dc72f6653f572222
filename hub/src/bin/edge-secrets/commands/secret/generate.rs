//! `edge-secrets secret generate` and `rotate`: values that are made here and seen nowhere.

use edge_secrets_hub::generator::{
    Charset, Generator, PRIVATE_FIELD, PUBLIC_FIELD, PasswordPolicy, PasswordSpec,
};
use edge_secrets_hub::metadata::MetaChange;
use edge_secrets_hub::reference::SecretRef;
use edge_secrets_hub::wire::{SecretInfo, paths};
use edge_secrets_protocol::secret::VALUE_FIELD;
use edge_secrets_protocol::{Fields, Secret};

use super::{Session, Value, metadata, route};
use crate::cli::GenerateArgs;
use crate::error::Error;

mod keys;
mod password;

pub(super) async fn run(args: GenerateArgs, session: &mut Session<'_>) -> Result<(), Error> {
    let generator = generator(&args)?;
    let value = Value {
        meta: metadata::change(&args.meta, session.ui.now())?,
        payload: make(&generator)?,
        generator: Some(generator),
    };
    value.send(&args.name, None, session).await
}

/// Makes the next value as the last one was made. What somebody else sets meanwhile stays.
pub(super) async fn rotate(name: &SecretRef, session: &mut Session<'_>) -> Result<(), Error> {
    let target = route(paths::SECRET, name, session);
    let secret: SecretInfo = session.client.get(target).await?;
    let Some(generator) = secret.generator else {
        return Err(Error::Failed(format!(
            "the value of {name} was not generated, or is not yours to see, so there is nothing to \
             make the next one by: use `edge-secrets secret generate {name}`, or set it"
        )));
    };
    let value = Value {
        meta: MetaChange::default(),
        payload: make(&generator)?,
        generator: Some(generator),
    };
    value.send(name, Some(&secret.version), session).await
}

/// How the options say that it is made.
///
/// # Errors
/// When no password can be as they say.
fn generator(args: &GenerateArgs) -> Result<Generator, Error> {
    if let Some(algorithm) = args.key_pair {
        return Ok(Generator::KeyPair { algorithm });
    }
    let field = match &args.field {
        Some(field) => field.clone(),
        None => field(VALUE_FIELD)?,
    };
    let spec = PasswordSpec {
        field,
        length: args.length.unwrap_or(DEFAULT_LENGTH),
        charset: args.charset.unwrap_or(Charset::Alnum),
        exclude: args.exclude.clone().unwrap_or_default(),
        min_upper: args.min_upper.unwrap_or(0),
        min_lower: args.min_lower.unwrap_or(0),
        min_digits: args.min_digits.unwrap_or(0),
        min_symbols: args.min_symbols.unwrap_or(0),
    };
    PasswordPolicy::try_from(spec)
        .map(Generator::Password)
        .map_err(|error| Error::Usage(error.to_string()))
}

fn make(generator: &Generator) -> Result<Secret, Error> {
    let encoded = match generator {
        Generator::Password(policy) => {
            let password = password::make(policy, |bytes| getrandom::fill(bytes).is_ok());
            let password = password.ok_or_else(no_randomness)?;
            Fields::encode(&[(policy.field().clone(), password.expose())])
        }
        Generator::KeyPair { algorithm } => {
            let pair = keys::make(*algorithm).ok_or_else(no_randomness)?;
            Fields::encode(&[
                (field(PRIVATE_FIELD)?, pair.private.as_slice()),
                (field(PUBLIC_FIELD)?, pair.public.as_slice()),
            ])
        }
    };
    encoded.map_err(|error| Error::Failed(error.to_string()))
}

fn field(name: &str) -> Result<edge_secrets_protocol::FieldName, Error> {
    name.parse()
        .map_err(|error| Error::Failed(format!("{error}")))
}

fn no_randomness() -> Error {
    Error::Failed("no value can be made: the system gives no random bytes".to_owned())
}

const DEFAULT_LENGTH: usize = 32;

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command, SecretCommand};

    fn generated(options: &str) -> Result<Generator, Error> {
        let line = format!("edge-secrets secret generate db {options}");
        let cli = Cli::try_parse_from(line.split_whitespace()).unwrap();
        let Command::Secret(SecretCommand::Generate(args)) = cli.command else {
            panic!("{cli:?}");
        };
        generator(&args)
    }

    #[test]
    fn a_password_goes_into_its_field() {
        let payload = make(&generated("").unwrap()).unwrap();
        let fields = Fields::decode(payload.expose()).unwrap();
        let value = fields.expose_value().unwrap();
        assert_eq!(value.len(), 32);
        assert!(value.iter().all(u8::is_ascii_alphanumeric));
        let pin = generated("--field pin --length 6 --charset digits").unwrap();
        let payload = make(&pin).unwrap();
        let fields = Fields::decode(payload.expose()).unwrap();
        assert_eq!(fields.names().collect::<Vec<_>>(), ["pin"]);
        assert_eq!(fields.expose_value().unwrap().len(), 6);
    }

    #[test]
    fn a_key_pair_is_two_fields() {
        let payload = make(&generated("--key-pair ed25519").unwrap()).unwrap();
        let fields = Fields::decode(payload.expose()).unwrap();
        assert_eq!(fields.names().collect::<Vec<_>>(), ["private", "public"]);
    }

    #[test]
    fn contradictions_are_told() {
        for (options, reason) in [
            ("--length 0", "1 to 4096"),
            (
                "--length 8 --min-upper 5 --min-digits 4",
                "above the length of 8",
            ),
            (
                "--charset digits --exclude 0123456789",
                "nothing is left of digits",
            ),
            ("--charset hex --min-symbols 1", "no symbol"),
            ("--exclude \u{e4}", "visible ASCII"),
        ] {
            let refused = generated(options).unwrap_err();
            assert_eq!(refused.exit_code(), 64);
            assert!(refused.to_string().contains(reason), "{options}: {refused}");
        }
        generated("--charset ascii --exclude -\"' --min-symbols 2").unwrap();
    }
}
