//! Paths and queries of requests, from templates and untrusted parts.

/// A path with its query, percent-encoded (RFC 3986).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    text: String,
    has_query: bool,
}

/// The route `template` with its placeholders filled in, in their order. What fills `{name}` is one
/// segment; what fills `{*name}` keeps its slashes.
pub fn at(template: &str, segments: &[&str]) -> Route {
    let mut text = String::with_capacity(template.len() + 64);
    let mut segments = segments.iter();
    let mut rest = template;
    while let Some((before, placeholder)) = rest.split_once('{') {
        text.push_str(before);
        let (name, after) = placeholder.split_once('}').unwrap_or((placeholder, ""));
        let segment = segments.next();
        debug_assert!(segment.is_some(), "{template} has more placeholders");
        let keep: &[u8] = if name.starts_with('*') { b"/" } else { b"" };
        encode(segment.copied().unwrap_or_default(), keep, &mut text);
        rest = after;
    }
    debug_assert!(
        segments.next().is_none(),
        "{template} has fewer placeholders"
    );
    text.push_str(rest);
    Route {
        text,
        has_query: false,
    }
}

impl Route {
    /// Adds a query parameter.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl ToString) -> Self {
        self.text.push(if self.has_query { '&' } else { '?' });
        self.has_query = true;
        self.text.push_str(name);
        self.text.push('=');
        encode(&value.to_string(), b"", &mut self.text);
        self
    }

    /// Adds a query parameter that may be absent.
    #[must_use]
    pub fn with_some(self, name: &str, value: Option<impl ToString>) -> Self {
        match value {
            Some(value) => self.with(name, value),
            None => self,
        }
    }

    /// All of it.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The path alone.
    pub fn path(&self) -> &str {
        self.text.split('?').next().unwrap_or_default()
    }
}

/// Everything but RFC 3986's unreserved characters, and what `keep` names, becomes `%XX`.
fn encode(text: &str, keep: &[u8], into: &mut String) {
    for byte in text.bytes() {
        let plain = byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
        if plain || keep.contains(&byte) {
            into.push(char::from(byte));
        } else {
            into.push_str(&format!("%{byte:02X}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_reference_keeps_its_slashes_and_a_segment_does_not() {
        assert_eq!(
            at(
                "/v1/orgs/{org}/secrets/{*reference}",
                &["my@org", "vault:user/alice/tls"]
            )
            .as_str(),
            "/v1/orgs/my%40org/secrets/vault%3Auser/alice/tls"
        );
        assert_eq!(
            at("/v1/orgs/{org}/policies/{policy}", &["o", "a/b"])
                .with("dry_run", true)
                .as_str(),
            "/v1/orgs/o/policies/a%2Fb?dry_run=true"
        );
        assert_eq!(at("/v1/hub", &[]).as_str(), "/v1/hub");
    }

    #[test]
    fn queries_are_encoded() {
        let target = at("/v1/orgs/{org}/service", &["o"])
            .with("url", "https://example.com/a?b&c=d")
            .with_some("version", Some("1.0.0"))
            .with_some("arch", None::<String>);
        assert_eq!(
            target.as_str(),
            "/v1/orgs/o/service?url=https%3A%2F%2Fexample.com%2Fa%3Fb%26c%3Dd&version=1.0.0"
        );
        assert_eq!(target.path(), "/v1/orgs/o/service");
    }

    proptest! {
        #[test]
        fn any_text_stays_in_its_place(org in "\\PC{1,20}", query in "\\PC{0,20}") {
            let target = at("/v1/orgs/{org}/secrets", &[&org]).with("prefix", &query);
            let uri: http::Uri = target.as_str().parse().unwrap();
            prop_assert_eq!(uri.path().split('/').count(), 5);
            prop_assert_eq!(uri.query().unwrap().split(['&', '=']).count(), 2);
        }
    }
}
