//! What people read.

use std::time::Duration;

/// One step, in plain words.
pub(crate) fn say(text: &str) {
    println!("\n{text}");
}

/// A command as it could be typed.
pub(crate) fn command(text: &str) {
    println!("  $ {text}");
}

/// What came of it.
pub(crate) fn result(text: &str) {
    for line in text.lines() {
        println!("    {line}");
    }
}

/// A time as people read it.
pub(crate) fn time(duration: Duration) -> String {
    format!("{:.2} ms", duration.as_secs_f64() * 1000.0)
}
