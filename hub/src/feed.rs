//! Who watches, and the news for them.

/// The watching nodes of this process.
pub struct Feed {}
