//! Profiles as foreign bytes: see [`crate::fuzzing`].

use std::path::Path;

use super::check::Parsed;

/// A file of `services.d`, whose templates are made of what it says itself.
pub fn profile(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Ok(parsed) = Parsed::new(&text) {
        parsed.sources();
        let read = |source: &str| Ok(format!("{{{{ a.value }}}} {source}"));
        parsed.check(Path::new("x.yaml"), &text, read).ok();
    }
}
