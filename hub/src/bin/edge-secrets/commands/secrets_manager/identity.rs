//! Whose organisation and which user a line of `hzn` means, against those of the context.

use edge_secrets_hub::operator::cli::Named;
use edge_secrets_protocol::{OrgId, UserId};

use crate::error::Error;

/// What was settled.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Settled {
    /// The organisation that is meant; perhaps not the context's.
    pub(super) org: OrgId,
    /// What whoever wrote the line should know.
    pub(super) note: Option<&'static str>,
}

/// Settles what `-o` and `-u`, else the environment, say against the context.
///
/// # Errors
/// When another user is named than the context's: the line would be carried out as somebody else.
pub(super) fn settle(
    org: Option<&str>,
    user: Option<&Named>,
    env: impl Fn(&str) -> Option<String>,
    context: (&OrgId, &UserId),
) -> Result<Settled, Error> {
    let set = |name: &str| env(name).filter(|value| !value.is_empty());
    let org = match org.map(str::to_owned).filter(|org| !org.is_empty()) {
        Some(org) => Some(org),
        None => set("HZN_ORG_ID"),
    };
    let org = match org {
        Some(org) => org
            .parse()
            .map_err(|error: edge_secrets_protocol::NameError| Error::Usage(error.to_string()))?,
        None => context.0.clone(),
    };
    let from_env = set("HZN_EXCHANGE_USER_AUTH").map(|text| Named::read(&text));
    let Some(named) = user.or(from_env.as_ref()) else {
        return Ok(Settled { org, note: None });
    };
    if named.user != context.1.as_str() && named.user != API_KEY {
        return Err(Error::Worded {
            code: edge_secrets_protocol::Code::Denied,
            text: format!(
                "Failed to authenticate the user with the hub: the context's certificate is that of \
                 {}, and {} names {:?}. Name the context of that user with --context or \
                 EDGE_SECRETS_CONTEXT",
                context.1,
                match user {
                    Some(_) => "-u",
                    None => "HZN_EXCHANGE_USER_AUTH",
                },
                named.user,
            ),
        });
    }
    let note = (user.is_some() && named.with_password).then_some(NOT_USED);
    Ok(Settled { org, note })
}

/// Who logs in with a key of IBM Cloud: the name says nothing of who that is.
const API_KEY: &str = "iamapikey";
const NOT_USED: &str = "note: the password of -u is not used, and others can see it on the command \
                        line: leave it out. Who you are is the context's certificate";

#[cfg(test)]
mod tests {
    use super::*;

    fn settled(
        org: Option<&str>,
        user: Option<&str>,
        env: &[(&str, &str)],
    ) -> Result<Settled, Error> {
        let (home, alice) = ("myorg".parse().unwrap(), "alice".parse().unwrap());
        let env = |name: &str| {
            let found = env.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        settle(org, user.map(Named::read).as_ref(), env, (&home, &alice))
    }

    #[test]
    fn the_flag_comes_before_the_environment_and_that_before_the_context() {
        let org = |org, env: &[(&str, &str)]| settled(org, None, env).unwrap().org.to_string();
        let env = [("HZN_ORG_ID", "theirs")];
        assert_eq!(org(Some("other"), &env), "other");
        assert_eq!(org(Some(""), &env), "theirs");
        assert_eq!(org(None, &env), "theirs");
        assert_eq!(org(None, &[("HZN_ORG_ID", "")]), "myorg");
        assert_eq!(settled(Some("a/b"), None, &[]).unwrap_err().exit_code(), 64);
    }

    #[test]
    fn a_line_is_never_carried_out_as_another_user_than_it_names() {
        for (user, env) in [
            (Some("bob:pw"), ""),
            (Some("myorg/bob:pw"), "alice:pw"),
            (None, "bob:pw"),
            (Some(""), ""),
        ] {
            let refused = settled(None, user, &[("HZN_EXCHANGE_USER_AUTH", env)]).unwrap_err();
            assert_eq!(refused.exit_code(), 77, "{refused}");
            let text = refused.to_string();
            assert!(text.starts_with("Failed to authenticate"), "{text}");
            assert!(!text.contains("pw"), "{text}");
        }
    }

    #[test]
    fn a_password_on_the_command_line_is_remarked_upon() {
        let note = |user, env| {
            let env = [("HZN_EXCHANGE_USER_AUTH", env)];
            settled(None, user, &env).unwrap().note.is_some()
        };
        assert!(note(Some("alice:pw"), ""));
        assert!(note(Some("iamapikey:key"), ""));
        assert!(!note(Some("alice"), ""));
        assert!(!note(None, "alice:pw"));
        assert!(!note(None, ""));
    }
}
